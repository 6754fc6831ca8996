"""The embedded consistency judge: no model, only the ways in which English and simple Chinese texts conclude."""

import re

from r1reward.rewards.judges.opinion import Opinion


class RuleJudge:
    """Finds the conclusion of the reasoning and compares it with the choice.

    It knows the usual ways to conclude (see `conclusion`) and nothing of what the text says otherwise: an argument without
    such a sentence is "could not be told".
    """

    def __call__(self, reasonings: list[str], choices: list[int]) -> list[Opinion]:
        favoured = [conclusion(reasoning) for reasoning in reasonings]
        return [Opinion(None if f is None else float(f == choice)) for f, choice in zip(favoured, choices, strict=True)]

    def start(self, reasonings: list[str], choices: list[int]) -> None:
        """Nothing to begin with: reading takes microseconds."""

    def statistics(self) -> dict[str, int]:
        """Nothing to count."""
        return {}


def conclusion(reasoning: str) -> int | None:
    """The response, 1 or 2, that the text favours in the end; None if it does not say or takes no side.

    Statements are of three kinds; the first kind of which there is any decides:

        verdicts      Response 1 is better / wins; I choose response 1; the better one is response 1; Final answer: 1
        comparisons   Response 1 is more accurate / has fewer errors / is closer to the truth
        findings      Response 1 is correct / contradicts the image

    Of verdicts and comparisons the last counts. Findings must differ between the two: both right or both wrong is no side.
    "Not", "never", "less" and "I don't think" turn a statement round. "Both are right" and "neither fits" take no side, unless
    a statement follows. What is supposed ("if", "whether"), asked, seen "at first" or conceded ("although ...") is no
    statement. Time is linear in the length of the text.
    """
    verdicts: list[int | None] = []
    comparisons: list[int | None] = []
    findings: dict[int, bool] = {}
    is_undecided = False
    for clause in _clauses(reasoning):
        for found in _STATEMENT.finditer(clause):
            kind = found.lastgroup
            if kind == "no_side":
                is_undecided, comparisons = True, []
                verdicts = []
                continue
            number = int(next(part for name, part in found.groupdict().items() if part and name.startswith("number")))
            turned = len(_NEGATION.findall(found[0])) + bool(_DOUBTED.search(clause[: found.start()]))
            side = number if turned % 2 == 0 else 3 - number
            if re.search(r"\bno (?:better|worse|more|less)\b", found[0]):
                continue
            is_undecided = False if kind not in ("right", "wrong") else is_undecided
            if kind == "equal" and turned % 2 == 0:
                continue
            if kind in ("better", "chosen", "named", "final"):
                verdicts.append(side)
            elif kind in ("worse", "blamed"):
                verdicts.append(3 - side)
            elif kind in ("more", "equal"):  # "not as good as" is a negation of the number's own praise
                comparisons.append(side)
            elif kind == "less":
                comparisons.append(3 - side)
            else:
                findings[number] = (kind == "right") == (turned % 2 == 0)
    if verdicts or comparisons:
        return (verdicts or comparisons)[-1]
    if is_undecided or not findings or (len(findings) == 2 and findings[1] == findings[2]):
        return None
    number, is_right = next(iter(findings.items()))
    return number if is_right else 3 - number


# ---- From a text to clauses in which a response is called "response 1"

_NOUN = r"(?:response|answer|option|candidate|assistant|reply|output|model)"
_ORDINAL = {"first": "1", "second": "2", "former": "1", "latter": "2", "one": "1", "two": "2", "一": "1", "二": "2"}
_RESPELLED = [
    (re.compile(r"[*_`#]|^[ \t]*[|].*$", re.MULTILINE), " "),  # emphasis, headings, rows of tables
    (
        re.compile(r"(?:回答|回复|回应|答案|响应)\s*([12一二])|第\s*([12一二])\s*个?(?:回答|回复|回应|答案|响应)?"),
        r" response \1\2 ",
    ),
    (re.compile(r"更好|更优|较好|最好|更佳|更胜一筹|胜出"), " is better "),
    (re.compile(r"更(?:准确|正确|详细|清晰|全面|符合|贴近)"), " is more accurate "),
    (re.compile(r"更差|较差|更糟"), " is worse "),
    (re.compile(r"我?(?:选择|更喜欢|更倾向于?|倾向于?)"), " choose "),
    (re.compile(r"不正确|不准确|错误|有误"), " is wrong "),
    (re.compile(r"正确|准确"), " is correct "),
    (re.compile(r"最终答案(?:是|为)?|结论"), " final answer : "),
    (re.compile(r"不如"), " is worse than "),
    (re.compile(r"不"), " not "),
    (re.compile(r"[，、]"), ", "),
    (re.compile(r"[。；！]"), ". "),
    (re.compile(r"？"), "? "),
    (re.compile(r"："), ": "),
    (re.compile(rf"\bthe (first|second|former|latter)(?: (?:one|{_NOUN}))?\b"), r"response \1"),
    (re.compile(rf"\b{_NOUN} (one|two)\b|(?<!at )\b(first|second) {_NOUN}\b(?! ?[12])"), r"response \1\2"),
    (re.compile(rf"\b{_NOUN} ?[#(\[]? ?([12])\b[)\]]?(?:'s(?: {_NOUN})?)?"), r"response \1"),
]
_WRAPPED = re.compile(r"\n(?=[ \t]{0,20}(?:[a-z]|[0-9](?![0-9.)])))")  # a line that goes on
_NUMBERED = re.compile(r"\bresponse (first|second|former|latter|one|two|一|二)")
_FINAL = re.compile(
    r"\b(?:final (?:answer|verdict|choice|decision|judge?ment)|verdict|conclusion|decision|winner|better response)"
    r"(?: is)? ?[:\n]\s*(?:response )?(?P<number>[12])\b(?!\.\d)(?! is| -)"
)
_SENTENCE = re.compile(r"[^.;!?\n]*[.;!?\n]?")
_SUPPOSED = re.compile(
    r"\b(?:if|whether|suppose|assuming|unless|at first|initially|at first glance|might seem|may seem|would be)\b"
)
_CONCEDED = re.compile(r",? ?\b(?:although|though|even though|despite|in spite of|albeit|even if)\b[^,]*(?:,|$)")
_CLAUSE = re.compile(r"[,:()\"]|\b(?:but|however|whereas|while|because|since|yet|so|and(?= response [12]))\b")


