"""A chat template that opens <think> itself: rewards, samples and targets have what it opens."""

import copy
import warnings

import pytest
import torch

from r1reward.inference.unreadable import Unreadable
from r1reward.rewards.preference import PreferenceReward
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from r1reward.trainer.supervised import SupervisedTrainer
from tests.inference.test_written import CHATML

REST = "So it is.</think><answer>1</answer>"


@pytest.fixture
def thinking(processor):
    own = copy.copy(processor)
    own.chat_template = CHATML + "{{ '<think>\\n' }}{% endif %}"
    return own


class Writes(StableReinforceTrainer):
    """A policy that goes on as it should, whatever it was asked."""

    text = REST

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        ids, _ = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        end = self._tokenizer.eos_token_id
        return [[*self._tokenizer(self.text, add_special_tokens=False)["input_ids"], end] for _ in ids], None


@pytest.mark.parametrize("share_prefix", [True, False])
def test_rewards_and_samples_see_the_opening(make_model, make_arguments, thinking, dataset, share_prefix):
    seen = []
    arguments = make_arguments(max_steps=1, share_prefix=share_prefix, max_completion_length=64)
    reward = PreferenceReward(consistency_weight=0)
    trainer = Writes(make_model(), reward, arguments, dataset, processing_class=thinking, on_rollouts=seen.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Unreadable)
        trainer.train()
    assert seen[0].completions == ["<think>\n" + REST] * 16
    assert trainer.state.log_history[0]["rewards/format/mean"] == 1.0
    assert 0 < trainer.state.log_history[0]["rewards/result/mean"] < 1  # half of the labels are 1


def test_functions_of_trls_form_see_it_too(make_model, make_arguments, thinking, dataset):
    seen = []

    def look(completions, **columns):
        seen.extend(completion[0]["content"] for completion in completions)
        return [0.0] * len(completions)

    Writes(make_model(), look, make_arguments(max_steps=1), dataset, processing_class=thinking).train()
    assert seen == ["<think>\n" + REST] * 16


@pytest.mark.parametrize("text", ["no verdict", "<answer>1", "<think>on and on"])
def test_rollouts_that_cannot_be_read_are_told_of(make_model, make_arguments, processor, dataset, text):
    trainer = Writes(make_model(), PreferenceReward(consistency_weight=0), make_arguments(max_steps=4), dataset,
                     processing_class=processor)  # fmt: skip
    trainer.text = text
    with pytest.warns(Unreadable) as caught:
        trainer.train()
    assert len([one for one in caught if issubclass(one.category, Unreadable)]) == 1


def test_a_supervised_target_leaves_out_what_is_opened(make_model, make_arguments, thinking, dataset):
    seen = []
    arguments = make_arguments(
        num_generations=1, advantage_filter="none", pre_clip=False, max_steps=1, max_completion_length=64
    )
    trainer = SupervisedTrainer(
        make_model(),
        PreferenceReward(consistency_weight=0),
        arguments,
        dataset,
        processing_class=thinking,
        target=lambda row: f"<think></think><answer>{row['label']}</answer>",
        on_rollouts=seen.append,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    with torch.no_grad():
        made = trainer._generate_and_score_completions(batch)
    sampled = thinking.tokenizer.decode(made["completion_ids"][0], skip_special_tokens=True)
    assert sampled.startswith("</think><answer>")
    assert seen[0].completions[0] == "<think>\n" + sampled
    assert all(seen[0].right)
