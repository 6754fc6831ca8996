import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1reward.rewards import answers, blocks
from r1reward.rewards.answers import default, exact, fuzzy, multiple_choice, number, released_choice, yes_no
from r1reward.rewards.score import SEMANTICS, Score

# A function and a solution that it can read.
READABLE = [(multiple_choice, "B"), (yes_no, "no"), (exact, "a cat"), (number, "12 cm"), (fuzzy, "a cat"), (default, "a cat")]


def each(answers: str) -> list[str]:
    return answers.split(" | ")


def pairs(answers: str) -> list[tuple[str, ...]]:
    return [tuple(pair.split(" ~ ")) for pair in each(answers)]


def answered(answer: str) -> str:
    return f"<think>Let me see.</think>\n<answer> {answer} </answer>"


@pytest.mark.parametrize(
    "answer",
    each(
        r"B | b | (B) | [B] | B. | B) | b) | **B** | `B` | $B$ | \boxed{B} | $\boxed{\text{B}}$ | Option B | "
        "choice (B) | Answer: B | The answer is B. | The correct answer is (B) | Final answer: option B | B) a cat | "
        "B. A cat | (B) A cat | B: cat | B - cat | (B) - cat | **B.** cat | B) Vitamin C | B. I am | B) x = 5 | "
        "B) f(x) | (B) to be or not | B)\n a cat"
    ),
)
def test_a_choice(answer):
    assert multiple_choice(answered(answer), "B") == Score(1.0)
    assert multiple_choice(answered(answer), "C") == Score(0.0)
    assert multiple_choice(answered("B"), answer) == Score(1.0)  # the solution may be written in all these ways


@pytest.mark.parametrize(
    "answer",
    each(
        "A or B | AB | ABCD | A, B | A/B | A and B | A B C D | A. B | A: C | A) C, D | (A) (B) | A) B) C) D) | "
        "A) or B) | A) cat, B) dog | A) cat (B) dog | A: cat B: dog | A) cat or B | A - B | a. b"
    ),
)
def test_several_choices_are_none(answer):
    for solution in "ABCD":
        assert multiple_choice(answered(answer), solution) == Score(0.0, "ambiguous")


@pytest.mark.parametrize(
    "answer",
    each(
        " | 12 | cat | A cat | a dog | not B | (B | answer | "
        "The answer is not B | Option B is wrong | B is not correct | B? | "
        "\u0412 | B\u200b | I am sure | I choose to wait"
    ),
)
def test_no_choice(answer):
    assert multiple_choice(answered(answer), "B") == Score(0.0, "not_a_choice")


@pytest.mark.parametrize(
    "answer",
    each(
        "I think B | B, because it is red | B cat | Option B is correct | "
        "B! | \uff22 | I choose B. | B is the correct answer. | "
        r"\boxed{B. a cat} | So the correct answer is (B) a cat. | B. figure (a) | B. not sure | B (a cat) | B, a cat"
    ),
)
def test_a_choice_in_a_sentence(answer):
    assert multiple_choice(answered(answer), "B") == Score(1.0)
    assert multiple_choice(answered(answer), "A") == Score(0.0)


@pytest.mark.parametrize(
    "answer",
    ["\u7b54\u6848\u662fB\u3002", "\u7b54\u6848\uff1aB", "B\u3001\u7ea2\u8272\u7684\u8f66", "\u9009\u9879B", "\u6211\u9009B"],
)
def test_a_choice_in_chinese(answer):
    assert multiple_choice(answered(answer), "B") == Score(1.0)


@pytest.mark.parametrize("solution", ["", "A or B", "AB", "cat", "1", "<answer></answer>", "the cat (B)"])
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_a_choice_cannot_be_compared_with_this(solution, semantics):
    with pytest.raises(ValueError, match="expected the letter of one choice"):
        multiple_choice("", solution, semantics)


@pytest.mark.parametrize(
    "text, letter",
    [
        ("B", "B"),
        ("", None),
        ("(B)", None),
        ("B) cat", None),
        ("a cat", None),
        ("I think it is b.", "B"),
        ("A, B", "B"),  # A: 1 point for the comma; B: 2 for its place in the last 30 per cent
        ("A, B, B, c", "B"),  # A: 1 point; B: 1 point, twice, and before C: 2 points for its place
        ("The answer is B. Not A, C.", "C"),  # near "answer" are all; B: 1 for the full stop; C: 1 for it, 2 for the end
    ],
)
def test_released_choice(text, letter):
    assert released_choice(text) == letter


