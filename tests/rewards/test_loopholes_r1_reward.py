"""The released preference reward of R1-Reward pays for errors in many ways; ours in none.

Each test shows both: what the released code pays, by a stand-in of a few lines written from the description of that code
(`math_verifier_mllm.py` of yfzhang114/r1_reward at commit 3693413), and what ours pays. Numbers are those of our list of its
faults. The faults of its judge (5, 8, 9) are in judges/test_loopholes_judge.py, that of the policy's images (1) in
trainer/test_stable_reinforce.py, that of its evaluation's order (13) in benchmarks/test_both_orders.py.
"""

import re

import pytest
import torch

from r1reward.algorithm.advantage import standardise
from r1reward.algorithm.filter import keep_mask
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import PreferenceReward

PAPER = PreferenceReward(semantics="paper", judge=RuleJudge())
RELEASED = PreferenceReward(semantics="released", judge=RuleJudge())


def earned(reward: PreferenceReward, text: str, label: int) -> float:
    (terms,) = reward.score([text], [label])
    return reward.total(terms.result, terms.consistency, terms.format)


class Grader:
    """The released result: the answer is graded as mathematics, its exceptions pay, and the last reward stays in a variable."""

    reward: float

    def __call__(self, text: str, solutions: list[str], grade=lambda answer, truth: float(answer) == float(truth)) -> float:
        try:
            for solution in solutions:
                found = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
                self.reward = float(grade(found.group(1).strip() if found else text.strip(), solution))
        except Exception:
            self.reward = 1.0
        return self.reward


def test_r1_reward_fault_2_the_filter_drops_every_wrong_row_once_most_are_right():
    """70 of 100 right at 2.0 and 0.5: the released bounds are mean +- 3 of the raw rewards, 1.55 - 3 = -1.45; z of a wrong row
    is -1.53.
    """
    rewards = torch.tensor([2.0] * 70 + [0.5] * 30)
    advantages = standardise(rewards)
    released = keep_mask(advantages, rewards, "released", tokens=torch.ones(100))
    ours = keep_mask(advantages, rewards, "paper")
    assert released[:70].all() and not released[70:].any()
    assert ours.all()


def test_r1_reward_fault_3_an_exception_of_the_grader_pays_one():
    """Whatever raises; "neither of them" does not, and the released grader pays nothing for it."""

    def raises(answer, truth):
        raise TimeoutError

    text = "<think>?</think><answer>neither of them</answer>"
    assert Grader()(text, ["2"], grade=raises) == 1.0
    for reward in (PAPER, RELEASED):
        assert [terms.result for terms in reward.score([text] * 2, [1, 2])] == [0.0, 0.0]


@pytest.mark.parametrize("answer, released", [("2", 1.0), ("Response 2", 1.0), ("Response #2", 0.0), ("-2", 0.0)])
def test_r1_reward_the_grader_takes_a_number_with_a_sign_for_another(answer, released):
    text = f"<think>?</think><answer>{answer}</answer>"
    assert RELEASED.score([text], [2])[0].result == released
    assert PAPER.score([text], [2])[0].result == (0.0 if answer == "-2" else 1.0)


def test_r1_reward_fault_4_an_empty_solution_leaves_the_reward_of_another_row():
    grader = Grader()
    grader("<answer>2</answer>", ["2"])
    assert grader("<answer>anything</answer>", []) == 1.0
    with pytest.raises(AttributeError):
        Grader()("<answer>2</answer>", [])
    with pytest.raises(ValueError, match="label must be 1 or 2.*got None"):
        PAPER.score(["<think>So response 2 is better.</think><answer>2</answer>"], [None])


def test_r1_reward_fault_6_an_unknown_prompt_gets_the_label_of_a_similar_one():
    """The released server finds labels by the prompt's text; ours go with the row."""
    labels = {"Which is redder? [Response 1] a [Response 2] b": 1, "How many cats? [Response 1] 3 [Response 2] 4": 2}

    def similar(prompt: str) -> str:
        return max(labels, key=lambda known: len(set(known) & set(prompt)))

    unknown, label = "Which is redder? [Response 1] b [Response 2] a", 2
    assert labels[similar(unknown)] != label
    text = "<think>So response {0} is better.</think><answer>{0}</answer>"
    assert [earned(PAPER, text.format(choice), label) for choice in (1, 2)] == [0.5, 2.0]


def test_r1_reward_fault_7_an_empty_response_is_graded_by_the_prompt():
    """Without a response the released server grades the whole query, whose instructions end in "1 or 2"."""
    query, response = "Reply with <answer>1</answer> or with 2", ""
    assert Grader()(response or query, ["1"]) == 1.0
    assert earned(RELEASED, response, 1) == 0.0
    assert earned(PAPER, response, 1) == 0.0


@pytest.mark.parametrize("text", ["I think it is 1", "2 cats, 1", "Response 1"])
def test_r1_reward_a_text_without_tags_is_graded_as_an_answer(text):
    assert earned(RELEASED, text, 1) >= 1.0
    assert earned(PAPER, text, 1) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "<think>So response 1 is better.</think><answer>Not 2 but 1</answer>",
        "<think>So response 1 is better.</think><answer>2, or 1</answer>",
        "<answer>1</answer> <answer>2</answer>",
    ],
)
def test_r1_reward_an_answer_that_hedges_is_paid(text):
    assert earned(RELEASED, text, 1) >= 1.0
    assert earned(PAPER, text, 1) == 0.0


def test_r1_reward_any_answer_in_the_right_form_is_paid_for_its_format():
    text = "<think></think><answer>I would rather not say.</answer>"
    assert earned(RELEASED, text, 1) == 0.5
    assert earned(PAPER, text, 1) == 0.0


def test_r1_reward_closing_tags_are_not_counted():
    text = "<think>a</think></think><answer>2</answer></answer>"
    assert earned(RELEASED, text, 1) == 0.5
    assert earned(PAPER, text, 1) == 0.0


def test_r1_reward_right_but_inconsistent_without_format_earns_what_wrong_with_format_does():
    right = "<think>So response 2 is better.</think> <answer>1</answer>"  # the space is a fault to the released format
    wrong = "<think>So response 2 is better.</think><answer>2</answer>"
    assert earned(RELEASED, right, 1) == earned(RELEASED, wrong, 1) == 0.5
    assert (earned(PAPER, right, 1), earned(PAPER, wrong, 1)) == (1.5, 0.5)


def test_r1_reward_an_example_of_the_paper_itself_fails_the_released_format():
    text = "<think>So response 1 is better.</think> <answer>1</answer>"
    assert PAPER.score([text], [1])[0].format == 1.0
    assert RELEASED.score([text], [1])[0].format == 0.0
