"""What the trainer relies on in TRL 1.16: names, signatures, the keys of a rollout batch. A release that moves them fails."""

import inspect

import pytest
from trl import GRPOTrainer

from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters


@pytest.mark.parametrize(
    ("hook", "parameters"),
    [
        ("_generate_and_score_completions", ["self", "inputs"]),
        ("_calculate_rewards", ["self", "inputs", "prompts", "completions", "completion_ids_list"]),
        ("_compute_loss", ["self", "model", "inputs"]),
        ("_load_from_checkpoint", ["self", "resume_from_checkpoint", "model"]),
    ],
)
def test_hooks_keep_their_signatures(hook, parameters):
    assert list(inspect.signature(getattr(GRPOTrainer, hook)).parameters) == parameters
    assert hook in vars(StableReinforceTrainer)


def test_log_probabilities_come_first():
    hook = GRPOTrainer._get_per_token_logps_and_entropies
    assert list(inspect.signature(hook).parameters)[:5] == [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep",
    ]  # fmt: skip


def test_keys_of_a_rollout_batch(make_model, make_arguments, processor, dataset):
    trainer = StableReinforceTrainer(
        model=make_model(),
        reward=letters,
        args=make_arguments(share_prefix=False),
        train_dataset=dataset,
        processing_class=processor,
    )
    trainer.model.train()
    batch = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    assert {
        "prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch",
        "old_per_token_logps", "pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images",
    } <= set(batch)  # fmt: skip