def test_released_reads_the_first_block_of_choices_and_of_yes_or_no():
    assert multiple_choice("<answer>B</answer><answer>C</answer>", "B", "released") == Score(1.0)
    assert multiple_choice("<answer>B</answer><answer>C</answer>", "C", "released") == Score(0.0)
    assert yes_no("<answer>yes</answer><answer>no</answer>", "Yes", "released") == Score(1.0)
    assert yes_no("<answer>yes</answer><answer>no</answer>", "No", "released") == Score(0.0)


@pytest.mark.parametrize(
    "answer, said",
    [("yes", "yes"), ("YES", "yes"), ("No.", "no"), ("**Yes**", "yes"), (r"\boxed{no}", "no"), ("Yes, it is.", "yes")]
    + [("Yes it is", "yes"), ("No, it is not", "no"), ("No there is not", "no"), ("no; no", "no"), ("Yes!", "yes")]
    + [("The answer is no", "no"), ("Answer: Yes", "yes"), ("no - none", "no"), ("No\u2014none.", "no")],
)
def test_yes_or_no(answer, said):
    other = {"yes": "no", "no": "yes"}[said]
    assert yes_no(answered(answer), said) == Score(1.0)
    assert yes_no(answered(answer), other) == Score(0.0)
    assert yes_no(answered(said), answer) == Score(1.0)


@pytest.mark.parametrize("answer", ["no, yes", "yes or no", "yes/no", "Yes.\nNo.", "No (yes)"])
@pytest.mark.parametrize("solution", ["yes", "no"])
def test_both_are_neither(answer, solution):
    assert yes_no(answered(answer), solution) == Score(0.0, "ambiguous")


@pytest.mark.parametrize(
    "answer, said",
    pairs(
        "Yes the dog is brown. ~ yes | 'Yes' ~ yes | Yes, because it is ~ yes | "
        "Therefore, the answer is yes. ~ yes | True ~ yes | "
        'A. Yes ~ yes | {"answer": "Yes"} ~ yes | No dogs are visible. ~ no | '
        '"No" ~ no | no the dog is white ~ no | False. ~ no | '
        "\u662f\u3002 ~ yes | \u4e0d\u662f ~ no | \u6ca1\u6709 ~ no"
    ),
)
def test_yes_or_no_in_the_usual_spellings(answer, said):
    other = {"yes": "no", "no": "yes"}[said]
    assert yes_no(answered(answer), said) == Score(1.0) and yes_no(answered(answer), other).value == 0.0


@pytest.mark.parametrize(
    "answer",
    each(" | I do not know | know | none | not | No idea | No way to tell | no-one | I have no idea | No?"),
)
@pytest.mark.parametrize("solution", ["yes", "no"])
def test_neither_yes_nor_no(answer, solution):
    assert yes_no(answered(answer), solution) == Score(0.0, "not_yes_or_no")


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("solution", ["", "maybe", "yes or no", "12"])
def test_not_a_question_of_yes_or_no(solution, semantics):
    with pytest.raises(ValueError, match="expected yes or no"):
        yes_no("", solution, semantics)


@pytest.mark.parametrize(
    "answer, solution, value",
    [
        ("A Cat.", "a cat", 1),
        ("a  \n cat", "a cat", 1),
        ("a cat", "<answer> A cat. </answer>", 1),
        ("Stra\u00dfe", "STRASSE", 1),
        ("caf\u00e9", "cafe\u0301", 1),
        ("cafe", "caf\u00e9", 0),
        ("10\u2075", "105", 0),  # NFKC would take them for equal
        ("cat", "a cat", 1),
        ("a cat, or a dog", "a cat", 0),
        ("", "a cat", 0),
    ],
)
def test_exact(answer, solution, value):
    assert exact(answered(answer), solution) == Score(float(value))


@pytest.mark.parametrize(
    "answer, solution",
    pairs(
        r"**a cat** ~ a cat | Answer: a cat ~ a cat | \boxed{\text{a cat}} ~ a cat | "
        r"the cat ~ a cat | A cat! ~ a cat | "
        "dog\u2019s ~ dog's | tshirt ~ t-shirt | \u7ea2\u8272\u3002 ~ \u7ea2\u8272 | "
        "The capital is Paris. ~ Paris | It is a cat ~ a cat | two ~ 2"
    ),
)
def test_exact_in_the_usual_spellings(answer, solution):
    assert exact(answered(answer), solution) == Score(1.0) == fuzzy(answered(answer), solution)


