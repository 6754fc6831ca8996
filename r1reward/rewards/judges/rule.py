"""The embedded consistency judge: no model, only the ways in which English and simple Chinese texts conclude."""

import re

from r1reward.rewards.judges.opinion import Opinion
from r1reward.rewards.spelling import ascii_signs

MAX_DENIAL = 60  # characters before a statement in which it may be denied


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
    "Not", "nobody", "less" and "I don't think" turn a statement round. "Both are right" and "neither fits" take no side, unless
    a statement follows. What is supposed ("if", "whether"), asked, seen "at first" or conceded ("although ...") is no
    statement. Time is linear in the length of the text.
    """
    verdicts: list[int] = []
    comparisons: list[int] = []
    findings: dict[int, bool] = {}
    is_undecided = False
    for clause in _clauses(reasoning):
        for found in _STATEMENT.finditer(clause):
            kind = found.lastgroup
            if kind == "no_side":
                is_undecided, verdicts, comparisons = True, [], []
                continue
            number = int(next(part for name, part in found.groupdict().items() if part and name.startswith("number")))
            before = clause[max(0, found.start() - MAX_DENIAL) : found.start()]
            is_turned = (len(_NEGATION.findall(found[0])) + len(_DOUBTED.findall(before))) % 2 == 1
            if re.search(r"\bno (?:better|worse|more|less)\b", found[0]):
                continue
            is_undecided = is_undecided and kind in ("right", "wrong")
            if kind == "equal" and not is_turned:  # "not as good as" is a negation of the number's own praise
                continue
            is_for = (kind in _PRAISE) != is_turned
            if kind in ("right", "wrong"):
                findings[number] = is_for
            else:
                (comparisons if kind in ("more", "less", "equal") else verdicts).append(number if is_for else 3 - number)
    if verdicts or comparisons:
        return (verdicts or comparisons)[-1]
    if is_undecided or not findings or (len(findings) == 2 and findings[1] == findings[2]):
        return None
    number, is_right = next(iter(findings.items()))
    return number if is_right else 3 - number


# ---- From a text to clauses in which a response is called "response 1"

_NOUN = r"(?:response|answer|option|candidate|assistant|reply|output|model)"
_ORDINAL = {"first": "1", "second": "2", "former": "1", "latter": "2", "one": "1", "two": "2", "一": "1", "二": "2"}
_FAULTS = r"(?:\w+ )?(?:errors?|mistakes?|hallucinations?|inaccurac(?:y|ies)|issues|problems|faults)"
_ENGLISH = {
    r"[*_`#]|^[ \t]*[|].*$": "",  # emphasis, headings, rows of tables
    r"(?:回答|回复|回应|答案|响应)\s*([12一二])|第\s*([12一二])\s*个?(?:回答|回复|回应|答案|响应)?": r"response \1\2",
    "更好|更优|较好|最好|更佳|更胜一筹|胜出": "is better",
    "更(?:准确|正确|详细|清晰|全面|符合|贴近)": "is more accurate",
    "更差|较差|更糟": "is worse",
    "我?(?:选择?|更喜欢|更倾向于?|倾向于?)": "choose",
    "不正确|不准确|错误|有误": "is wrong",
    "正确|准确": "is correct",
    "最终答案(?:是|为)?|结论": "final answer : ",
    "不如": "is worse than",
    "不": "not",
    "一样": "equally",
    "和|与": "and",
}
_RESPELLED = [(re.compile(pattern, re.MULTILINE), f" {english} ") for pattern, english in _ENGLISH.items()] + [
    (re.compile(rf"\bthe (first|second|former|latter)(?: (?:one|{_NOUN}))?\b"), r"response \1"),
    (re.compile(rf"\b{_NOUN} (one|two)\b|(?<!at )\b(first|second) (?:one|{_NOUN})\b(?! ?[12])"), r"response \1\2"),
    (re.compile(rf"\b{_NOUN}(?:-| ?[#(\[]? ?)([12])\b[)\]]?(?:'s(?: {_NOUN})?)?"), r"response \1"),
    (re.compile(r"\bresponse (first|second|former|latter|one|two|一|二)"), lambda found: f"response {_ORDINAL[found[1]]}"),
    (re.compile(rf"\bresponse ([12]) {{1,3}}and {{1,3}}response (?!\1)[12]\b|\b{_NOUN}s [12] and [12]\b"), "both"),
    (re.compile(r"\b(?:no|without(?: a| any)?) (?:doubt|question)(?: that)?\b"), ""),
    (re.compile(rf"\b(?:(?:has|have|contains?|makes?|shows?) )?(?:no|without(?: any)?|free of) {_FAULTS}\b"), "is correct"),
    (re.compile(rf"\b(?:has |have |contains? |makes? )?(?:fewer|less) {_FAULTS}\b"), "is more accurate"),
    (re.compile(r"\bnot (?:wrong|incorrect|inaccurate|mistaken)\b"), "correct"),
]
_WRAPPED = re.compile(r"\n(?=[ \t]{0,20}(?:[a-z]|[0-9](?![0-9.)])))")  # a line that goes on
_FINAL = re.compile(
    r"\b(?:final (?:answer|verdict|choice|decision|judge?ment)|verdict|conclusion|decision|winner|better response)"
    r"(?: is)? ?[:\n]\s*(?:response )?(?P<number>[12])\b(?!\.\d)(?! is| -)"
)
_SENTENCE = re.compile(r"[^.;!?\n]*[.;!?\n]?")
_SUPPOSED = re.compile(
    r"\b(?:if|whether|suppose|assuming|unless|at first|initially|might|may seem|(?:would|could)(?: have)? be(?:en)?|tempted|"
    r"almost|going to|sounds?)\b"
)
_CONCEDED = re.compile(r",? ?\b(?:although|though|even though|despite|in spite of|albeit|even if)\b[^,]*(?:,|$)")
_CLAUSE = re.compile(r"[,:()\"]|\b(?:but|however|whereas|while|because|since|yet|so|and(?= response [12]))\b")


def with_numbers(text: str) -> str:
    """A text in small letters in which each way to name one of the two is "response 1" or "response 2", and both "both"."""
    text = _WRAPPED.sub(" ", re.sub(r"\n[\n]+", "\n", ascii_signs(text).replace("、", ","))).lower()
    for pattern, replacement in _RESPELLED:
        text = pattern.sub(replacement, text)
    return text


def _clauses(reasoning: str) -> list[str]:
    text = re.sub(r"(response [12]) {0,4}:(?!\d)", r"\1 is ", with_numbers(reasoning))
    text = _WITHDRAWN.sub(" both wrong ", text)
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

_NEGATION = re.compile(
    r"\b(?:not|never|no|nothing|far from|hardly|cannot|isn't|wasn't|doesn't|don't|didn't|can't|wouldn't|aren't)\b"
)
_DOUBTED = re.compile(
    r"(?:n't|\b(?:not?|never|nobody|no one|nothing|cannot|hardly|hard|difficult))(?: \w+){0,3} ?$"
    r"|\bdoubt(?: that)? ?$"
)
_BETTER = r"better|best|preferred|preferable|superior|stronger|winner|wins?|outperforms?|beats?|surpasses|excels|higher|the one"
_WORSE = r"worse|worst|inferior|weaker|loses?|lower"
_MORE = r"more (?!errors|mistakes|hallucinat|wrong|inaccura)\w+|fewer \w+|closer|clearer"
_LESS = r"(?:less|least) \w+|more (?:errors|mistakes|hallucinat\w+|wrong|inaccura\w+)"
_RIGHT = "right|correct(?:ly)?|accurate(?:ly)?|faithful(?:ly)?|good|true|fits?|match(?:es)?|agrees?|precise(?:ly)?|consistent"
_WRONG = (
    "wrong(?:ly)?|incorrect(?:ly)?|inaccurate(?:ly)?|mistaken|false(?:ly)?|bad|fails?|contradicts?|hallucinates?|disagrees?|"
    "misreads?|misses|misidentifies|errors?|mistakes?|invents?"
)
_BETWEEN = r"(?: (?!response [12]\b)[\w'-]{1,30}){0,6}?"
_ANY = f"{_BETTER}|{_WORSE}|{_RIGHT}|{_WRONG}"

_PRAISE = ("better", "chosen", "named", "final", "more", "equal", "right")

_WITHDRAWN = re.compile(rf"\b(?:however|but),? (?:it|this|that) (?:is|was)(?: \w+)? (?:{_WRONG})\b")

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
    rf"(?P<equal>as \w+ as|equally \w+)|(?P<less>{_LESS})|(?P<worse>{_WORSE})|(?P<more>{_MORE})|(?P<better>{_BETTER})|"
    rf"(?P<wrong>{_WRONG})|(?P<right>{_RIGHT}))\b"
)
