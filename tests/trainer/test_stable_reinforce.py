"""The hooks of the trainer: advantages and filter, Pre-CLIP, the composite reward, images in every pass."""

import math

import pytest
import torch

from r1reward.algorithm.clipping import ppo_clip_loss
from r1reward.data.build import training_dataset
from r1reward.data.rows import TaskRow
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import PreferenceReward
from r1reward.rewards.tasks import RoutedReward, TaskReward, Term
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, dataset):
    def make(reward=letters, model=None, train_dataset=dataset, on_rollouts=None, **changes):
        trainer = StableReinforceTrainer(
            model=model or make_model(),
            reward_funcs=reward,
            args=make_arguments(**changes),
            on_rollouts=on_rollouts,
            train_dataset=train_dataset,
            processing_class=processor,
        )
        trainer.current_gradient_accumulation_steps = 1  # set by `train()`, which these tests do not call
        return trainer

    return make


def rollout(trainer) -> dict:
    """One rollout batch as the trainer would make it, before it is shuffled and split."""
    trainer.model.train()
    return trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))


def one_wrong(completions, **kwargs) -> list[float]:
    return [0.0] + [1.0] * (len(completions) - 1)


def test_batch_estimator_with_one_rollout_per_prompt(make_trainer):
    rewards = [float(i % 4) for i in range(16)]
    trainer = make_trainer(lambda completions, **kw: rewards, num_generations=1, advantage_filter="none")
    advantages = rollout(trainer)["advantages"]
    values = torch.tensor(rewards)
    expected = (values - values.mean()) / values.std(correction=0)
    torch.testing.assert_close(advantages, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "threshold", "zeroed"),
    [("paper", 3.0, 1), ("paper", 3.8, 1), ("paper", 0.2, 16), ("none", 3.0, 0)],
)
def test_filter_zeroes_the_one_wrong_row_among_sixteen(make_trainer, kind, threshold, zeroed):
    """15 ones and a zero: z of the zero is -sqrt(15) = -3.87, of the ones 1/sqrt(15) = 0.26."""
    trainer = make_trainer(one_wrong, advantage_filter=kind, filter_threshold=threshold)
    batch = rollout(trainer)
    assert (batch["advantages"] == 0).sum() == zeroed
    assert trainer._metrics["train"]["advantage_filter/fraction"] == [zeroed / 16]
    assert len(batch["completion_mask"]) == 16  # zeroed, not removed
    if zeroed < 16:
        kept = batch["advantages"][1:]
        torch.testing.assert_close(kept, torch.full((15,), 1 / math.sqrt(15)), atol=1e-5, rtol=0)


def test_filtered_fraction_is_split_by_right_and_wrong_verdicts(make_trainer, rows):
    """One right verdict among sixteen: the filter takes it, so all of the right ones and none of the wrong ones."""
    reward = PreferenceReward(judge=RuleJudge())
    trainer = make_trainer(reward, num_generations=1)
    original = trainer._generate

    def answer(prompts):
        outcome = list(original(prompts))
        outcome[3] = [[{"role": "assistant", "content": "no verdict"}] for _ in outcome[3]]
        text = f"<think>So response {first['label']} is better.</think><answer>{first['label']}</answer>"
        outcome[3][0] = [{"role": "assistant", "content": text}]
        return tuple(outcome)

    inputs = next(iter(trainer.get_train_dataloader()))
    first = inputs[0]
    trainer._generate = answer
    trainer.model.train()
    batch = trainer._generate_and_score_completions(inputs)
    metrics = trainer._metrics["train"]
    assert metrics["rewards/result/mean"] == [1 / 16]
    assert metrics["rewards/consistency/mean"] == [1.0]  # of the one that was judged
    assert metrics["rewards/total/mean"] == [2.0 / 16]  # 1 * (1 + 0.5 * 1) + 0.5
    assert metrics["advantage_filter/fraction_right"] == [1.0]
    assert metrics["advantage_filter/fraction_wrong"] == [0.0]
    assert batch["advantages"][0] == 0


