"""A run on a path that is made blind on purpose stops before anything is learnt from it."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig

import r1reward.shared_prefix.packing as packing
import r1reward.trainer.shared_prefix as shared
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.models.image_check import ImagesNotSeen
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
