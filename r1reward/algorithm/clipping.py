"""Pre-CLIP, the part of StableReinforce that keeps the probability ratio finite, and the clipped loss around it.

Shapes: B rows, T completion tokens. Log-probabilities and log-ratios are in nats; a mask is 1 (or True) on completion
tokens and 0 on padding.
"""

import math

import torch
from torch import Tensor


def pre_clip(log_probs: Tensor, old_log_probs: Tensor, delta_min: float = 1e-3, delta_max: float = 1e3) -> Tensor:
    """Pre-CLIP of StableReinforce (arXiv 2505.02835; released code, `openrlhf/models/loss.py:71-73`).

    The paper limits the log-ratio before it is exponentiated:

        ratio = exp(clamp(log p - log p_old, ln delta_min, ln delta_max))

    This returns `log_probs` clamped to `[log p_old + ln delta_min, log p_old + ln delta_max]` instead, so that a
    trainer which computes `exp(log p - log p_old)` by itself sees the limited ratio. The two are equal: adding the
    constant `log p_old` on both sides of a clamp moves its bounds and nothing else, so the value is the same (outside
    the bounds up to the rounding of `log p_old + bound`; inside, bit for bit), and the gradient is 1 inside the
    bounds and 0 outside in both forms.

    Why before the exponential: in float32 a log-ratio of 89 gives inf. A clip after it (PPO's, or a cap on the ratio)
    passes a gradient of 0 back to the exponential, whose own derivative is inf, and 0 * inf is NaN.

    Args:
        log_probs: (B, T) under the current policy.
        old_log_probs: (B, T) under the policy that sampled; a constant, no gradient flows into it.
        delta_min: Smallest ratio that is passed on, in (0, 1].
        delta_max: Largest ratio that is passed on, at least 1.

    Returns:
        (B, T). NaN stays NaN: a broken forward pass is not hidden.

    Raises:
        ValueError: The bounds do not enclose a ratio of 1.
    """
    low, high = _log_bounds(delta_min, delta_max)
    old = old_log_probs.detach()
    return torch.clamp(log_probs, min=old + low, max=old + high)


@torch.no_grad()
def pre_clip_statistics(
    log_probs: Tensor, old_log_probs: Tensor, mask: Tensor, delta_min: float = 1e-3, delta_max: float = 1e3
) -> dict[str, Tensor]:
    """What Pre-CLIP did to one batch, as sums that ranks can add up (and a maximum).

    Args:
        log_probs: (B, T) before Pre-CLIP.
        old_log_probs: (B, T).
        mask: (B, T).
        delta_min, delta_max: As given to `pre_clip`.

    Returns:
        0-d float32 tensors without gradient: `clamped`, the number of completion tokens outside the bounds; `tokens`,
        the number of completion tokens; `max_abs_log_ratio`, in nats, over completion tokens (0 without any, NaN if
        one is NaN).
    """
    low, high = _log_bounds(delta_min, delta_max)
    inside_mask = mask.bool()
    log_ratio = torch.where(inside_mask, (log_probs - old_log_probs).float(), 0.0)
    outside = (log_ratio < low) | (log_ratio > high)
    largest = log_ratio.abs().max() if log_ratio.numel() else log_ratio.new_zeros(())
    return {
        "clamped": outside.sum().float(),
        "tokens": inside_mask.sum().float(),
        "max_abs_log_ratio": largest,
    }


def ppo_clip_loss(
    log_ratio: Tensor, advantages: Tensor, mask: Tensor, epsilon_low: float = 0.2, epsilon_high: float = 0.2
) -> Tensor:
    """The clipped policy loss: what the trainer minimises, written out (paper's PPO objective; `loss.py:76-78`).

        loss = - mean_rows  mean_tokens  min(ratio * A, clip(ratio, 1 - epsilon_low, 1 + epsilon_high) * A)

    The tokens of a row are averaged first, then the rows, so long and short answers weigh the same (TRL's
    `loss_type="grpo"`). The trainer does not call this function: it computes the same number through TRL, and the
    tests compare the two.

    Args:
        log_ratio: (B, T), after Pre-CLIP where that is used.
        advantages: (B,) one per row, or (B, T) one per token.
        mask: (B, T).
        epsilon_low, epsilon_high: Half-widths of the clip around a ratio of 1.

    Returns:
        A scalar. A row without completion tokens counts as 0 and stays in the mean.
    """
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(1)
    mask = mask.to(log_ratio.dtype)
    ratio = torch.exp(log_ratio)
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    loss = -torch.min(ratio * advantages, clipped * advantages)
    return ((loss * mask).sum(1) / mask.sum(1).clamp(min=1.0)).mean()


def _log_bounds(delta_min: float, delta_max: float) -> tuple[float, float]:
    if not 0 < delta_min <= 1 <= delta_max < math.inf:
        raise ValueError(
            f"Pre-CLIP needs 0 < delta_min <= 1 <= delta_max < inf (bounds on the ratio), got "
            f"delta_min={delta_min}, delta_max={delta_max}; the paper uses 1e-3 and 1e3"
        )
    return math.log(delta_min), math.log(delta_max)
