"""What the trainer relies on in TRL 1.16: names, signatures, the keys of a rollout batch. A release that moves them fails."""

import inspect

import pytest
from transformers import GenerationMixin
from transformers.modeling_utils import PreTrainedModel
from trl import GRPOTrainer

from r1reward.trainer.resumable import ResumableTrainer
from r1reward.trainer.shared_prefix import SharedPrefixTrainer
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters

GENERATE = ["self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"]


@pytest.mark.parametrize(
    ("trainer", "hook", "parameters"),
    [
        (StableReinforceTrainer, "_generate_and_score_completions", ["self", "inputs"]),
        (
            StableReinforceTrainer,
            "_calculate_rewards",
            ["self", "inputs", "prompts", "completions", "completion_ids_list"],
        ),
        (StableReinforceTrainer, "_compute_loss", ["self", "model", "inputs"]),
        (StableReinforceTrainer, "training_step", ["self", "model", "inputs", "num_items_in_batch"]),
        (ResumableTrainer, "_load_from_checkpoint", ["self", "resume_from_checkpoint", "model"]),
        (ResumableTrainer, "_load_rng_state", ["self", "checkpoint"]),
        (ResumableTrainer, "_save_rng_state", ["self", "output_dir"]),
        (ResumableTrainer, "_save_checkpoint", ["self", "model", "trial"]),
        (ResumableTrainer, "_get_output_dir", ["self", "trial"]),
        (ResumableTrainer, "_get_train_sampler", ["self", "dataset"]),
        (ResumableTrainer, "_prepare_inputs", ["self", "generation_batch"]),
        (SharedPrefixTrainer, "_generate_and_score_completions", ["self", "inputs"]),
        (SharedPrefixTrainer, "_tokenize_prompts", ["self", "prompts"]),
        (SharedPrefixTrainer, "_generate_single_turn", GENERATE),
        (SharedPrefixTrainer, "_prepare_inputs", ["self", "generation_batch"]),
        (SharedPrefixTrainer, "_compute_loss", ["self", "model", "inputs"]),
    ],
)
def test_hooks_keep_their_signatures(trainer, hook, parameters):
    assert list(inspect.signature(getattr(GRPOTrainer, hook)).parameters) == parameters
    assert hook in vars(trainer)


def test_an_epoch_is_given_by_name():
    """`ResumableTrainer._run_epoch` takes the epoch out of what the stock loop calls it with."""
    assert "epoch" in inspect.signature(GRPOTrainer._run_epoch).parameters
    source = inspect.getsource(GRPOTrainer._inner_training_loop)
    assert "self._run_epoch(" in source and "epoch=epoch," in source


@pytest.mark.parametrize("trainer", [SharedPrefixTrainer, StableReinforceTrainer])
def test_log_probabilities_come_first(trainer):
    hook = GRPOTrainer._get_per_token_logps_and_entropies
    assert list(inspect.signature(hook).parameters)[:6] == [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size",
    ]  # fmt: skip
    assert "_get_per_token_logps_and_entropies" in vars(trainer)


def test_names_that_shared_prompts_rely_on(make_model, make_arguments, processor, dataset):
    """Attributes of a trainer, arguments of `generate` and of the attention that carry shared prompts."""
    trainer = StableReinforceTrainer(
        model=make_model(), reward_funcs=letters, args=make_arguments(), train_dataset=dataset, processing_class=processor
    )
    for name in ("tools", "environment_factories", "rollout_func", "use_vllm", "vllm_mode", "num_generations_eval"):
        assert hasattr(trainer, name), name
    assert trainer._buffered_inputs is None and trainer._step == 0
    assert "custom_generate" in inspect.signature(GenerationMixin.generate).parameters
    assert "attn_implementation" in inspect.signature(PreTrainedModel.set_attn_implementation).parameters
    backbone = make_model().base_model
    assert hasattr(backbone, "visual") and hasattr(backbone, "get_image_features") and hasattr(backbone, "get_rope_index")


@pytest.mark.parametrize("share_prefix", [True, False])
def test_keys_of_a_rollout_batch(make_model, make_arguments, processor, dataset, share_prefix):
    trainer = StableReinforceTrainer(
        model=make_model(),
        reward_funcs=letters,
        args=make_arguments(share_prefix=share_prefix),
        train_dataset=dataset,
        processing_class=processor,
    )
    trainer.model.train()
    batch = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    images = {"groups"} if share_prefix else {"pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images"}
    assert set(batch) == images | {
        "prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch",
        "old_per_token_logps", "sampled_log_probs", "row_index",  # TRL's name for the second is for those of another engine
    }  # fmt: skip
