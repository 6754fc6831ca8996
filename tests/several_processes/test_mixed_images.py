"""Rows with and without images in one rollout batch of one process; those on several are scenarios of `test_same_on_two`."""

import pytest

from tests.several_processes.scenarios import IN_ORDER, PLAIN, Scenario, images_per_row, make_trainer


def test_without_shared_prefixes_they_are_refused_in_words(prepared_folder):
    """TRL hands the processor a None among the images, which it does not understand."""
    trainer = make_trainer(Scenario(PLAIN | IN_ORDER, rows=images_per_row(1, 0)), prepared_folder)
    with pytest.raises(ValueError, match="only trainer.share_prefix=true can process"):
        trainer.train()


def test_rows_of_one_kind_are_not_refused(prepared_folder):
    trainer = make_trainer(Scenario(PLAIN | IN_ORDER, rows=images_per_row(0), steps=1), prepared_folder)
    trainer.train()
    assert trainer.state.global_step == 1
