"""Rows with and without images in one rollout batch of one process; those on several are scenarios of `test_same_on_two`."""

import torch

from tests.several_processes.scenarios import IN_ORDER, PLAIN, Scenario, images_per_row, make_trainer


def test_they_train_without_shared_prefixes_too(prepared_folder):
    """TRL hands the processor a None among the images and calls the vision tower for rows without; neither happens here."""
    gradients = []
    for changes in (IN_ORDER, PLAIN | IN_ORDER):
        trainer = make_trainer(Scenario(changes, rows=images_per_row(1, 0), steps=1), prepared_folder)
        trainer.train()
        gradients.append(trainer.record["gradients"][0])
    shared, plain = gradients
    largest = max(float(gradient.abs().max()) for gradient in shared.values())
    assert shared.keys() == plain.keys() and largest > 0
    for name, gradient in shared.items():  # TRL's positions of a row without images depend on its padding: rotary angles differ
        torch.testing.assert_close(plain[name], gradient, atol=1e-5 * largest, rtol=0)


def test_text_alone_trains_without_shared_prefixes(prepared_folder):
    trainer = make_trainer(Scenario(PLAIN | IN_ORDER, rows=images_per_row(0), steps=1), prepared_folder)
    trainer.train()
    assert trainer.state.global_step == 1
