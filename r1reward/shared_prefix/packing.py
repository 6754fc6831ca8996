"""Prompts and their completions in one row of tokens, without padding.

Shapes: N prompts, B completions (rows), T tokens of the longest completion, S packed tokens.

Order: prompt 1 without its last token, its completions; prompt 2, ... Each completion starts with the prompt's last token,
which predicts its first one, so that every scored position has exactly one next token:

    prompt 1 2 3, completions a b and c d e   ->   1 2 | 3 a | 3 c d     scored: a b, c d e
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from r1reward.shared_prefix.packed_attention import packed_attention
from r1reward.shared_prefix.prompts import Prompt, image_arguments

# A mask of four dimensions passes through transformers as it is; the attention of packed tokens does not look at it.
NO_MASK = torch.ones(1, 1, 1, 1)


@dataclass
class Layout:
    """Where everything lies in the packed row.

    Attributes:
        spans: Per prompt: start, end of the prompt, end of its last completion.
        index: (B, T) position of each completion token; padding points to the completion's last token.
        real: (B, T) whether it is one.
        scored: Positions of all real completion tokens, row by row. Their next tokens are those that are scored.
        captured: Per layer the keys and values (1, K, S, D), where they are wanted.
    """

    spans: list[tuple[int, int, int]]
    index: torch.Tensor | None = None
    real: torch.Tensor | None = None
    scored: torch.Tensor | None = None
    captured: list[tuple[torch.Tensor, torch.Tensor]] | None = None

    def unpack(self, x: torch.Tensor) -> torch.Tensor:
        """The completions' part of (1, H, S, ...), padded: (B, H, T, ...)."""
        return x[0][:, self.index].transpose(0, 1)

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """The real completion tokens of (B, H, T, ...), in the order of `scored`: (H, tokens, ...)."""
        return x.transpose(0, 1)[:, self.real]

    def attend(self, layer: int, query, key, value, scale: float) -> torch.Tensor:
        """Attention of one layer: (1, H, S, D) and twice (1, K, S, D) -> (1, S, H, D)."""
        if self.captured is not None:
            self.captured.append((key, value))
        return packed_attention(self, query, key, value, scale)


@dataclass
class Packed:
    """Packed tokens, ready for the model.

    Attributes:
        arguments: What the model is called with.
        labels: (1, scored tokens) the next tokens, in the order of `layout.scored`.
        layout: Where everything lies.
    """

    arguments: dict
    labels: torch.Tensor
    layout: Layout

    def spread(self, x: torch.Tensor, width: int) -> torch.Tensor:
        """Values (1, scored tokens) of the scored tokens as (B, width), zero at padding."""
        rows, columns = self.layout.real.nonzero(as_tuple=True)
        return x.new_zeros(len(self.layout.real), width).index_put((rows, columns), x[0])


def pack_prompts(prompts: Sequence[Prompt]) -> Packed:
    """Prompts alone, each without its last token, to be encoded for sampling; the layout captures keys and values."""
    starts = torch.tensor([0, *(len(prompt.ids) - 1 for prompt in prompts)]).cumsum(0).tolist()
    layout = Layout([(start, end, end) for start, end in zip(starts, starts[1:], strict=False)], captured=[])
    ids = torch.cat([prompt.ids[:-1] for prompt in prompts])
    positions = torch.cat([prompt.positions[:, :-1] for prompt in prompts], 1)
    return Packed(_arguments(ids, positions, prompts, layout, use_features=True), labels=ids.new_empty(1, 0), layout=layout)


def pack(
    prompts: Sequence[Prompt],
    prompt_of_row: Sequence[int],
    completions: torch.Tensor,
    mask: torch.Tensor,
    use_features: bool = False,
) -> Packed:
    """Prompts and their completions.

    Args:
        prompts: The distinct prompts; those without a completion are left out.
        prompt_of_row: (B,) index into `prompts`.
        completions: (B, T) tokens, padded on the right.
        mask: (B, T) 1 at real tokens. A row without any is scored at its first token, so that the graph stays whole.
        use_features: Whether the model takes the images' features from the prompts instead of running its vision tower.
    """
    lengths = mask.sum(1).clamp(min=1).tolist()
    device = completions.device
    ids, positions, spans, starts, used = [], [], [], [0] * len(lengths), []
    end = 0
    for n, prompt in enumerate(prompts):
        rows = [row for row, owner in enumerate(prompt_of_row) if owner == n]
        if not rows:
            continue
        used.append(prompt)
        start, prefix_end = end, end + len(prompt.ids) - 1
        ids.append(prompt.ids[:-1])
        positions.append(prompt.positions[:, :-1])
        end = prefix_end
        for row in rows:
            starts[row] = end
            ids += [prompt.ids[-1:], completions[row, : lengths[row] - 1]]
            following = prompt.positions[:, -1:] + torch.arange(lengths[row], device=device)
            positions.append(following)
            end += lengths[row]
        spans.append((start, prefix_end, end))
    length = torch.tensor(lengths, device=device)
    column = torch.arange(max(lengths), device=device).expand(len(lengths), -1)
    real = column < length[:, None]
    index = torch.tensor(starts, device=device)[:, None] + torch.minimum(column, length[:, None] - 1)
    layout = Layout(spans, index, real, index[real])
    arguments = _arguments(torch.cat(ids), torch.cat(positions, 1), used, layout, use_features)
    return Packed(arguments, completions[:, : max(lengths)][real][None], layout)


def _arguments(ids, positions, prompts, layout, use_features: bool) -> dict:
    return {
        "input_ids": ids[None],
        "position_ids": positions[:, None],  # (3, 1, S)
        "attention_mask": NO_MASK,
        "use_cache": False,
        "shared_prefix": layout,
        **image_arguments(prompts, use_features),
    }
