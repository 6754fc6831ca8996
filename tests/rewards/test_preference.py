import logging
import math

import pytest
import torch

from r1reward.rewards.judges.opinion import FAILURES, FailureLimit, Opinion, TooManyFailures
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import SEMANTICS, TERMS, PreferenceReward
from r1reward.rewards.verdict import REJECTIONS


def text(favours: int | None, answer, joint: str = "") -> str:
    """A judgement whose reasoning favours one response (None: neither) and whose answer block holds `answer`."""
    reasoning = "The circle is red." if favours is None else f"So response {favours} is better."
    return f"<think>{reasoning}</think>{joint}<answer>{answer}</answer>"


def earned(reward: PreferenceReward, judgement: str, label: int) -> float:
    (terms,) = reward.score([judgement], [label])
    return reward.total(terms.result, terms.consistency, terms.format)


def rewarding(semantics: str) -> PreferenceReward:
    return PreferenceReward(semantics=semantics, judge=RuleJudge())


class RecordingJudge:
    """A judge of its own kind: says what it is told to, and remembers what it was asked and told to begin with."""

    def __init__(self, opinions):
        self.opinions, self.asked, self.started = opinions, [], []

    def __call__(self, reasonings, choices):
        self.asked.append((reasonings, choices))
        if isinstance(self.opinions, Exception):
            raise self.opinions
        return self.opinions

    def start(self, reasonings, choices):
        self.started.append((reasonings, choices))

    def statistics(self):
        return {"calls": len(self.asked)}


def judge_of(*values) -> RecordingJudge:
    return RecordingJudge([Opinion(value) for value in values])


def judge_metrics(unknown: float, **failures: float) -> dict[str, float]:
    """All that the consistency term logs, failures by kind."""
    rates = {f"judge/{kind}": failures.get(kind, 0.0) for kind in FAILURES}
    of_all = {"judge/failure_rate": sum(failures.values()), "judge/unknown_rate": pytest.approx(unknown), "judge/calls": 1}
    return of_all | rates


@pytest.mark.parametrize(
    "result, consistency, format, total",
    [
        (0.0, None, 0.0, 0.0),
        (0.0, None, 1.0, 0.5),
        (1.0, -1.0, 0.0, 0.5),
        (1.0, -1.0, 1.0, 1.0),
        (1.0, 0.0, 0.0, 1.0),
        (1.0, 0.0, 1.0, 1.5),
        (1.0, 1.0, 0.0, 1.5),
        (1.0, 1.0, 1.0, 2.0),
        (1.0, None, 1.0, 1.5),
        (1.0, math.nan, 1.0, 1.5),
        (0.0, 1.0, 1.0, 0.5),  # a product: consistency cannot pay for a wrong verdict
    ],
)
def test_total_on_floats_and_on_tensors(result, consistency, format, total):
    reward = rewarding("released")
    assert reward.total(result, consistency, format) == total
    column = torch.tensor([math.nan if consistency is None else consistency])
    assert reward.total(torch.tensor([result]), column, torch.tensor([format])).tolist() == [total]


@pytest.mark.parametrize(
    "semantics, judgement, total",
    [
        # result 0
        ("paper", "no verdict at all", 0.0),
        ("released", text(2, 2, joint=" "), 0.0),
        ("paper", text(2, 2), 0.5),
        ("released", text(2, 2), 0.5),
        # right, but the reasoning argues for the other
        ("paper", text(2, 1), 1.5),
        ("released", text(2, 1, joint=" "), 0.5),
        ("released", text(2, 1), 1.0),
        # right, and the judge cannot tell
        ("paper", text(None, 1), 1.5),
        ("released", text(None, 1, joint=" "), 1.0),
        ("released", text(None, 1), 1.5),
        # right and consistent
        ("paper", text(1, 1), 2.0),
        ("released", text(1, 1, joint=" "), 1.5),
        ("released", text(1, 1), 2.0),
    ],
)
def test_the_table_of_totals_from_texts_whose_label_is_1(semantics, judgement, total):
    assert earned(rewarding(semantics), judgement, label=1) == total


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_a_wrong_but_consistent_verdict_earns_only_its_format(semantics):
    reward = PreferenceReward(consistency_weight=100.0, semantics=semantics, judge=RuleJudge())
    assert earned(reward, text(2, 2), label=1) == 0.5