@pytest.mark.parametrize("answer", ["The capital is not Paris.", "It is never Paris", "Paris is the capital", "Paris or Rome"])
def test_exact_denied_or_within_more(answer):
    assert exact(answered(answer), "Paris") == Score(0.0)


def test_answer_tags_that_are_mentioned_while_thinking():
    for thought in (
        "I use <answer> tags.",
        "Between <answer> and </answer>.",
        "<answer>...</answer>",
        "So <answer>B</answer>.",
        "I must write <answer>letter</answer>.",
        "<answer>1 or 2</answer>",
        "<answer>[x1, y1, x2, y2]</answer>",
        "<answer>your answer</answer>",
        "<answer>C</answer>",
    ):
        assert multiple_choice(f"<think>{thought}</think><answer>B</answer>", "B") == Score(1.0)


@pytest.mark.parametrize(
    "text, value",
    [("A Cat.", 1), ("<answer>dog</answer><answer>a cat...</answer>!", 1), ("<answer>a\ncat</answer>", 1), ("a \ncat", 1)]
    + [("a  cat", 0), ("The answer is a cat", 0)],
)
def test_released_exact(text, value):
    assert exact(text, "a cat", "released") == Score(float(value))


@pytest.mark.parametrize(
    "answer, solution",
    pairs(
        "12 ~ 12 | +12 ~ 12.0 | -12 ~ \u221212 | 0.10 ~ 0.1 | .5 ~ 0.5 | 5. ~ 5 | 1,234.5 ~ 1234.5 | 1e3 ~ 1000 | "
        "1.5E-3 ~ 0.0015 | **5** ~ 5 | The answer is 5 ~ 5 | -0 ~ 0 | $5 ~ 5 dollars | 12 ~ 12 cm | "
        "12 cm ~ 12 centimeters | 12cm. ~ 12 cm | 50% ~ 50 percent | 50 ~ 50% | 3 dogs ~ 3 dogs | "
        "5 m^2 ~ 5 square meters | -$5 ~ -5 dollars | 5 \u20ac ~ \u20ac5 | "
        r"\boxed{12} ~ 12 | $\boxed{12}$ ~ 12 | The answer is **12**. ~ 12 | "
        r"twelve ~ 12 | twenty-one ~ 21 | 12 red apples ~ 12 | "
        r"There are 12 apples in the image. ~ 12 | = 12 ~ 12 | about 12 ~ 12 | "
        r"\approx 3.14 ~ 3.14 | 12, ~ 12 | 12/1 ~ 12 | "
        r"1/2 ~ 0.5 | 0.5 ~ 1/2 | \frac{1}{2} ~ 0.5 | "
        r"1.5 \times 10^{-3} ~ 0.0015 | 12\text{ cm} ~ 12 cm | 12~\mathrm{cm} ~ 12 cm | "
        r"50\% ~ 50% | 0.5 ~ 50% | 50% ~ 0.5 | 50 percent ~ 50 | "
        r"\$1,234 ~ 1234 | 12 years old ~ 12 | 7th ~ 7 | (-0.5) ~ -0.5 | "
        "The year 2005 ~ 2005 | 1.234 thousand ~ 1234 | 3 hot dogs ~ 3 dogs | "
        "There are 3 dogs. ~ 3 dogs | None ~ 0 | "
        "The total number of apples is 12. ~ 12 | 12\u5398\u7c73 ~ 12 cm | "
        "\u7b54\u6848\u662f12\u3002 ~ 12 | \uff11\uff12 ~ 12"
    ),
)
def test_the_same_number(answer, solution):
    assert number(answered(answer), solution) == Score(1.0)


@pytest.mark.parametrize(
    "answer",
    each(
        "There are not 12 apples | I see 12 or more | at least 12 | "
        "It is 12? | 12 apples and 3 pears | between 10 and 12 | "
        "more than 12 | 12 minus one or two | 12 times as many | "
        "There are no 12 apples | a12 | 12 x 2 | I don't see 12"
    ),
)
def test_a_number_denied_or_left_open(answer):
    assert number(answered(answer), "12").value == 0.0


def test_the_number_of_something_else():
    assert number(answered("The number of cats is 3"), "3 dogs").value == 0.0
    assert number(answered("The number of dogs is 3"), "3 dogs").value == 1.0


@pytest.mark.parametrize(
    "answer, solution",
    [("13", "12"), ("-12", "12"), ("0.1000000001", "0.1"), ("50", "0.5"), ("9007199254740992", "9007199254740993")]
    + [("1" * 80 + "2", "1" * 81), ("1e400", "1e401"), ("0", "1e-400"), ("12 cm", "13 cm")]
    + [("5 million", "5"), ("5 dozen", "5"), ("$5 million", "5"), ("0.5%", "50%"), ("0.5%", "0.5"), ("2/1", "0.5")],
)
def test_another_number(answer, solution):
    assert number(answered(answer), solution) == Score(0.0)


