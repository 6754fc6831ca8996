import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.rewards.judges.rule import RuleJudge, conclusion


def values(reasonings, choices):
    return [opinion.value for opinion in RuleJudge()(reasonings, choices)]


SENTENCES = [
    # the embedded annotator's
    ("The circle is red. Response 2 fits. So response 2 is better.", 2),
    ("There are two squares. Neither fits. So response 1 is better.", 1),
    ("The star is blue. Response 2 sounds sure. So response 2 is better.", 2),
    # plain praise and blame
    ("Response 1 is right.", 1),
    ("response #2 is clearly the best", 2),
    ("RESPONSE 1 IS MORE ACCURATE", 1),
    ("Overall, answer 2 matches the image.", 2),
    ("Response 1 agrees with the picture.", 1),
    ("Response 2 is preferred over response 1.", 2),
    ("Response 1 outperforms Response 2.", 1),
    ("Response 1 is worse.", 2),
    ("Response 2 is factually incorrect.", 1),
    ("Response 2 contradicts the image.", 1),
    # negations
    ("Response 1 is not correct.", 2),
    ("Response 1 isn\u2019t better.", 2),
    ("Response 2 does not fit.", 1),
    ("Response 1 is less accurate than response 2.", 2),
    ("Response 2 is not wrong.", 2),
    ("Response 1 is not as good as response 2.", 2),
    # choosing and naming
    ("I would choose response 2.", 2),
    ("Therefore I prefer Response 1 over Response 2.", 1),
    ("I do not pick response 1.", 2),
    ("I can't go with response 2.", 1),
    ("The better one is response 2.", 2),
    ("The worse response is response 2.", 1),
    ("My choice is response 1.", 1),
    ("The correct answer is not response 1.", 2),
    # the last conclusion counts
    ("Response 1 is better. On second thought, response 2 is better.", 2),
    ("Response 2 is right and response 1 is wrong.", 2),
    ("Response 1 fits. Response 2 fits. Both are right.", None),
    ("Both responses are good. Still, I choose response 1.", 1),
    ("Neither of the responses is correct.", None),
    # doubts, concessions, thoughts on the way
    ("I don't think response 1 is better.", 2),
    ("I doubt that response 2 is correct.", 1),
    ("Response 1 is no better than response 2.", None),
    ("Response 2 is better, although response 1 is more fluent.", 2),
    ("Response 1, although shorter, is more accurate.", 1),
    ("At first response 1 seems better. But the sign says STOP, which response 2 got right.", 2),
    ("If detail matters, response 1 is better; if length matters, response 2 is better.", None),
    # findings on both
    ("Response 1 is wrong about the colour. Response 2 is wrong about the number.", None),
    ("Response 1 is correct. Response 2 is also correct.", None),
    ("Neither response is perfect, but response 2 is closer.", 2),
    ("Response 1 is accurate, whereas response 2 contains several errors.", 1),
    # in other words
    ("Response 2 provides a more detailed description.", 2),
    ("Response 1 is marginally better.", 1),
    ("I would rate response 2 higher.", 2),
    ("Response 1 has fewer errors.", 1),
    ("Final answer: 2", 2),
    ("### Verdict\nResponse 1", 1),
    ("- **Response 1**: correct count.\n- **Response 2**: wrong count.", 1),
    ("| | Response 1 | Response 2 |\n| Detail | 4 | 9 |\n\nResponse 2 is better.", 2),
    ("\u7efc\u4e0a\u6240\u8ff0\uff0c\u56de\u7b542\u66f4\u597d\u3002", 2),
    ("\u56de\u7b541\u4e0d\u6b63\u786e\uff0c\u56de\u7b542\u6b63\u786e\u3002", 2),
    # faultless, wished for, tempting, undecided
    ("Response 1 has no errors.", 1),
    ("Response 1 is free of mistakes, Response 2 is not.", 1),
    ("Response 2 has less errors.", 2),
    ("Nobody would prefer Response 2.", 1),
    ("There is no reason to prefer Response 2.", 1),
    ("There is no doubt that response 2 is better.", 2),
    ("Response 2 would have been better with more detail.", None),
    ("I was tempted to choose Response 2.", None),
    ("I was going to choose Response 2.", None),
    ("Response 1 is far from correct.", 2),
    ("Response 2 sounds better. However, it is wrong.", None),
    ("Response 2 looks better, but it is wrong.", None),
    ("Response 1 and Response 2 are equally good.", None),
    ("Response 1 and Response 2 are both correct.", None),
    ("Responses 1 and 2 are correct.", None),
    ("\u56de\u7b541\u548c\u56de\u7b542\u90fd\u6b63\u786e\u3002", None),
    # no conclusion
    ("", None),
    ("The circle is red.", None),
    ("Response 1 says red, response 2 says blue.", None),
    ("If response 1 is correct, the circle is red.", None),
    ("I wonder whether response 2 is better.", None),
    ("Is response 1 better?", None),
    ("Response 12 is better.", None),
    ("Response 1, unlike response 2, names a shape.", None),
    ("Response\n1\nis\n\n better", 1),
]


@pytest.mark.parametrize("text, favoured", SENTENCES)
def test_conclusion(text, favoured):
    assert conclusion(text) == favoured


@pytest.mark.parametrize("text, favoured", SENTENCES)
def test_exchanging_the_numbers_exchanges_the_conclusion(text, favoured):
    exchanged = text.translate(str.maketrans("12", "21"))
    assert conclusion(exchanged) == (None if favoured is None else 3 - favoured)


@pytest.mark.parametrize(
    "text, favoured", [("The first one is better.", 1), ("Response two wins.", 2), ("The latter is worse.", 1)]
)
def test_responses_named_in_words(text, favoured):
    assert conclusion(text) == favoured


def test_written_reasonings(shared_cases):
    """Of the 42 with a side one may stay unread; none is read the wrong way round, and none is given a side that it lacks."""
    cases = json.loads((shared_cases / "judge_reasonings.json").read_text())
    read = [(case["human"], conclusion(case["reasoning"]) or 0) for case in cases]
    assert sum(said == human for human, said in read if human) >= 41
    assert [(human, said) for human, said in read if said not in (0, human)] == []


def test_judge_compares_with_the_choice():
    reasonings = ["So response 2 is better.", "So response 2 is better.", "The circle is red."]
    assert values(reasonings, [2, 1, 1]) == [1.0, 0.0, None]
    assert values([], []) == []


def test_judge_gives_embedded_traces_no_neutral_opinion():
    """Every trace that the annotator of the shapes world writes ends in a conclusion."""
    for subject in ("The circle is red. Response 1 fits.", "Neither fits.", "Response 2 sounds sure."):
        for choice in (1, 2):
            assert values([f"{subject} So response {choice} is better."] * 2, [choice, 3 - choice]) == [1.0, 0.0]


@given(st.text(max_size=200))
def test_no_text_raises(text):
    assert conclusion(text) in (None, 1, 2)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["response ", "response 1 is ", "is ", "both the ", "not ", " ", "prefer the ", "better one is "]
)
def test_a_megabyte_of_anything_is_read(piece):
    text = piece * (1_000_000 // len(piece))
    assert conclusion(text + ". Response 2 is better.") == 2