@pytest.mark.parametrize(("delta_min", "delta_max"), [(1e-3, 1e3), (0.1, 1e3), (1e-3, 10.0)])
def test_loss_is_the_formula_of_the_paper(make_trainer, delta_min, delta_max):
    """Log-ratios inside and outside the PPO range: the trainer's loss equals the formula on the clamped log-ratio."""
    trainer = make_trainer(delta_min=delta_min, delta_max=delta_max)
    batch = rollout(trainer)
    now = trainer._current_log_probs(batch)
    shift = torch.linspace(-9, 12, now.numel()).view(now.shape)  # not symmetric, as bounds need not be
    batch["old_per_token_logps"] = now - shift
    loss = trainer._compute_loss(trainer.model, batch)
    log_ratio = shift.clamp(math.log(delta_min), math.log(delta_max))
    expected = ppo_clip_loss(log_ratio, batch["advantages"], batch["completion_mask"], 0.2, 0.2)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    share = ((shift != log_ratio) * batch["completion_mask"]).sum() / batch["completion_mask"].sum()
    assert trainer._metrics["train"]["pre_clip/fraction"][-1] == pytest.approx(share.item())
    assert trainer._metrics["train"]["log_ratio/max_abs"][-1] == pytest.approx(12, abs=1e-3)


@pytest.mark.parametrize(("pre_clip", "finite"), [(True, True), (False, False)])
def test_pre_clip_keeps_an_overflowing_ratio_out_of_the_gradient(make_trainer, pre_clip, finite):
    """A log-ratio of 95 overflows float32 when exponentiated (e^88.7 is the largest); the PPO clip comes too late."""
    trainer = make_trainer(pre_clip=pre_clip)
    batch = rollout(trainer)
    batch["old_per_token_logps"] = trainer._current_log_probs(batch)
    batch["old_per_token_logps"][0, 0] -= 95
    batch["advantages"] = torch.ones(16)
    trainer._compute_loss(trainer.model, batch).backward()
    gradients = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    assert gradients.isfinite().all().item() is finite


@pytest.mark.parametrize("share_prefix", [True, False])
def test_r1_reward_fault_1_every_pass_sees_the_images(make_trainer, make_model, tmp_path, share_prefix):
    """Old and reference log-probabilities equal those of a plain forward pass with images, and change with the image."""
    make_model(seed=3).save_pretrained(tmp_path / "model")
    model = type(make_model()).from_pretrained(tmp_path / "model")
    trainer = make_trainer(model=model, beta=0.1, share_prefix=share_prefix)
    looks = {"policy": 0, "reference": 0}
    for name, watched in (("policy", trainer.model), ("reference", trainer.ref_model)):
        watched.model.visual.register_forward_hook(lambda *_, name=name: looks.__setitem__(name, looks[name] + 1))
    batch = rollout(trainer)
    assert looks["policy"] > 0 and looks["reference"] > 0

    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    if share_prefix:
        images = [batch["groups"].prompts[owner] for owner in batch["groups"].prompt_of_row]
        pixels, grid = torch.cat([x.pixels for x in images]), torch.cat([x.grid for x in images])
    else:
        pixels, grid = batch["pixel_values"], batch["image_grid_thw"]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
        "mm_token_type_ids": (ids == model.config.image_token_id).int(),
        "pixel_values": pixels,
        "image_grid_thw": grid,
    }

    def log_probs(**changes):
        with torch.no_grad():
            logits = type(model).forward(fresh, **(inputs | changes)).logits
        every = torch.log_softmax(logits[:, :-1].float(), -1).gather(-1, ids[:, 1:, None])[..., 0]
        return every[:, -batch["completion_ids"].shape[1] :] * batch["completion_mask"]

    fresh = type(model).from_pretrained(tmp_path / "model")
    with_images = log_probs()
    blank = log_probs(pixel_values=torch.zeros_like(pixels))
    assert (with_images - blank).abs().max() > 1e-3  # the images matter to this model
    for key in ("old_per_token_logps", "ref_per_token_logps"):
        torch.testing.assert_close(batch[key] * batch["completion_mask"], with_images, atol=1e-4, rtol=1e-4)

    looks["policy"] = 0
    loss = trainer._compute_loss(trainer.model, {key: value for key, value in batch.items()})
    assert looks["policy"] > 0 and loss.isfinite()