@pytest.mark.parametrize(
    "answer, solution",
    [("12 m", "12 cm"), ("3 cats", "3 dogs"), ("$5", "5 euro"), ("12 cm^2", "12 cm"), ("There are 12 m.", "12 cm")],
)
def test_another_unit(answer, solution):
    assert number(answered(answer), solution) == Score(0.0, "other_unit")


@pytest.mark.parametrize(
    "answer",
    each(
        " | 5 or 6 | 5, 6 | 5 6 | 1 000 | 12,34 | 1,2 | not 5 | nan | inf | -inf | 1_0 | "
        "0x5 | \u0665 | 5k | 5 times 3 | 5 or more | 5x | 5! | 5^2 | --5 | 5- | 1.2.3 | 5e | "
        "1e9999"
    ),
)
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_no_number(answer, semantics):
    assert number(answered(answer), "5") == Score(0.0, "not_a_number")
    with pytest.raises(ValueError, match="expected one decimal number"):
        number("", answer, semantics)


@pytest.mark.parametrize("answer, value", [("105", 1), ("95", 1), ("105.0000000001", 0), ("94.9", 0), ("100", 1), ("0", 0)])
def test_tolerance_is_relative_to_the_solution(answer, value):
    assert number(answered(answer), "100", tolerance=0.05) == Score(float(value))
    assert number(answered(f"-{answer}"), "-100", tolerance=0.05) == Score(float(value))
    assert number(answered(f"-{answer}"), "100", tolerance=0.05) == Score(0.0)


def test_an_answer_of_a_thousand_words_is_none():
    assert multiple_choice(answered("B) " + "a" * 1000), "B") == Score(0.0, "not_a_choice")
    assert yes_no(answered("No, " + "a" * 1000), "no") == Score(0.0, "not_yes_or_no")
    assert number(answered("5" * 101), "5" * 100) == Score(0.0, "not_a_number")
    assert number(answered("5 " + "a" * 100), "5") == Score(0.0, "not_a_number")


def test_near_zero_is_not_zero():
    assert number(answered("0.0001"), "0", tolerance=0.5) == Score(0.0)
    assert number(answered("0.0"), "0", tolerance=0.5) == Score(1.0)


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, math.nan, math.inf])
def test_tolerance_out_of_range(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        number(answered("5"), "5", tolerance=tolerance)


def test_released_number():
    assert number("12.0", "12", "released") == Score(1.0)
    assert number("<answer>13</answer> <answer>12</answer>", "12", "released") == Score(1.0)
    assert number("<answer>12 cm</answer>", "12", "released") == Score(0.0, "not_a_number")
    assert number("<answer>1,234</answer>", "1234", "released") == Score(0.0, "not_a_number")
    assert number("<answer>nan</answer>", "12", "released") == Score(0.0)


@pytest.mark.parametrize(
    "answer, solution, floor, value",
    [
        ("a cat", "A cat.", 0.5, 1.0),
        ("cats", "cat", 0.5, 6 / 7),  # 2 * 3 common letters of 4 + 3
        ("abcd", "abxy", 0.5, 0.5),  # 2 * 2 of 8: at the floor
        ("abcd", "axyz", 0.5, 0.0),  # 2 of 8
        ("abcd", "axyz", 0.2, 0.25),
        ("abcd", "wxyz", 0.0, 0.0),
        ("cats", "cat", 0.9, 0.0),
        ("", "cat", 0.0, 0.0),
        ("cat " * 5, "cat", 0.0, 0.0),  # too long to be like it
    ],
)
def test_fuzzy(answer, solution, floor, value):
    assert fuzzy(answered(answer), solution, floor=floor).value == pytest.approx(value, abs=1e-12)


@given(st.text(alphabet="bcd ", min_size=1, max_size=8), st.text(alphabet="bcd ", max_size=8))
@settings(max_examples=200, deadline=None)
def test_fuzzy_is_the_longest_common_subsequence(solution, answer):
    if not solution.strip():
        return
    a, b = " ".join(answer.split()), " ".join(solution.split())
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a)):
        for j in range(len(b)):
            table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    expected = 2 * table[-1][-1] / (len(a) + len(b)) if len(a) <= 4 * len(b) + 1 else 0.0
    value = fuzzy(answered(answer), solution, floor=0.0).value
    assert value == pytest.approx(expected, abs=1e-12)
    assert (value == 1.0) == (a == b)


