"""A run on a path that is made blind on purpose stops before anything is learnt from it."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig

import r1reward.shared_prefix.packing as packing
import r1reward.trainer.shared_prefix as shared
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.models.image_check import ImagesNotSeen, PlainLogProbs, check
from r1reward.trainer.sampler_mismatch import MismatchWarnings, SamplerMismatch
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, dataset, tmp_path):
    def make(peft_config=None, **changes):
        make_model().save_pretrained(tmp_path / "model")  # where a reference model finds it
        model = type(make_model()).from_pretrained(tmp_path / "model")
        return StableReinforceTrainer(
            model=model,
            reward_funcs=letters,
            args=make_arguments(**({"max_steps": 2} | changes)),
            train_dataset=dataset,
            processing_class=processor,
            peft_config=peft_config,
        )

    return make


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 0.04},
        {"gradient_accumulation_steps": 2, "pre_clip": False},
        {"peft_config": LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.5), "beta": 0.04},
    ],
    ids=["off policy", "reference", "on policy", "adapters with dropout"],
)
def test_a_sound_run_passes(make_trainer, share_prefix, changes):
    trainer = make_trainer(share_prefix=share_prefix, **changes)
    trainer.train()
    assert not trainer.checks.due
    differences = [x for row in trainer.state.log_history for name, x in row.items() if "logp_difference/mean" in name]
    assert differences and max(differences) < 0.03  # the share of the image token, which a random model likes and none draws


def drop_features(monkeypatch):
    """What transformers before 5.18 does with features."""
    monkeypatch.setattr(packing, "image_arguments", lambda prompts, use_features: {})


def zero_pixels(monkeypatch):
    make = shared.make_prompts
    blank = lambda prompt: replace(prompt, pixels=torch.zeros_like(prompt.pixels))  # noqa: E731
    monkeypatch.setattr(shared, "make_prompts", lambda *args: [blank(prompt) for prompt in make(*args)])


def drop_features_in_updates(monkeypatch):
    plain = packing.image_arguments
    monkeypatch.setattr(packing, "image_arguments", lambda *args: {} if torch.is_grad_enabled() else plain(*args))


def drop_features_outside_of_sampling(monkeypatch):
    """What the released code of R1-Reward does: rollouts see images, old policy and updates do not."""
    plain = shared.pack
    blind = lambda prompt: replace(prompt, pixels=None, features=None, grid=None)  # noqa: E731
    monkeypatch.setattr(shared, "pack", lambda prompts, *a, **k: plain([blind(prompt) for prompt in prompts], *a, **k))


@pytest.mark.parametrize(
    "make_blind", [drop_features, zero_pixels, drop_features_in_updates, drop_features_outside_of_sampling]
)
@pytest.mark.parametrize(
    "changes", [{}, {"gradient_accumulation_steps": 2, "pre_clip": False}], ids=["off policy", "on policy"]
)
def test_shared_prompts_made_blind_end_the_run(make_trainer, monkeypatch, make_blind, changes):
    make_blind(monkeypatch)
    trainer = make_trainer(**changes)
    start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(ImagesNotSeen):
        trainer.train()
    assert all(torch.equal(start[name], value) for name, value in trainer.model.state_dict().items())


class WithoutPixels(StableReinforceTrainer):
    """One pass of TRL's way without its images."""

    blind = "old policy"

    def _log_probs_of_padded_rows(self, model, *args, **kwargs):
        of = "reference" if model is self.ref_model else "update" if torch.is_grad_enabled() else "old policy"
        if of == self.blind:
            kwargs["pixel_values"] = kwargs["image_grid_thw"] = None
        return super()._log_probs_of_padded_rows(model, *args, **kwargs)


@pytest.mark.parametrize("blind", ["old policy", "reference", "update"])
def test_each_pass_of_trls_way_made_blind_ends_the_run(make_trainer, blind):
    trainer = make_trainer(share_prefix=False, beta=0.04)
    trainer.__class__ = type("Blind", (WithoutPixels,), {"blind": blind})
    with pytest.raises(ImagesNotSeen, match=blind):
        trainer.train()


def test_a_reference_made_blind_ends_the_run(make_trainer, monkeypatch):
    """With shared prompts."""
    trainer = make_trainer(beta=0.04)
    plain = shared.pack
    blind = lambda prompt: replace(prompt, pixels=torch.zeros_like(prompt.pixels), features=None)  # noqa: E731

    def pack(prompts, *args, use_features):
        return plain(prompts if use_features else [blind(prompt) for prompt in prompts], *args, use_features=use_features)

    monkeypatch.setattr(shared, "pack", pack)
    with pytest.raises(ImagesNotSeen, match="reference"):
        trainer.train()


