"""A tiny random instance of each family's real classes: model, tokenizer, image processor and processor, made offline.

Only the sizes, the words of the tokenizer (bytes and a few special tokens) and the chat template are ours.

    qwen2_vl, qwen2_5_vl, qwen3_vl, glm4v    one image of any shape, M-RoPE positions (`image_grid_thw`, `mm_token_type_ids`)
    internvl                                 tiles of one size, as many as the shape asks for, and a thumbnail
    smolvlm                                  the same, padded to one row of tiles a prompt (`pixel_attention_mask`)
    gemma3                                   one square, whose tokens see each other (`token_type_ids`)
    llava_onevision                          tiles of a lone image; one square of each where a prompt has several
                                             (`image_sizes`, `batch_num_images`)

All processors can be made offline. SmolVLM's needs the package num2words, which transformers does not install.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

WIDTH, VISION_WIDTH, LAYERS, HEADS = 32, 16, 2, 4  # of the language model and of the vision tower
PAD, START, END = "<|pad|>", "<|start|>", "<|end|>"
# Whole responses as single tokens: a random model that is kept to these and to white space writes some that can be read.
RESPONSES = tuple(f"<think>a</think><answer>[{box}]</answer>" for box in ("0, 0, 20, 20", "10, 10, 40, 40", "0, 0, 900, 900"))
BLANKS = (" ", "\n", "\t", "\r")


@dataclass(frozen=True)
class TinyFamily:
    """How a tiny instance of a family is made.

    Attributes:
        image: What the chat template writes in place of an image.
        special: Special tokens besides those of the chat.
        processor: From the tokenizer to the processor.
        model: From the processor to the model.
        named: Special tokens that the processor asks the tokenizer for by name.
        coordinates: `model.coordinates`, where the family has no documented one.
    """

    image: str
    special: tuple[str, ...]
    processor: Callable
    model: Callable
    named: dict[str, str] = field(default_factory=dict)
    coordinates: str | None = None


def build(name: str, seed: int = 0) -> tuple:
    """Model and processor of a family, one of `FAMILIES`; the weights follow from the seed."""
    family = FAMILIES[name]
    processor = family.processor(_tokenizer(family))
    torch.manual_seed(seed)
    model = family.model(processor.tokenizer.convert_tokens_to_ids, len(processor.tokenizer))
    randomise(model)
    for key in ("eos", "pad"):
        setattr(model.generation_config, f"{key}_token_id", getattr(processor.tokenizer, f"{key}_token_id"))
    model.generation_config.bos_token_id = None
    return model, processor


@torch.no_grad()
def randomise(model):
    """Weights large enough that a picture changes what is said; with those of transformers it would be nearly ignored."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5)


def writable(tokenizer) -> list[int]:
    """Tokens of which sampled completions consist where the others are suppressed: responses, white space, the end."""
    return tokenizer.convert_tokens_to_ids([*RESPONSES, *(tokenizer.tokenize(blank)[0] for blank in BLANKS), END])


