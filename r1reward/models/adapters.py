"""Low-rank adapters (LoRA, arXiv 2106.09685; QLoRA, arXiv 2305.14314): what is trained of a policy.

    adapter_config   which layers get adapters; the trainer (TRL) puts them in, drawn by the run's seed, and freezes the rest
    quantization     for `qlora`: how the base model is loaded
    merge_adapter    the whole model out of a folder of adapters

Checkpoints hold the adapters alone, and go on from the base model at `model.path`. The finished model of a run is whole, the
adapters merged into weights of the base model's data type, so that it is evaluated, served and trained on like any other. The
reference of a KL penalty is the base model: the policy with its adapters switched off.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from r1reward.models.families import family_of
from r1reward.models.loading import ModelSettings, UnusableModel


@dataclass(frozen=True)
class AdapterSettings:
    """What is trained of a policy.

    Attributes:
        kind: `none` (all weights that are not frozen), `lora` (low-rank adapters), or `qlora` (the same on weights of 4 bits,
            on a GPU).
        rank: Rank of the adapters.
        alpha: Their scale is alpha / rank.
        dropout: Of their inputs in the update, at least 0 and below 1; rollouts are sampled without it.
        vision: Whether the vision tower and the projector get adapters too, as far as `model.freeze` leaves them free.
    """

    kind: Literal["none", "lora", "qlora"] = "none"
    rank: int = 64
    alpha: int = 128
    dropout: float = 0.05
    vision: bool = False


def check_adapter(settings: AdapterSettings, model: ModelSettings):
    """See that the settings make sense together, and that what `qlora` needs is there.

    Args:
        settings: The adapter's.
        model: The base model's.

    Raises:
        ValueError: With the setting and a remedy.
    """
    if settings.kind == "none":
        return
    for name in ("rank", "alpha"):
        if getattr(settings, name) < 1:
            raise ValueError(f"adapter.{name} must be at least 1, got {getattr(settings, name)}")
    if not 0 <= settings.dropout < 1:
        raise ValueError(f"adapter.dropout must be at least 0 and below 1, got {settings.dropout}")
    if settings.vision and {"vision", "projector"} <= set(model.freeze):
        raise ValueError("adapter.vision=true has no effect: model.freeze leaves neither vision tower nor projector free")
    if settings.kind == "qlora":
        from importlib.util import find_spec

        import torch

        if not torch.cuda.is_available():
            raise ValueError("adapter=qlora needs a CUDA GPU, and there is none here: set adapter=lora")
        if find_spec("bitsandbytes") is None:
            raise ValueError("adapter=qlora needs bitsandbytes: pip install bitsandbytes, or set adapter=lora")


def adapter_config(model, settings: AdapterSettings, of: ModelSettings):
    """Which linear layers get adapters, for the trainer's `peft_config`; None without adapters.

    Those of the language model, and with `vision` those of the vision tower and the projector; never embeddings or the head.

    Args:
        model: The policy, as loaded.
        settings: The adapter's.
        of: The model's; parts that `freeze` names get no adapters, and `family` says which layers are in which part.

    Returns:
        A `peft.LoraConfig`, or None.

    Raises:
        UnusableModel: The model is of no known family, or has no such layer.
    """
    if settings.kind == "none":
        return None
    from peft import LoraConfig
    from torch import nn

    try:
        family = family_of(model.config.model_type, of.family)
    except ValueError as error:
        raise UnusableModel(f"adapter={settings.kind}: {error}") from None
    parts = {"language"} | ({"vision", "projector"} - set(of.freeze) if settings.vision else set())
    head = model.get_output_embeddings()
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and family.part_of(name) in parts
    ]
    if not layers:
        raise UnusableModel(
            f"adapter={settings.kind}: {type(model).__name__} has no linear layer in {', '.join(sorted(parts))}"
        )
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=layers,
    )


def quantization(settings: AdapterSettings):
    """How `qlora` loads the base model (`transformers.BitsAndBytesConfig`): NF4, scales quantised too; None for other kinds."""
    if settings.kind != "qlora":
        return None
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def merge_adapter(model, folder: str | Path):
    """Replace the adapters in a folder by the whole model: `model` with them merged in.

    Args:
        model: The base model, as it was loaded for training but never quantised.
        folder: What the trainer saved.
    """
    from peft import PeftModel

    folder = Path(folder)
    PeftModel.from_pretrained(model, str(folder)).merge_and_unload().save_pretrained(str(folder))
    for file in folder.glob("adapter_*"):
        file.unlink()
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's template of a model card
