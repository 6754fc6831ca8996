"""Per-token estimators of KL(policy || reference), in nats.

Shapes: B rows, T completion tokens. Inputs are log-probabilities, in nats, of tokens sampled from the policy.

Source: J. Schulman, "Approximating KL divergence" (joschu.net/blog/kl-approx.html). Averaged over tokens drawn from
the policy, both estimate KL without bias; they differ in variance and in sign.
"""

import torch
from torch import Tensor


def k1(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """The log-ratio `log p - log p_ref` (B, T): unbiased, of either sign, with the larger variance.

    The released R1-Reward code subtracts it from the reward, with a coefficient of 1e-3; the paper's coefficient is 0.
    """
    return log_probs - ref_log_probs


def k3(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """`p_ref/p - log(p_ref/p) - 1` (B, T): unbiased and never negative; the term that GRPO adds to the loss.

    It grows exponentially where the policy has left tokens that the reference finds likely: a `log p_ref - log p` of
        90 nats
    overflows float32.
    """
    log_ratio = ref_log_probs - log_probs
    return torch.exp(log_ratio) - log_ratio - 1