def _tokenizer(family: TinyFamily) -> PreTrainedTokenizerFast:
    """Bytes, without merges."""
    special = [PAD, START, END, *family.special, *family.named.values()]
    vocabulary = {token: n for n, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    words = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words.add_special_tokens(special)
    words.add_tokens([AddedToken(response, special=False, normalized=False) for response in RESPONSES])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=family.named or [*family.special],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = (
        "{%- for message in messages -%}<|start|>{{ message['role'] }}\n"
        "{%- for part in message['content'] -%}"
        f"{{%- if part['type'] == 'image' -%}}{family.image}{{%- else -%}}{{{{ part['text'] }}}}{{%- endif -%}}"
        "{%- endfor -%}<|end|>\n{% endfor -%}"
        "{%- if add_generation_prompt -%}<|start|>assistant\n{% endif -%}"
    )
    return tokenizer


def _text(vocabulary: int, **more) -> dict:
    """Configuration of a language model."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **more,
    }


def _mrope(sections: list[int], **more) -> dict:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0, "mrope_section": sections, **more}}


# ---- Qwen and GLM: one sequence of patches an image -------------------------------------------------------------------------

PATCH = {"patch_size": 14, "temporal_patch_size": 2}
TOWER = {**PATCH, "spatial_merge_size": 2, "num_heads": 2, "depth": LAYERS}
LIMITS = {"min_pixels": 28 * 28, "max_pixels": 84 * 84}  # 28 x 28 pixels are one visual token


def _qwen_processor(processor, video, patch: int = 14) -> Callable:
    def build(tokenizer):
        limits = {"min_pixels": (2 * patch) ** 2, "max_pixels": (6 * patch) ** 2}
        options = {**limits, "patch_size": patch, "merge_size": 2}
        return processor(Qwen2VLImageProcessor(**options), tokenizer, video(**options), chat_template=tokenizer.chat_template)

    return build


def _qwen_tokens(token) -> dict:
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    return {key: token(f"<|{name}|>") for key, name in names.items()}


def _qwen2_vl(token, vocabulary):
    vision = {**TOWER, "embed_dim": VISION_WIDTH, "hidden_size": WIDTH, "mlp_ratio": 2}
    text = _text(vocabulary, **_mrope([2, 1, 1]))
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(token)))


def _qwen2_5_vl(token, vocabulary):
    vision = {
        **TOWER,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 2 * VISION_WIDTH,
        "out_hidden_size": WIDTH,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    }
    text = _text(vocabulary, **_mrope([2, 1, 1]))
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **_qwen_tokens(token))
    return Qwen2_5_VLForConditionalGeneration(config)


def _qwen3_vl(token, vocabulary):
    vision = {
        **TOWER,
        "patch_size": 16,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 2 * VISION_WIDTH,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    text = _text(vocabulary, head_dim=8, **_mrope([2, 1, 1], mrope_interleaved=True))
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(token)))


def _glm4v_processor(tokenizer):
    size = {"shortest_edge": 2 * 28 * 28, "longest_edge": 2 * 84 * 84}  # an image counts as two frames
    options = {**PATCH, "merge_size": 2, "size": size}
    return Glm4vProcessor(
        Glm4vImageProcessor(**options), tokenizer, Glm4vVideoProcessor(**options), chat_template=tokenizer.chat_template
    )


def _glm4v(token, vocabulary):
    vision = {
        **TOWER,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 2 * VISION_WIDTH,
        "out_hidden_size": WIDTH,
        "image_size": 84,
    }
    kinds = ("image", "video")
    tokens = {f"{kind}_start_token_id": token(f"<|begin_of_{kind}|>") for kind in kinds}
    tokens |= {f"{kind}_end_token_id": token(f"<|end_of_{kind}|>") for kind in kinds}
    tokens |= {f"{kind}_token_id": token(f"<|{kind}|>") for kind in kinds}
    text = _text(vocabulary, **_mrope([2, 1, 1]))
    return Glm4vForConditionalGeneration(Glm4vConfig(text_config=text, vision_config=vision, **tokens))


# ---- InternVL, SmolVLM, Gemma, LLaVA: squares of one size -------------------------------------------------------------------

SQUARE = {"height": 32, "width": 32}
SIGLIP = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": VISION_WIDTH,
    "intermediate_size": 2 * VISION_WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
}


def _internvl_processor(tokenizer):
    return InternVLProcessor(
        GotOcr2ImageProcessor(size=SQUARE, max_patches=3),
        tokenizer,
        InternVLVideoProcessor(size=SQUARE),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )


def _internvl(token, vocabulary):
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **_text(vocabulary)},
        vision_config=SIGLIP,
        image_token_id=token("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    return InternVLForConditionalGeneration(config)


def _smolvlm_processor(tokenizer):
    size, tile = {"longest_edge": 64}, {"longest_edge": 32}
    return SmolVLMProcessor(
        SmolVLMImageProcessor(size=size, max_image_size=tile),
        tokenizer,
        SmolVLMVideoProcessor(size=size, max_image_size=tile),
        image_seq_len=4,
        chat_template=tokenizer.chat_template,
    )


def _smolvlm(token, vocabulary):
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **_text(vocabulary)},
        vision_config=SIGLIP,
        image_token_id=token("<image>"),
        scale_factor=2,
    )
    return SmolVLMForConditionalGeneration(config)


def _gemma3_processor(tokenizer):
    return Gemma3Processor(
        Gemma3ImageProcessor(size=SQUARE), tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4
    )


def _gemma3(token, vocabulary):
    config = Gemma3Config(
        # A window so short that it acts; the second layer sees everything.
        text_config=_text(
            vocabulary,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=32,
            layer_types=["sliding_attention", "full_attention"],
        ),
        vision_config={"model_type": "siglip_vision_model", **SIGLIP, "vision_use_head": False},
        mm_tokens_per_image=4,
        image_token_index=token("<image_soft_token>"),
        boi_token_index=token("<start_of_image>"),
        eoi_token_index=token("<end_of_image>"),
    )
    return Gemma3ForConditionalGeneration(config)


GRID = [[32, 32], [32, 64], [64, 32]]  # height and width of the canvases that are cut into tiles


def _llava_onevision_processor(tokenizer):
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=GRID),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=SQUARE),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )


def _llava_onevision(token, vocabulary):
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **_text(vocabulary)},
        vision_config={"model_type": "siglip_vision_model", **SIGLIP, "patch_size": 16, "vision_use_head": False},
        image_token_index=token("<image>"),
        video_token_index=token("<video>"),
        image_grid_pinpoints=GRID,
    )
    return LlavaOnevisionForConditionalGeneration(config)


_QWEN = (
    "<|vision_start|><|image_pad|><|vision_end|>",
    ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
FAMILIES = {
    "qwen2_vl": TinyFamily(*_QWEN, _qwen_processor(Qwen2VLProcessor, Qwen2VLVideoProcessor), _qwen2_vl),
    "qwen2_5_vl": TinyFamily(*_QWEN, _qwen_processor(Qwen2_5_VLProcessor, Qwen2VLVideoProcessor), _qwen2_5_vl),
    "qwen3_vl": TinyFamily(*_QWEN, _qwen_processor(Qwen3VLProcessor, Qwen3VLVideoProcessor, patch=16), _qwen3_vl),
    "glm4v": TinyFamily(
        "<|begin_of_image|><|image|><|end_of_image|>",
        tuple(f"<|{edge}_of_{kind}|>" for edge in ("begin", "end") for kind in ("image", "video")) + ("<|image|>", "<|video|>"),
        _glm4v_processor,
        _glm4v,
    ),
    "internvl": TinyFamily(
        "<IMG_CONTEXT>",
        (),
        _internvl_processor,
        _internvl,
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "smolvlm": TinyFamily(
        "<image>",
        (
            "<fake_token_around_image>",
            "<image>",
            "<global-img>",
            "<video>",
            "<end_of_utterance>",
            *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
        ),
        _smolvlm_processor,
        _smolvlm,
        coordinates="unit",
    ),
    "gemma3": TinyFamily(
        "<start_of_image>",
        (),
        _gemma3_processor,
        _gemma3,
        named={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
        coordinates="thousand_y_first",
    ),
    "llava_onevision": TinyFamily(
        "<image>", ("<image>", "<video>"), _llava_onevision_processor, _llava_onevision, coordinates="pixels"
    ),
}
