"""With both switches off and the estimator `group`, the trainer is stock `GRPOTrainer`, bit for bit."""

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from r1reward.data.images import decode_columns
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters


class StockTrainer(GRPOTrainer):
    """Stock, but for decoding the images, which its data set would have to hold decoded."""

    def _generate_and_score_completions(self, inputs):
        return super()._generate_and_score_completions(decode_columns(inputs))


def train(trainer):
    trainer.train()
    history = [
        {key: value for key, value in row.items() if key in ("loss", "grad_norm", "reward", "entropy")}
        for row in trainer.state.log_history
        if "loss" in row
    ]
    return history, {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_both_switches_off_equals_stock_grpo_bit_for_bit(make_model, make_arguments, processor, dataset, tmp_path, beta):
    model_path = tmp_path / "model"  # the reference model of a KL term is loaded from a folder
    make_model().save_pretrained(model_path)
    load = type(make_model()).from_pretrained
    stock_path = {"share_prefix": False, "keep_groups_together": False}
    shared = {"loss_type": "grpo", "use_bias_correction_kl": False, "beta": beta}
    stock = StockTrainer(
        model=load(model_path),
        reward_funcs=letters,
        args=make_arguments(GRPOConfig, **shared),
        train_dataset=dataset,
        processing_class=processor,
    )
    stock_history, stock_weights = train(stock)  # before the other is built: building one seeds the generators
    ours = StableReinforceTrainer(
        model=load(model_path),
        reward_funcs=letters,
        args=make_arguments(advantage_estimator="group", advantage_filter="none", pre_clip=False, **stock_path, **shared),
        train_dataset=dataset,
        processing_class=processor,
    )
    start = {name: value.clone() for name, value in ours.model.state_dict().items()}
    our_history, our_weights = train(ours)
    assert len(stock_history) == 4
    assert our_history == stock_history
    assert any(row["grad_norm"] > 0 for row in our_history)
    for name, value in stock_weights.items():
        assert torch.equal(value, our_weights[name]), name
    assert any(not torch.equal(value, our_weights[name]) for name, value in start.items())
