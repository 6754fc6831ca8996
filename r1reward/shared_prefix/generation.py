"""Sampling with each prompt encoded once: the group's queries attend to the one prompt together.

Shapes: N prompts, B completions (rows), K key/value heads, H query heads, D head width, T completion tokens, V vocabulary.

`generate` of transformers prepares everything as usual (sampling parameters, stopping, suppressed tokens) and hands the loop
over to `sample` here. Greedy decoding gives the same tokens; sampling too, from the same state of the random generator:
`multinomial` draws one exponential variate per row and token of the vocabulary, and so does the loop, for finished rows too.
"""

from collections.abc import Sequence
from functools import partial

import torch

from r1reward.shared_prefix.packing import NO_MASK, pack_prompts
from r1reward.shared_prefix.prompts import Prompt

CAPACITY = 256  # completion tokens for which the cache has room at first; it doubles when they are used up
COMPACT_BELOW = 0.9  # share of rows still at work below which the finished ones leave the batch


def generate(model, prompts: Sequence[Prompt], prompt_of_row: Sequence[int], pad_token_id: int, **options) -> torch.Tensor:
    """Completions (B, T), padded on the right with `pad_token_id` after the end token.

    Args:
        model: A model for which `register.enable` was called.
        prompts: The distinct prompts.
        prompt_of_row: Which prompt each completion answers, ascending.
        options: As for `generate` of transformers (`generation_config`, `max_new_tokens`, ...); beams are not supported.
    """
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.stack([torch.nn.functional.pad(p.ids, (width - len(p.ids), 0), value=pad_token_id) for p in prompts])
    mask = torch.stack([torch.nn.functional.pad(torch.ones_like(p.ids), (width - len(p.ids), 0)) for p in prompts])
    owner = torch.tensor(list(prompt_of_row), device=ids.device)
    assert bool((owner.diff() >= 0).all()), "prompt_of_row must ascend"
    sequences = model.generate(
        input_ids=ids[owner],
        attention_mask=mask[owner],
        pad_token_id=pad_token_id,
        custom_generate=partial(sample, prompts=prompts, prompt_of_row=owner),
        **options,
    )
    return sequences[:, width:]


