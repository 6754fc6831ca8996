"""What the sampler believed of the tokens that it drew.

Shapes: B rows, T completion tokens, V vocabulary. Log-probabilities are in nats, at the sampling temperature.
"""

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList


class SampledLogProbs:
    """Records each sampled token's log-probability during `generate`, without keeping any logits.

    In the list of transformers the processor comes before temperature, top-k and top-p, and after penalties such as
    `repetition_penalty`: without those it sees the model's own logits. The criterion is asked once the token is drawn.

    Args:
        temperature: The sampling temperature, > 0.
    """

    def __init__(self, temperature: float):
        self._temperature = temperature
        self._logits: torch.Tensor | None = None
        self._columns: list[torch.Tensor] = []

    def arguments(self) -> dict:
        """For `generate`."""
        return {
            "logits_processor": LogitsProcessorList([_Before(self)]),
            "stopping_criteria": StoppingCriteriaList([_After(self)]),
        }

    @property
    def recorded(self) -> bool:
        """Whether `generate` was called; continuous batching has a method of its own."""
        return bool(self._columns)

    def of_rows(self, completions: list[list[int]]) -> list[list[float]]:
        """Of the tokens of each completion."""
        table = torch.stack(self._columns, 1).tolist()
        return [row[: len(ids)] for row, ids in zip(table, completions, strict=True)]

    def _saw_logits(self, logits: torch.Tensor):
        self._logits = logits.float() / self._temperature

    def _saw_token(self, tokens: torch.Tensor):
        chosen = self._logits.gather(1, tokens[:, None])[:, 0]
        self._columns.append(chosen - self._logits.logsumexp(1))
        self._logits = None


class _Before(LogitsProcessor):
    def __init__(self, record: SampledLogProbs):
        self._record = record

    def __call__(self, input_ids, scores):
        self._record._saw_logits(scores)
        return scores


class _After(StoppingCriteria):
    def __init__(self, record: SampledLogProbs):
        self._record = record

    def __call__(self, input_ids, scores, **kwargs):
        self._record._saw_token(input_ids[:, -1])
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
