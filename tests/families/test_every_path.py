"""Never blind: every path gives the log-probabilities of a plain call for each row alone, and other images change them."""

import pytest
import torch

from r1reward.inference.backend import Sampling
from r1reward.inference.sampled_log_probs import SampledLogProbs
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.models.image_check import image_tokens
from r1reward.shared_prefix.register import why_not
from r1reward.trainer.sampler_mismatch import SAMPLED
from tests.families.conftest import log_probs_alone, rec_rows
from tests.families.test_training import agree, differ, other

ROWS = (1, 2, 0, 1)  # images of each row


@pytest.mark.parametrize("share_prefix", [True, False])
def test_sampler_old_policy_reference_and_update(tiny, share_prefix, tmp_path):
    if share_prefix and why_not(tiny.model()) is not None:
        share_prefix = False  # as a run of this family would be
    rows = rec_rows(ROWS)
    trainer = tiny.trainer(
        tmp_path, rows, share_prefix=share_prefix, beta=0.04, generation_kwargs={}, per_device_train_batch_size=8,
        steps_per_generation=1, num_iterations=2,
    )  # fmt: skip
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = next(iter(trainer.get_train_dataloader()))
    batch = trainer._generate_and_score_completions(inputs)
    by_id = {row.id: row for row in rows}
    rows = [by_id[row["id"]] for row in inputs]
    completions = [ids[: int(n)] for ids, n in zip(batch["completion_ids"], batch["completion_mask"].sum(1), strict=True)]
    own, swapped = (
        [log_probs_alone(trainer.model, tiny.processor, row, ids) for row, ids in zip(some, completions, strict=True)]
        for some in (rows, [other(row) for row in rows])
    )
    differ(rows, own, swapped)
    never = tiny.model().config.image_token_id
    drawn = [
        log_probs_alone(trainer.model, tiny.processor, row, ids, never) for row, ids in zip(rows, completions, strict=True)
    ]
    agree(batch[SAMPLED], drawn)
    for path in ("old_per_token_logps", "ref_per_token_logps"):
        agree(batch[path], own)
    seen = []
    trainer.checks.saw_update = lambda inputs, log_probs: seen.append(log_probs)
    trainer._compute_loss(trainer.model, batch)
    agree(seen[0], own)


def test_evaluation(tiny):
    model = tiny.model().eval()
    backend = TransformersBackend(model, tiny.processor)
    for row in rec_rows(ROWS):
        record = SampledLogProbs(1.0)
        with torch.no_grad():
            (ids,) = backend._generate([row], 1, Sampling(4), **record.arguments())
        own, swapped = (log_probs_alone(model, tiny.processor, each, ids) for each in (row, other(row)))
        differ([row], [own], [swapped])
        drawn = log_probs_alone(model, tiny.processor, row, ids, never=image_tokens(model.config))
        agree(torch.tensor(record.of_rows([ids.tolist()])), [drawn])
        if row.images:
            backend.check_images(row)
