"""One precision for each purpose: with `bf16` over float32 weights everything that a run computes is computed in bfloat16."""

import pytest
import torch

from r1reward.configs import compose_settings
from r1reward.inference.backend import Sampling
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.trainer.job import Job
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.reference_config import composed
from tests.trainer.conftest import letters

HALF = torch.bfloat16


def watch(model) -> dict[str, set]:
    """Data types in which the vision tower and the language model compute, from now on."""
    seen = {"vision": set(), "language": set()}
    parts = {"vision": model.model.visual.blocks[0].attn.qkv, "language": model.model.language_model.layers[0].self_attn.q_proj}
    for name, layer in parts.items():
        layer.register_forward_hook(lambda module, args, output, name=name: seen[name].add(output.dtype))
    return seen


@pytest.mark.parametrize("share_prefix", [True, False])
def test_rollouts_and_passes(make_model, make_arguments, processor, dataset, tmp_path, share_prefix):
    make_model().save_pretrained(tmp_path / "model")
    trainer = StableReinforceTrainer(
        model=type(make_model()).from_pretrained(tmp_path / "model"),
        reward_funcs=letters,
        args=make_arguments(bf16=True, beta=0.04, share_prefix=share_prefix, max_steps=2),
        train_dataset=dataset,
        processing_class=processor,
    )
    policy, reference = watch(trainer.model), watch(trainer.ref_model)
    trainer.train()
    assert policy == reference == {"vision": {HALF}, "language": {HALF}}
    assert trainer.model.dtype == torch.float32  # the weights, and so the optimiser's steps


@pytest.mark.parametrize("autocast", [None, HALF])
def test_evaluation(make_model, processor, rows, autocast):
    """Prompt, completion and image alike."""
    model = make_model()
    seen = watch(model)
    TransformersBackend(model, processor, autocast=autocast).complete(rows[:2], 1, Sampling(4), seed=0)
    assert seen == {name: {autocast or torch.float32} for name in seen}


def test_a_run_evaluates_before_and_after_in_one_precision(tmp_path):
    """With a learning rate of 0 nothing may differ."""
    config = composed(
        "trainer.bf16=true", "trainer.learning_rate=0", "trainer.max_steps=2", "trainer.save_model=false", "logger=none",
        "data.num_train=64", "data.num_eval=40", "trainer.rollout_batch_size=16", "trainer.train_batch_size=8",
        "trainer.micro_batch_size=8", "algorithm.num_generations=2",
    )  # fmt: skip
    config.arm = "test"
    results = Job.prepare(compose_settings(config), tmp_path, "a test").run()["evaluation"]
    assert results["before"] == results["after"] != {}
