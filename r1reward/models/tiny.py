"""The embedded default: a Qwen2.5-VL of about a million parameters with its own tokenizer and processor.

The classes, the chat layout, the special tokens and the file names are those of a 7B checkpoint, so that everything that runs
on this model runs on that one. Two settings are not scaled-down copies, because a small model needs them otherwise:

- `initializer_range` grows as the width shrinks (0.08 at width 128); with the usual 0.02 the image was ignored.
- The tags and the numbers of the responses are single tokens, but not special ones: decoding must keep them.
"""

import random
from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from r1reward.data.prompts import PROMPTS
from r1reward.data.rows import PREFERENCE

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>", " (1)", " (2)")
MIN_PIXELS, MAX_PIXELS = 28 * 28, 84 * 84  # of the resized image; 28 x 28 pixels are one visual token
CHAT_TEMPLATE = (
    "{%- for message in messages -%}<|im_start|>{{ message['role'] }}\n"
    "{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<|im_end|>\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"
)


def build_processor(corpus: Iterable[str], vocab_size: int = 512) -> Qwen2_5_VLProcessor:
    """A processor of the real class: byte-level BPE learnt from `corpus`, images of at most 9 visual tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(TAGS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    vision = {"min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS, "patch_size": 14, "merge_size": 2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**vision),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**vision),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(
    processor: Qwen2_5_VLProcessor,
    hidden_size: int = 128,
    num_layers: int = 4,
    vision_hidden_size: int = 64,
    vision_depth: int = 2,
    initializer_range: float = 0.08,
) -> Qwen2_5_VLForConditionalGeneration:
    """A randomly initialised Qwen2.5-VL that fits the processor; attention heads are 32 wide."""
    tokenizer = processor.tokenizer
    heads = max(1, hidden_size // 32)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden_size,
            "intermediate_size": 3 * hidden_size,
            "num_hidden_layers": num_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 50.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "initializer_range": initializer_range,
        },
        vision_config={
            "hidden_size": vision_hidden_size,
            "num_heads": 4,
            "depth": vision_depth,
            "out_hidden_size": hidden_size,
            "intermediate_size": 3 * vision_hidden_size,
            "fullatt_block_indexes": list(range(vision_depth)),
            "window_size": 112,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": initializer_range,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=heads,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def tokenizer_corpus(seed: int = 0, num_rows: int = 4000, tasks: Sequence[str] = (PREFERENCE,)) -> list[str]:
    """Texts of the shapes world and the judge prompts, from which the tokenizer is learnt."""
    from r1reward.data.shapes.annotator import Annotator
    from r1reward.data.shapes.rows import make_row
    from r1reward.data.shapes.task_annotator import TaskAnnotator
    from r1reward.data.shapes.visual_tasks import make_task

    texts = list(PROMPTS.values())
    for index in range(num_rows):
        task, rng = tasks[index % len(tasks)], random.Random(index)
        if task == PREFERENCE:
            row = make_row(seed, "train", index)
            texts += [row.question.text, *row.responses(), row.trace(Annotator(), rng)]
        else:
            example = make_task(seed, "train", index, task)
            texts += [example.question, TaskAnnotator().trace(rng, example)]
    return texts