@pytest.mark.parametrize("floor", [-0.1, 1.1, math.nan])
def test_floor_out_of_range(floor):
    with pytest.raises(ValueError, match="floor"):
        fuzzy("", "cat", floor=floor)


@pytest.mark.parametrize("solution", ["", " . ", "<answer>...</answer>", "a" * 10_001])
@pytest.mark.parametrize("function", [exact, fuzzy])
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_no_text_to_compare_with(function, solution, semantics):
    with pytest.raises(ValueError, match="expected"):
        function("", solution, semantics)


@pytest.mark.parametrize(
    "solution, right, wrong",
    [
        ("B", "(B) cat", "cat"),
        ("(b)", "B", "C"),
        ("Yes", "Yes, it is.", "yes or no"),
        ("12", "12.0", "13"),
        ("3 dogs", "3", "2 dogs"),
        ("3 red dogs", "3 red dogs", "3"),
        ("50%", "0.5", "5"),
        ("A. The man in red", "A", "B. The man in red"),
        ("A. The man in red", "The man in red", "A cat"),
        ("(C) 5 m", "(C) 5 m", "B"),
        ("$x = 5$", "5", "6"),
        ("1/2", "0.5", "2"),
        (r"2\sqrt{3}", r"\sqrt{12}", "2"),
        ("a red car", "a red car", "blue"),
        ("room 204", "Room 204.", "room 205"),
        ("2020-05-01", "2020-05-01", "2014"),
        ("12 May 2020", "12 may 2020", "12 May 2021"),
        ("vitamin C", "vitamin c", "C."),
        ("3D printer", "3D printer", "3"),
        ("$5 million", "$5 million", "5"),
    ],
)
def test_default_goes_by_the_kind_of_the_solution(solution, right, wrong):
    assert default(answered(right), solution).value == 1.0
    assert default(answered(wrong), solution).value == 0.0
    default("", solution, "released")


@pytest.mark.parametrize(
    "text, solution, value",
    [
        ("so 12", "12.0", 1.0),  # math_verify finds a number in prose
        ("<answer>3 dogs</answer>", "2 dogs", 10 / 12),  # no floats: the similarity
        ("<answer>13</answer>", "12", 0.0),
        ("I cannot say. So c.", "vitamin C", 1.0),  # the last letter is taken for a choice
        ("cats", "cat", 6 / 7),
    ],
)
def test_released_default(text, solution, value):
    assert default(text, solution, "released").value == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("function, solution", READABLE)
def test_unknown_semantics(function, solution):
    with pytest.raises(ValueError, match="'loose'"):
        function("", solution, "loose")


def test_every_rejection_can_happen():
    seen = {
        multiple_choice(answered("cat"), "B").rejection,
        multiple_choice(answered("A or B"), "B").rejection,
        yes_no(answered("know"), "no").rejection,
        number(answered("cat"), "5").rejection,
        number(answered("5 m"), "5 cm").rejection,
    }
    assert seen | set(answers.mathematics.REJECTIONS) == set(answers.REJECTIONS)


PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "B",
        "A) ",
        "(",
        ")",
        "yes",
        "No",
        " or ",
        "12",
        "1,000",
        ".",
        "-",
        " cm",
        "%",
    ]
    + [
        "a cat",
        " ",
        "\n",
        r"\boxed{",
        "}",
        "**",
        "Answer: ",
        "\u2028",
        "\x00",
        "\ud800",
        "e\u0301",
        "\u00df",
        "<",
        "1e9",
        "nan",
        "$",
    ]
)
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=10).map("".join))


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.sampled_from(READABLE), st.sampled_from(SEMANTICS), st.booleans())
def test_no_text_raises_and_none_earns_more_than_the_answer(text, readable, semantics, in_block):
    function, solution = readable
    score = function(answered(text) if in_block else text, solution, semantics)
    assert 0.0 <= score.value <= 1.0
    assert score.rejection is None or score.value == 0.0
    assert score.rejection in (None, *answers.REJECTIONS, *blocks.REJECTIONS)


def test_long_solution_and_long_answer_are_compared():
    solution = "a long caption of a cat " * 400  # 9,600 characters
    assert fuzzy(answered(solution), solution) == Score(1.0)
    assert 0.5 < fuzzy(answered(solution + "and a dog"), solution).value < 1.0
    assert 0.0 <= fuzzy("b" * 1_000_000, solution, "released").value < 0.1