def test_the_two_semantics_differ_where_the_module_says_so():
    between_blocks, worded = text(1, 1, joint="\n"), text(1, "Response 1")
    assert earned(rewarding("paper"), between_blocks, 1) == 2.0
    assert earned(rewarding("released"), between_blocks, 1) == 1.5
    assert earned(rewarding("paper"), worded, 1) == 1.5  # right, without the format
    assert earned(rewarding("released"), worded, 1) == 2.0
    assert earned(rewarding("released"), text(1, "neither"), 1) == 0.5  # formatted, whatever the answer says


def test_score_asks_the_judge_once_and_about_right_verdicts_only():
    judge = judge_of(1.0, None)
    reward = PreferenceReward(judge=judge)
    terms = reward.score([text(1, 1), text(1, 1), "nonsense", text(2, 2)], [1, 2, 1, 2])
    assert judge.asked == [(["So response 1 is better.", "So response 2 is better."], [1, 2])]
    assert [t.result for t in terms] == [1.0, 0.0, 0.0, 1.0]
    assert [t.consistency for t in terms] == [1.0, None, None, 0.0]
    assert [t.format for t in terms] == [1.0, 1.0, 0.0, 1.0]
    assert [t.verdict.rejection for t in terms] == [None, None, "no_think", None]


def test_nobody_is_asked_when_nothing_is_right():
    judge = RecordingJudge(RuntimeError("must not be called"))
    assert PreferenceReward(judge=judge).score([text(1, 1)], [2])[0].consistency is None
    assert judge.asked == []


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("opinions", [TimeoutError("judge"), [Opinion(1.0)], ["yes", Opinion(1.0)], None])
def test_a_failing_judge_is_neutral_reported_and_does_not_raise(semantics, opinions, caplog):
    reward = PreferenceReward(semantics=semantics, judge=RecordingJudge(opinions))
    _, consistency, _ = reward.reward_functions()
    metrics = {}
    with caplog.at_level(logging.WARNING, logger="r1reward.rewards.preference"):
        values = consistency(completions(text(1, 1), text(1, 1)), [1, 1], log_metric=metrics.__setitem__)
    assert values == [0.0, 0.0]
    assert metrics == judge_metrics(0.0, exception=1.0)
    assert "consistency judge failed on 2 texts" in caplog.text


def test_single_answers_outside_the_contract_are_failures_too():
    reward = PreferenceReward(semantics="released", judge=judge_of(1.0, 0.0, None, math.nan, 0.5))
    metrics = {}
    values = reward.reward_functions()[1](completions(*[text(1, 1)] * 5), [1] * 5, log_metric=metrics.__setitem__)
    assert values == [1.0, -1.0, 0.0, 0.0, 0.0]
    assert metrics == judge_metrics(0.2, nonsense=0.4)


def test_each_kind_of_failure_is_neutral_and_a_metric():
    opinions = [Opinion(None, kind) for kind in FAILURES] + [Opinion(1.0)] * (20 - len(FAILURES))
    reward, metrics = PreferenceReward(semantics="released", judge=RecordingJudge(opinions)), {}
    values = reward.reward_functions()[1](completions(*[text(1, 1)] * 20), [1] * 20, log_metric=metrics.__setitem__)
    assert values == [0.0] * len(FAILURES) + [1.0] * (20 - len(FAILURES))
    assert metrics == judge_metrics(0.0, **dict.fromkeys(FAILURES, 0.05))


def test_a_judge_that_fails_too_often_ends_the_run():
    failing = [Opinion(None, "timeout")] * 3 + [Opinion(1.0)] * 7
    reward = PreferenceReward(judge=RecordingJudge(failing), failure_limit=FailureLimit(0.29, at_least=10))
    with pytest.raises(TooManyFailures, match="3 of the latest 10 opinions of the judge failed .timeout 3.*max_failure_rate"):
        reward.score([text(1, 1)] * 10, [1] * 10)
    reward = PreferenceReward(judge=RecordingJudge(failing), failure_limit=FailureLimit(0.3, at_least=10))
    assert len(reward.score([text(1, 1)] * 10, [1] * 10)) == 10