def test_kl_in_the_reward_gives_token_advantages_and_no_kl_in_the_loss(make_trainer, make_model, tmp_path):
    make_model(seed=3).save_pretrained(tmp_path / "model")
    model = type(make_model()).from_pretrained(tmp_path / "model")
    trainer = make_trainer(model=model, kl_in_reward=0.5, advantage_filter="none")
    with torch.no_grad():
        trainer.ref_model.model.language_model.norm.weight.mul_(3)  # so that the reference differs
    batch = rollout(trainer)
    mask = batch["completion_mask"]
    penalty = (batch["old_per_token_logps"] - batch["ref_per_token_logps"]) * mask
    rewards = torch.tensor(trainer._logs["rewards"]["letters"])[-16:]
    returns = rewards[:, None] - 0.5 * penalty.flip(1).cumsum(1).flip(1)
    tokens = returns[mask.bool()]
    expected = (returns - tokens.mean()) / tokens.std(correction=0)
    assert batch["advantages"].shape == mask.shape
    torch.testing.assert_close(batch["advantages"] * mask, expected * mask, atol=1e-4, rtol=1e-4)
    with_kl = trainer._compute_loss(trainer.model, dict(batch))
    batch["ref_per_token_logps"] = batch["ref_per_token_logps"] - 5
    assert torch.equal(with_kl, trainer._compute_loss(trainer.model, dict(batch)))
    assert trainer.beta == 0.5  # the rollouts of the next cycle still compute reference log-probabilities


class FixedTerms:
    """A composite reward with the terms (1, 1, 1), (0, 1, 1), (1, skipped, 0), ... and the total of the paper."""

    def reward_functions(self):
        def term(name, values):
            def function(completions, **kwargs):
                return (values * len(completions))[: len(completions)]

            function.__name__ = name
            return function

        return [term("result", [1.0, 0.0, 1.0]), term("consistency", [1.0, 1.0, None]), term("format", [1.0, 1.0, 0.0])]

    def total(self, *terms):
        return PreferenceReward(judge=RuleJudge()).total(*terms)

    def right(self, *terms):
        return terms[0] == 1

    def start(self, texts, **columns):
        pass


def test_the_trainer_fills_the_total_as_a_product(make_trainer):
    """1 (1 + 0.5) + 0.5 = 2; 0 (1 + 0.5) + 0.5 = 0.5, where a sum would give more; 1 (1 + 0) + 0 = 1."""
    trainer = make_trainer(FixedTerms())
    rollout(trainer)
    assert list(trainer._logs["rewards"]["total"])[-16:] == ([2.0, 0.5, 1.0] * 6)[:16]
    assert trainer.reward_func_names == ["result", "consistency", "format", "total"]
    assert trainer._metrics["train"]["reward"][-1] == pytest.approx(sum(([2.0, 0.5, 1.0] * 6)[:16]) / 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"advantage_estimator": "leave_one_out"},
        {"advantage_estimator": "reinforce_plus_plus_baseline"},
        {"advantage_estimator": "group", "scale_advantages": False, "loss_type": "dr_grpo"},
        {"advantage_estimator": "group", "loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True},
        {"advantage_estimator": "group", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
        {"advantage_estimator": "group", "loss_type": "cispo", "epsilon_high": 5.0},
        {"num_generations": 1},
        {"epsilon": math.inf},
    ],
    ids=["rloo", "reinforce++ baseline", "dr_grpo", "dapo", "gspo", "cispo", "reinforce++", "no clip"],
)
def test_every_baseline_takes_finite_steps(make_trainer, changes):
    trainer = make_trainer(pre_clip=False, advantage_filter="none", max_steps=2, learning_rate=1e-3, **changes)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    if not changes.get("mask_truncated_completions"):  # an untrained model hardly ever ends a completion
        assert any(not torch.equal(before[name], value) for name, value in trainer.model.named_parameters())