def test_a_processor_that_drops_images_ends_the_run(make_trainer, monkeypatch, processor):
    preprocess = type(processor.image_processor).preprocess

    def blank(self, *args, **kwargs):
        output = preprocess(self, *args, **kwargs)
        output["pixel_values"] = torch.zeros_like(output["pixel_values"])
        return output

    monkeypatch.setattr(type(processor.image_processor), "preprocess", blank)
    with pytest.raises(ImagesNotSeen):
        make_trainer().train()


def test_an_argument_that_the_model_would_swallow_is_told(make_trainer, processor, monkeypatch):
    call = type(processor).__call__
    monkeypatch.setattr(type(processor), "__call__", lambda self, *a, **k: call(self, *a, **k) | {"pixel_masks": torch.ones(1)})
    with pytest.raises(ImagesNotSeen, match="pixel_masks"):
        make_trainer().train()


def test_evaluation_made_blind_is_refused(make_model, processor, rows, monkeypatch):
    backend = TransformersBackend(make_model(), processor)
    backend.check_images(rows[0])
    drop_features(monkeypatch)
    with pytest.raises(ImagesNotSeen):
        backend.check_images(rows[0])


def test_the_next_start_looks_again(make_trainer, monkeypatch):
    """A run that is taken up on another machine, with other versions, may be blind there."""
    make_trainer(save_strategy="steps", save_steps=2, max_steps=2).train()
    drop_features(monkeypatch)
    with pytest.raises(ImagesNotSeen):
        make_trainer(save_strategy="steps", save_steps=2, max_steps=4).train(resume_from_checkpoint=True)


def test_mismatch_is_told_once_and_when_it_doubles():
    warnings = MismatchWarnings(half_precision=False)
    warnings.saw(9e-4, 1)
    for mean, told in [(2e-3, True), (3e-3, False), (4.1e-3, True), (8e-3, False)]:
        if told:
            with pytest.warns(SamplerMismatch, match=f"{mean:.2g}"):
                warnings.saw(mean, 2)
        else:
            warnings.saw(mean, 2)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("effect", "told"), [(0.5, True), (0.1, True), (0.015, False), (0.0005, False)])
def test_a_path_that_shows_other_images_is_found_however_little_they_change(half, effect, told):
    own = torch.full((8,), -1.0)
    expected = PlainLogProbs(own, own - effect, own)
    with pytest.raises(ImagesNotSeen):
        check("the path", own - effect, expected, half)
    assert check("the path", own + 1e-4, expected, half) is (told or (not half and effect == 0.015))


@pytest.mark.parametrize("own", [-1.0, -torch.inf])
def test_rows_that_tell_nothing_pass(own):
    own = torch.full((4,), own)
    assert not check("the path", torch.full((4,), torch.nan), PlainLogProbs(own, own - 1, own))  # no log-probabilities
    assert not check("the path", own.nan_to_num(), PlainLogProbs(own.nan_to_num(), None, own.nan_to_num()))  # no image


def test_a_row_without_an_image_is_compared_all_the_same():
    own = torch.full((4,), -1.0)
    with pytest.raises(ImagesNotSeen):
        check("the path", own - 0.1, PlainLogProbs(own, None, own))


def test_the_first_batch_with_images_is_the_one_that_is_looked_at(make_trainer, monkeypatch):
    """Rows without an image, however many batches of them, leave the check to come."""
    trainer = make_trainer()
    seen = trainer.checks.saw_rollouts
    batches = []

    def saw(rows, batch):
        batches.append(len(batches))
        if len(batches) < 2:
            text = [{**row, "images": [], "prompt": [{"role": "user", "content": "Which is it?"}]} for row in rows]
            seen(text, batch)
            assert trainer.checks.due
        else:
            seen(rows, batch)

    monkeypatch.setattr(trainer.checks, "saw_rollouts", saw)
    trainer.args.max_steps = 4
    trainer.train()
    assert len(batches) >= 2 and not trainer.checks.due


def test_a_penalty_on_repetition_is_no_blindness(make_trainer):
    trainer = make_trainer(repetition_penalty=2.0)
    trainer.train()
    assert not any("logp_difference" in name for row in trainer.state.log_history for name in row)


def test_what_tools_answered_is_not_compared():
    from r1reward.trainer.rollout_checks import own_tokens

    mask, of_policy = torch.tensor([[1, 1, 1, 0]]), torch.tensor([[1, 0, 1, 1]])
    assert own_tokens({"completion_mask": mask, "tool_mask": of_policy}).tolist() == [[1, 0, 1, 0]]
    assert own_tokens({"completion_mask": mask}).tolist() == [[1, 1, 1, 0]]