class Cache:
    """Keys and values of the prompts, once each, and of the completions so far; it is what one decoding step attends to.

    Args:
        captured: Per layer the keys and values (1, K, S, D) of the packed prompts.
        lengths: Tokens of each packed prompt, N of them.
        prompt_of_row: (B,) which prompt each completion answers.
        capacity: Completion tokens at first.
    """

    def __init__(self, captured, lengths: Sequence[int], prompt_of_row: torch.Tensor, capacity: int):
        key = captured[0][0]
        length = torch.tensor(lengths, device=key.device)[:, None]
        column = torch.arange(max(lengths), device=key.device)
        seen = column < length  # (N, P), padded on the right
        index = torch.where(seen, length.cumsum(0) - length + column, 0)
        self.prefix = [tuple(x[0][:, index].transpose(0, 1).contiguous() for x in layer) for layer in captured]
        self.bias = None  # (N, 1, 1, P)
        if min(lengths) < max(lengths):
            zeros = torch.zeros(seen.shape, dtype=key.dtype, device=key.device)
            self.bias = zeros.masked_fill(~seen, -torch.inf)[:, None, None]
        rows = len(prompt_of_row)
        self.suffix = [
            tuple(x.new_empty(rows, x.shape[1], capacity, x.shape[3]) for x in layer) for layer in captured
        ]  # per layer keys and values (B, K, capacity, D)
        self.used = 0
        self._place(prompt_of_row)

    def _place(self, prompt_of_row: torch.Tensor):
        """Give each row a place in a grid of (prompts, rows per prompt)."""
        self.prompt_of_row = prompt_of_row
        counts = torch.bincount(prompt_of_row, minlength=len(self.prefix[0][0]))
        self.per_prompt = int(counts.max())
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(prompt_of_row), device=prompt_of_row.device) - first[prompt_of_row]
        self.place = prompt_of_row * self.per_prompt + rank  # (B,)
        full = self.per_prompt * len(counts) == len(prompt_of_row)
        self.row_at = None  # every place is taken, in order
        if not full:
            self.row_at = torch.zeros(self.per_prompt * len(counts), dtype=torch.long, device=prompt_of_row.device)
            self.row_at[self.place] = torch.arange(len(prompt_of_row), device=prompt_of_row.device)

    def keep(self, rows: torch.Tensor):
        """Go on with these rows only, and with the prompts that they need."""
        self.suffix = [tuple(x[rows] for x in layer) for layer in self.suffix]
        needed, prompt_of_row = self.prompt_of_row[rows].unique(return_inverse=True)
        if len(needed) < len(self.prefix[0][0]):
            self.prefix = [tuple(x[needed] for x in layer) for layer in self.prefix]
            self.bias = None if self.bias is None else self.bias[needed]
        self._place(prompt_of_row)

    def step(self):
        """One token more for every row: make room for it."""
        self.used += 1
        if self.used > self.suffix[0][0].shape[2]:
            self.suffix = [tuple(torch.cat([x, torch.empty_like(x)], 2) for x in layer) for layer in self.suffix]

    def attend(self, layer: int, query, key, value, scale: float) -> torch.Tensor:
        """One token per row: query (B, H, 1, D), key and value (B, K, 1, D) -> (B, 1, H, D)."""
        keys, values = self.suffix[layer]
        keys[:, :, self.used - 1], values[:, :, self.used - 1] = key[:, :, 0], value[:, :, 0]
        keys, values = keys[:, :, : self.used], values[:, :, : self.used]
        prefix_keys, prefix_values = self.prefix[layer]
        rows, _, _, width = query.shape
        query = query.view(rows, key.shape[1], -1, width) * scale  # (B, K, query heads per key head, D)
        to_prompt = self._together(query) @ prefix_keys.mT  # (N, K, rows x heads, P)
        if self.bias is not None:
            to_prompt = to_prompt + self.bias
        to_own = self._together(query @ keys.mT)
        weights = torch.cat([to_prompt, to_own], -1).softmax(-1, dtype=torch.promote_types(query.dtype, torch.float32))
        weights = weights.to(value.dtype)
        to_prompt, to_own = weights.tensor_split([prefix_keys.shape[2]], -1)
        output = self._apart(to_prompt @ prefix_values) + self._apart(to_own) @ values
        return output.reshape(rows, 1, -1, width)

    def _together(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (B, K, heads, ...) by prompt: (N, K, rows x heads, ...)."""
        x = x if self.row_at is None else x[self.row_at]
        return x.unflatten(0, (-1, self.per_prompt)).transpose(1, 2).flatten(2, 3)

    def _apart(self, x: torch.Tensor) -> torch.Tensor:
        """The opposite of `_together`."""
        x = x.unflatten(2, (self.per_prompt, -1)).transpose(1, 2).flatten(0, 1)
        return x if self.row_at is None else x[self.place]


def sample(
    model, input_ids, logits_processor, stopping_criteria, generation_config, prompts, prompt_of_row, **model_kwargs
) -> torch.Tensor:
    """The decoding loop, in the form that transformers' `custom_generate` calls it: sequences (B, prompt + T)."""
    device, pad = input_ids.device, generation_config._pad_token_tensor
    packed = pack_prompts(prompts)
    model.base_model(**packed.arguments)
    steps = generation_config.max_length - input_ids.shape[1]
    lengths = [len(prompt.ids) - 1 for prompt in prompts]
    cache = Cache(packed.layout.captured, lengths, prompt_of_row, min(steps, CAPACITY))
    del packed  # it holds the keys and values once more

    rows = len(prompt_of_row)
    sequences = torch.cat([input_ids, pad.expand(rows, steps)], 1)
    written = input_ids.shape[1]
    position = torch.stack([prompt.positions[0, -1] for prompt in prompts])[prompt_of_row]  # of the last token so far
    active = torch.arange(rows, device=device)  # the rows still in the batch
    unfinished = torch.ones(rows, dtype=torch.bool, device=device)  # among them
    while written < sequences.shape[1] and len(active):
        cache.step()
        logits = model(
            input_ids=sequences[active, written - 1 : written],
            position_ids=position[None, :, None].expand(3, -1, 1),
            attention_mask=NO_MASK,
            use_cache=False,
            shared_prefix=cache,
        ).logits[:, -1]
        # Processors and criteria may keep state per row, so they see all rows; those of finished rows are zeros.
        scores = logits.to(torch.float32, copy=True)
        if len(active) < rows:
            scores = scores.new_zeros(rows, scores.shape[1]).index_copy(0, active, scores)
        scores = logits_processor(sequences[:, :written], scores)
        if generation_config.do_sample:
            variates = torch.empty_like(scores).exponential_()  # as torch.multinomial draws them
            tokens = (scores.softmax(-1) / variates).argmax(-1)[active]
        else:
            tokens = scores.argmax(-1)[active]
        sequences[active, written] = torch.where(unfinished, tokens, pad)
        written += 1
        position = position + 1
        unfinished = unfinished & ~stopping_criteria(sequences[:, :written], None)[active]
        remaining = int(unfinished.sum())
        if remaining < COMPACT_BELOW * len(active):
            kept = unfinished.nonzero()[:, 0]
            active, position, unfinished = active[kept], position[kept], unfinished[kept]
            if remaining:
                cache.keep(kept)
    return sequences[:, :written]
