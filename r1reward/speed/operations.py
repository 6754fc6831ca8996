"""How many floating-point operations a step needs at least, and how many the machine can do.

Shapes: P prompt tokens, R completion tokens, G completions per prompt. A multiplication with an addition counts as two.
"""

import time
from dataclasses import dataclass

import torch

from r1reward.speed.workload import Shape


@dataclass(frozen=True)
class Work:
    """Operations of one rollout batch by part."""

    rollout: float
    old: float
    reference: float
    update: float

    @property
    def step(self) -> float:
        """All parts together."""
        return self.rollout + self.old + self.reference + self.update


def necessary(model, shape: Shape) -> Work:
    """Each prompt and image encoded once per pass; backward counts twice the forward.

    The policy's image features of the rollout serve for the old log-probabilities too, as long as the weights are the same.
    """
    text, vision = model.config.get_text_config(), model.config.vision_config
    prompt, completion, group = shape.prompt, shape.completion, shape.generations
    layers = sum(p.numel() for name, p in model.model.language_model.named_parameters() if "proj" in name and p.dim() == 2)
    tokens = prompt + group * completion
    pairs = prompt**2 / 2 + group * completion * (prompt + completion / 2)
    language = 2 * layers * tokens + 4 * text.hidden_size * pairs * text.num_hidden_layers
    head = 2 * text.vocab_size * text.hidden_size * group * completion

    patches = 4 * shape.side**2
    weights = sum(p.numel() for p in model.model.visual.parameters() if p.dim() >= 2)
    full = len(vision.fullatt_block_indexes)
    window = (vision.window_size // vision.patch_size) ** 2
    vision_pairs = patches * (patches * full + min(window, patches) * (vision.depth - full))
    image = 2 * weights * patches + 4 * vision.hidden_size * vision_pairs

    forward = language + head
    parts = (forward + image, forward, forward + image, 3 * (forward + image))
    return Work(*(shape.prompts * part for part in parts))


def matmul_speed(device: str, dtype: torch.dtype, size: int = 2048, repeats: int = 9) -> float:
    """Operations per second of a square matrix product, the median of some."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats + 2):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / sorted(seconds[2:])[repeats // 2]