def test_right_padding_is_refused(make_model, make_arguments, dataset, processor):
    processor.tokenizer.padding_side = "right"
    try:
        with pytest.raises(ValueError, match="pad on the left"):
            StableReinforceTrainer(
                model=make_model(),
                reward_funcs=letters,
                args=make_arguments(),
                train_dataset=dataset,
                processing_class=processor,
            )
    finally:
        processor.tokenizer.padding_side = "left"


class Watched(RuleJudge):
    """A judge that writes down when it is started and when it is asked, between the passes of the model."""

    def __init__(self, events: list[str]):
        self.events = events

    def start(self, reasonings, choices):
        self.events.append(f"start {len(reasonings)}")

    def __call__(self, reasonings, choices):
        self.events.append(f"ask {len(reasonings)}")
        return super().__call__(reasonings, choices)


def test_the_judge_works_while_the_old_policy_and_the_reference_are_computed(make_trainer, make_model, tmp_path, monkeypatch):
    make_model().save_pretrained(tmp_path / "model")
    model, events = type(make_model()).from_pretrained(tmp_path / "model"), []
    trainer = make_trainer(PreferenceReward(judge=Watched(events)), model=model, beta=0.1, num_iterations=2)
    passes = trainer._get_per_token_logps_and_entropies
    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", lambda *a, **k: events.append("pass") or passes(*a, **k))
    right = "<think>So response {0} is better.</think><answer>{0}</answer>"
    texts = {number: trainer.processing_class.tokenizer(right.format(number)).input_ids for number in (1, 2)}
    inputs = next(iter(trainer.get_train_dataloader()))
    generate = trainer._generate_single_turn

    def answer(prompt_ids, *args, **kwargs):
        generate(prompt_ids, *args, **kwargs)
        return [texts[row["label"]] for row in inputs], None

    monkeypatch.setattr(trainer, "_generate_single_turn", answer)
    trainer.model.train()
    trainer._generate_and_score_completions(inputs)
    assert events == ["start 16", "pass", "pass", "ask 16"]
    assert trainer._metrics["train"]["rewards/consistency/mean"] == [1.0]
    assert trainer._metrics["train"]["judge/failure_rate"] == [0.0]


def test_a_mixed_batch_is_scored_by_task(make_trainer, rows):
    """Preference pairs and questions with an answer in one dataset: each term has its rows, all are in the metrics."""
    words = [TaskRow(f"w{n}", rows[n].images * (n % 3), "Say it.", "o", "word") for n in range(8)]
    dataset = training_dataset([row for pair in zip(rows, words, strict=False) for row in pair])

    def has(completions, solution, **columns):
        return [float(s in c[0]["content"]) for c, s in zip(completions, solution, strict=True)]

    tasks = {"preference": PreferenceReward(judge=RuleJudge()), "word": TaskReward([Term("has", has)])}
    seen = []
    trainer = make_trainer(RoutedReward(tasks), on_rollouts=seen.append, train_dataset=dataset)
    trainer.train()
    logged = {key for entry in trainer.state.log_history for key in entry}
    assert {"rewards/preference/result/mean", "rewards/preference/format/mean", "rewards/word/has/mean"} <= logged
    assert {"preference/verdict/no_think", "word/has/failed"} <= logged
    for rollouts in seen:
        for row, has_it, formatted, reward in zip(
            rollouts.rows, rollouts.terms["word/has"], rollouts.terms["preference/format"], rollouts.rewards, strict=True
        ):
            assert math.isnan(has_it) == (row["task"] == "preference")
            assert math.isnan(formatted) == (row["task"] == "word")
            assert reward == (has_it if row["task"] == "word" else 0.5 * formatted)
