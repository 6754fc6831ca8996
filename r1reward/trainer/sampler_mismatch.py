"""How far the trainer's log-probabilities are from the sampler's.

Sampler and trainer compute the same log-probabilities in two ways (another engine, another precision, a cache). Where they
differ, the policy gradient is silently off-policy; where they differ much, one does not see what the other sees.

Shapes: B rows, T completion tokens. Log-probabilities are in nats, at the sampling temperature.
"""

import warnings

import torch

# The sampler's log-probabilities in a batch, where TRL is not to use them: with its own sampler it has none.
SAMPLED = "sampled_log_probs"
# Mean absolute difference in nats per token above which a mismatch is reported. In float32 sampler and trainer differ by
# rounding alone (measured: 1e-7 to 1e-5); half precision was measured at 1e-4 to 1e-3 with a sound sampler.
BOUND = 1e-3
BOUND_HALF = 2e-2


class SamplerMismatch(UserWarning):
    """Sampler and trainer disagree about the sampled tokens' log-probabilities by more than rounding explains."""


def difference(sampled: torch.Tensor, computed: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """How far the trainer's log-probabilities are from the sampler's.

    Args:
        sampled: (B, T) the sampler's; NaN where it gave none.
        computed: (B, T) the trainer's.
        mask: (B, T) 1 at real tokens.

    Returns:
        Sum and maximum of the absolute differences in nats, and the number of tokens compared: 0-d, float32.
    """
    known = mask.bool() & ~sampled.isnan()
    gaps = torch.where(known, (computed - sampled).abs().float(), 0.0)
    return gaps.sum(), gaps.amax() if gaps.numel() else gaps.sum(), known.sum().float()


class MismatchWarnings:
    """Warns where the mean difference passes the bound, and again each time it has doubled since.

    Args:
        half_precision: Whether sampler or trainer compute with 16 bits.
    """

    def __init__(self, half_precision: bool):
        self.bound = BOUND_HALF if half_precision else BOUND
        self._next = self.bound

    def saw(self, mean: float, step: int):
        """`mean` absolute difference in nats per token of the rollouts that step `step` trains on."""
        if mean <= self._next:
            return
        self._next = 2 * mean
        warnings.warn(
            f"step {step}: the sampler's log-probabilities of its own tokens are {mean:.2g} nats per token from the trainer's "
            f"(bound: {self.bound:g}): the policy that samples is not the one that is trained. See sampling/* in the metrics.",
            SamplerMismatch,
            stacklevel=2,
        )
