"""Rollouts from real vLLM beside the trainer: the same prompts, images, weights and tokens as the trainer's own."""

from dataclasses import replace

import pytest
import torch

from r1reward.data.build import training_dataset
from r1reward.models.image_check import ImagesNotSeen
from r1reward.models.loading import load_model
from r1reward.rewards.verdict import parse
from r1reward.trainer.sampler_mismatch import SamplerMismatch
from tests.vllm.conftest import EMBEDDED, first_batch, gap


def texts(trainer, batch) -> list[str]:
    return trainer.processing_class.batch_decode(batch["completion_ids"], skip_special_tokens=True)


def test_the_sampler_is_the_policy(make_trainer):
    """In float32: the largest difference of all sampled tokens is below 1e-4 nats, and every rollout is well-formed."""
    trainer = make_trainer()
    batch = first_batch(trainer)
    assert gap(batch).max() < 1e-4
    assert all(parse(text).ok for text in texts(trainer, batch))
    logged = trainer._metrics["train"]
    assert logged["sampling/sampling_logp_difference/max"] == [pytest.approx(gap(batch).max().item())]


def test_greedy_tokens_are_those_of_transformers(make_trainer, rows):
    """For 32 prompts, whichever samples: the likeliest token at each step."""
    greedy = {"top_k": 1, "num_generations": 1, "steps_per_generation": 2, "max_completion_length": 32}
    ours = make_trainer(use_vllm=False, data=rows, **greedy)
    prompts = list(training_dataset(rows))
    expected = first_batch(ours, prompts)["completion_ids"].tolist()
    found = first_batch(make_trainer(data=rows, **greedy), prompts)["completion_ids"].tolist()
    assert len(found) == 32 and found == expected


def test_rows_with_two_images_one_and_none(make_trainer, rows):
    """Each prompt goes to the engine once, with its images, and every row gets a completion of its own prompt."""
    mixed = [
        replace(rows[0], images=rows[0].images + rows[1].images),
        rows[1],
        replace(rows[2], images=()),
        rows[3],
        *rows[4:8],
    ]
    trainer = make_trainer(data=mixed, vllm_engine_kwargs=None)
    sent = []
    engine = trainer.vllm_generation.llm
    plain = engine.generate
    engine.generate = lambda prompts, **options: sent.append(prompts) or plain(prompts, **options)
    batch = first_batch(trainer)
    (prompts,) = sent
    assert len(prompts) == 8 and len(batch["completion_ids"]) == 32
    marks = [trainer.model.config.image_token_id in prompt["prompt_token_ids"] for prompt in prompts]
    assert sum(marks) == 7
    assert gap(batch).max() < 0.1


@torch.no_grad()
def perturb(model, share: float = 0.05):
    """Move all weights, those of the vision tower too."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter += share * parameter.abs().mean() * torch.randn_like(parameter)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_new_weights_reach_the_engine(make_trainer, dtype):
    """The same images again, after all weights moved: the engine may use nothing that it encoded before."""
    trainer = make_trainer(dtype=dtype)
    rows = next(iter(trainer.get_train_dataloader()))
    first = gap(first_batch(trainer, rows))
    perturb(trainer.model)
    trainer.state.global_step += 1
    second = gap(first_batch(trainer, rows))
    bound = {"float32": 1e-4, "bfloat16": 0.5}[dtype]
    assert first.max() < bound and second.max() < bound
    assert second.mean() < 3 * first.mean() + 1e-6


def test_an_encoder_cache_that_is_kept_shows(make_trainer):
    """Why it is emptied: old features make another policy."""
    trainer = make_trainer()
    rows = next(iter(trainer.get_train_dataloader()))
    first_batch(trainer, rows)
    engine = trainer.vllm_generation.llm.llm_engine
    perturb(trainer.model)
    encoded = dict(engine.model_executor.driver_worker.model_runner.encoder_cache)
    assert encoded, "the engine has no encoder cache any more: emptying it is superfluous"


def test_prompts_with_images_written_out_are_refused(make_trainer):
    """TRL's own way: the engine would write them out once more."""
    trainer = make_trainer()
    trainer.vllm_generation.expect = lambda written: None
    with pytest.raises(ImagesNotSeen):
        first_batch(trainer)


def test_a_sampler_with_other_weights_is_told(make_trainer):
    trainer = make_trainer()
    trainer.checks.due = False
    trainer.vllm_generation.sync_weights = lambda: None
    perturb(trainer.model, 0.3)
    with pytest.warns(SamplerMismatch):
        batch = first_batch(trainer)
    assert gap(batch).mean() > 1e-3


def test_a_sampler_without_images_ends_the_run(make_trainer):
    trainer = make_trainer()
    plain = trainer.vllm_generation.llm.generate

    def blind(prompts, **options):
        for prompt in prompts:
            prompt["multi_modal_data"] = {"image": prompt["multi_modal_data"]["image"].point(lambda value: 0)}
        return plain(prompts, **options)

    trainer.vllm_generation.llm.generate = blind
    with pytest.raises(ImagesNotSeen):
        first_batch(trainer)


def test_image_tokens_are_never_sampled(make_trainer):
    """Even where the policy likes nothing better."""
    model = load_model(EMBEDDED)
    image = model.config.image_token_id
    trainer = make_trainer(model=model, temperature=2.0)
    with torch.no_grad():
        model.get_output_embeddings().weight[image] = 3 * model.get_output_embeddings().weight.mean(0)
    batch = first_batch(trainer)
    assert not (batch["completion_ids"] == image).any()


def test_training_goes_on_with_what_was_sampled(make_trainer):
    trainer = make_trainer(dtype="bfloat16", max_steps=4)
    trainer.train()
    logs = [row for row in trainer.state.log_history if "sampling/sampling_logp_difference/mean" in row]
    assert len(logs) == 2 and all(row["sampling/sampling_logp_difference/mean"] < 2e-2 for row in logs)