def _clauses(reasoning: str) -> list[str]:
    text = re.sub(r"\n[\n]+", "\n", reasoning.replace("\u2019", "'"))
    text = _WRAPPED.sub(" ", text).lower()
    for pattern, replacement in _RESPELLED:
        text = pattern.sub(replacement, text)
    text = _NUMBERED.sub(lambda found: f"response {_ORDINAL[found[1]]}", text)
    text = re.sub(r"(response [12]) {0,4}: ", r"\1 is ", text)
    text = _FINAL.sub(r" finally response \g<number>. ", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " ", text)
    clauses = []
    for sentence in _SENTENCE.findall(text):
        if sentence.endswith("?") or not _CLUE.search(sentence) or _SUPPOSED.search(sentence):
            continue
        for clause in _CLAUSE.split(_CONCEDED.sub(" ", sentence)):
            clauses.append(" ".join(clause.split()))
    return clauses


_CLUE = re.compile(r"[12]\b|both\b|neither\b")

# ---- From a clause to statements

_NEGATION = re.compile(r"\b(?:not|never|hardly|cannot|isn't|wasn't|doesn't|don't|didn't|can't|wouldn't|aren't)\b")
_DOUBTED = re.compile(r"(?:n't|\bnot|\bnever|\bcannot|\bhardly)(?: \w+){0,3} ?$|\bdoubt(?: that)? ?$")
_BETTER = r"better|best|preferred|preferable|superior|stronger|winner|wins?|outperforms?|beats?|surpasses|excels|higher|the one"
_WORSE = r"worse|worst|inferior|weaker|loses?|lower"
_MORE = (
    r"more (?!errors|mistakes|hallucinat|wrong|inaccura)\w+|fewer (?:errors|mistakes|hallucinations|problems)|closer|clearer"
)
_LESS = r"(?:less|least) \w+|more (?:errors|mistakes|hallucinat\w+|wrong|inaccura\w+)"
_RIGHT = "right|correct(?:ly)?|accurate(?:ly)?|faithful(?:ly)?|good|true|fits?|match(?:es)?|agrees?|precise(?:ly)?|consistent"
_WRONG = (
    "wrong(?:ly)?|incorrect(?:ly)?|inaccurate(?:ly)?|mistaken|false(?:ly)?|bad|fails?|contradicts?|hallucinates?|disagrees?|"
    "misreads?|misses|misidentifies|errors?|mistakes?|invents?"
)
_BETWEEN = r"(?: (?!response [12]\b)[\w'-]{1,30}){0,6}?"
_ANY = f"{_BETTER}|{_WORSE}|{_RIGHT}|{_WRONG}"

# Each alternative is one way to say something; every repetition is bounded: linear time.
_STATEMENT = re.compile(
    rf"\b(?:both|neither)(?: of)?(?: the| these)?(?: {_NOUN}s?| them)?{_BETWEEN} (?P<no_side>{_ANY}|merits|perfect)\b"
    rf"|\bfinally response (?P<number_final>[12])\b(?P<final>)"
    rf"|\b(?:choose|chose|pick|select|prefer|favou?r|go with|going with|side with) (?:the )?"
    rf"response (?P<number_chosen>[12])\b(?P<chosen>)"
    rf"|\b(?:{_BETTER}|right|correct|choice|pick|verdict|answer|preference) (?:(?:one|choice|{_NOUN}) )?"
    rf"is (?:clearly |therefore |thus )?(?:not )?response (?P<number_named>[12])\b(?P<named>)"
    rf"|\b(?:{_WORSE}|{_WRONG}) (?:(?:one|choice|{_NOUN}) )?is (?:not )?response (?P<number_blamed>[12])\b(?P<blamed>)"
    rf"|\bresponse (?P<number>[12])\b{_BETWEEN} (?:"
    rf"(?P<equal>as \w+ as)|(?P<less>{_LESS})|(?P<worse>{_WORSE})|(?P<more>{_MORE})|(?P<better>{_BETTER})|"
    rf"(?P<wrong>{_WRONG})|(?P<right>{_RIGHT}))\b"
)
