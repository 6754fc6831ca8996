"""What the vision tower gave for sampling is used again only where it is what would be computed.

A tower that trains (whole, or by adapters) may give its features to the old policy's pass. The reference has weights of its
own, and the update needs the tower's gradients: both look at the images themselves.
"""

import pytest
import torch
from peft import LoraConfig

from r1reward.shared_prefix.prompts import encode_images
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters

KL = [{"beta": 0.1}, {"kl_in_reward": 0.1}]


@pytest.fixture
def base(make_model, tmp_path):
    """Loads the weights that training begins with."""
    make_model().save_pretrained(tmp_path / "base")
    return lambda: type(make_model()).from_pretrained(tmp_path / "base")


@pytest.fixture
def make_trainer(base, make_arguments, processor, dataset):
    def make(adapters=False, **changes):
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "qkv"])  # the last is the vision tower's
        trainer = StableReinforceTrainer(
            model=base(),
            reward_funcs=letters,
            args=make_arguments(advantage_filter="none", **changes),
            train_dataset=dataset,
            processing_class=processor,
            peft_config=lora if adapters else None,
        )
        trainer.current_gradient_accumulation_steps = 1  # set by `train()`, which these tests do not call
        return trainer

    return make


def rollout(trainer) -> dict:
    trainer.model.train()
    return trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))


def change_vision(model, part: str = ""):
    """Move the weights of the vision tower whose names hold `part`, so that it sees something else."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".visual." in name and part in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def plain_log_probs(model, batch: dict) -> torch.Tensor:
    """Of the completions' tokens (B, T) under `model`, by one plain forward pass over whole rows with their pixels."""
    prompts = [batch["groups"].prompts[owner] for owner in batch["groups"].prompt_of_row]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    logits = model(
        input_ids=ids,
        attention_mask=torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
        pixel_values=torch.cat([prompt.pixels for prompt in prompts]),
        image_grid_thw=torch.cat([prompt.grid for prompt in prompts]),
    ).logits
    every = torch.log_softmax(logits[:, :-1].float(), -1).gather(-1, ids[:, 1:, None])[..., 0]
    return every[:, -batch["completion_ids"].shape[1] :] * batch["completion_mask"]


def assert_as_computed_plainly(batch: dict, policy, reference):
    expected = {"old_per_token_logps": plain_log_probs(policy, batch), "ref_per_token_logps": plain_log_probs(reference, batch)}
    assert (expected["old_per_token_logps"] - expected["ref_per_token_logps"]).abs().max() > 0.01
    for name, log_probs in expected.items():
        torch.testing.assert_close(batch[name] * batch["completion_mask"], log_probs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kl", KL, ids=["KL in the loss", "KL in the reward"])
def test_the_reference_of_an_adapted_vision_tower_is_the_base_model(make_trainer, base, kl):
    """It is the policy's own model with its adapters switched off, those of the vision tower too."""
    trainer = make_trainer(adapters=True, **kl)
    assert trainer.ref_model is None
    change_vision(trainer.model, "lora_B")
    batch = rollout(trainer)
    assert_as_computed_plainly(batch, trainer.model, base())


@pytest.mark.parametrize("kl", KL, ids=["KL in the loss", "KL in the reward"])
def test_the_reference_of_a_trained_vision_tower_sees_by_its_own(make_trainer, base, kl):
    """As soon as the policy's has moved away from the reference's."""
    trainer = make_trainer(**kl)
    change_vision(trainer.model)
    batch = rollout(trainer)
    assert_as_computed_plainly(batch, trainer.model, base())


@pytest.mark.parametrize("adapters", [False, True])
def test_features_that_lie_with_the_prompts_do_not_keep_the_vision_tower_from_its_gradient(make_trainer, adapters):
    """The rollout batch drops them; the update must not rely on that, because a gradient that is missing shows nowhere."""
    trainer = make_trainer(adapters)
    change_vision(trainer.model, "lora_B" if adapters else "")
    batch = rollout(trainer)
    batch["advantages"] = torch.linspace(-1, 1, 16)
    gradients = []
    for features in (False, True):
        if features:
            encode_images(trainer._backbone(), batch["groups"].prompts)
        trainer.model.zero_grad()
        trainer._compute_loss(trainer.model, dict(batch)).backward()
        gradients.append({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})
    assert any(".visual." in name and value.abs().max() > 0 for name, value in gradients[0].items())
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, msg=lambda text, name=name: f"{name}: {text}")