def test_the_judge_may_begin_with_right_verdicts_only():
    judge = judge_of()
    PreferenceReward(judge=judge).start([text(1, 1), text(1, 1), "nonsense"], label=[1, 2, 1], id=["a", "b", "c"])
    assert judge.started == [(["So response 1 is better."], [1])] and judge.asked == []
    PreferenceReward(consistency_weight=0.0).start([text(1, 1)], label=[1])


def completions(*texts: str) -> list[list[dict]]:
    return [[{"role": "assistant", "content": content}] for content in texts]


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_reward_functions_return_the_terms_in_their_order(semantics):
    reward = rewarding(semantics)
    texts, labels = [text(1, 1), text(2, 1), text(2, 2), "junk 1"], [1, 1, 1, 1]
    functions = reward.reward_functions()
    assert tuple(f.__name__ for f in functions) == TERMS == ("result", "consistency", "format")
    columns = [f(completions=completions(*texts), label=labels, prompts=None, trainer_state=None) for f in functions]
    terms = reward.score(texts, labels)
    assert columns == [[getattr(t, name) for t in terms] for name in TERMS]
    assert columns[1][2] is None and columns[1][0] == 1.0
    # and the trainer's way: None becomes NaN in a matrix (N, 3), whose columns make the totals
    matrix = torch.tensor([[math.nan if value is None else value for value in column] for column in columns])
    expected = [earned(reward, judgement, 1) for judgement in texts]
    assert reward.total(*matrix).tolist() == expected


def test_format_logs_every_rejection_each_time():
    metrics = {}
    texts = completions(text(1, 1), "junk", "", "<think>cut off")
    rewarding("paper").reward_functions()[2](texts, [1, 1, 1, 1], log_metric=metrics.__setitem__)
    assert set(metrics) == {f"verdict/{reason}" for reason in REJECTIONS}
    assert {name for name, value in metrics.items() if value == 0.25} == {
        "verdict/no_think",
        "verdict/empty",
        "verdict/open_think",
    }
    assert sum(metrics.values()) == 0.75


def test_without_a_judge_consistency_is_left_open():
    reward = PreferenceReward(consistency_weight=0.0)
    metrics = {}
    _, consistency, _ = reward.reward_functions()
    assert consistency(completions(text(1, 1)), [1], log_metric=metrics.__setitem__) == [None]
    assert metrics == {}
    assert earned(reward, text(1, 1), 1) == 1.5


def test_a_completion_without_content_is_an_empty_text():
    reward = PreferenceReward(consistency_weight=0.0)
    result, _, format = reward.reward_functions()
    assert result([[{"role": "assistant", "content": None}]], [1]) == [0.0]
    assert format([[{"role": "assistant", "content": None}]], [1]) == [0.0]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"consistency_weight": -0.1, "judge": RuleJudge()}, "consistency_weight must be"),
        ({"consistency_weight": math.nan, "judge": RuleJudge()}, "consistency_weight must be"),
        ({"format_weight": math.inf, "judge": RuleJudge()}, "format_weight must be"),
        ({"semantics": "code", "judge": RuleJudge()}, "'code'.*'paper', 'released'"),
        ({}, "no effect without a consistency judge: set judge"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PreferenceReward(**settings)


def test_wrong_labels_are_named():
    reward = rewarding("paper")
    with pytest.raises(ValueError, match="row 1: label must be 1 or 2.*got 0"):
        reward.score([text(1, 1), text(1, 1)], [1, 0])
    with pytest.raises(ValueError, match="row 0: .*got '1'"):
        reward.score([text(1, 1)], ["1"])
    with pytest.raises(ValueError, match="2 texts and 1 labels"):
        reward.score([text(1, 1), text(1, 1)], [1])
