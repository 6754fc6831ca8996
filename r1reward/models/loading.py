"""Loading a policy and its processor: the embedded one, a local folder or a hub id, all by the same classes."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from pickle import UnpicklingError  # the error alone: nothing is unpickled here
from typing import Literal

EMBEDDED = "embedded"


class UnusableModel(ValueError):
    """The model cannot be loaded as asked for; the message says why."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model is trained, and how it is loaded.

    Attributes:
        path: `embedded` (the cold-start checkpoint in the package), a folder, or a hub id.
        dtype: Data type of the weights in training: `float32`, `bfloat16` or `float16`.
        attn_implementation: `sdpa`, `flash_attention_2`, `eager`; null leaves it to transformers.
        min_pixels: Smallest size of a resized image in pixels; null keeps the processor's.
        max_pixels: Largest size of a resized image in pixels; null keeps the processor's.
        freeze_vision: Whether the vision tower is left as it is.
        trust_remote_code: Whether code that comes with the weights may run.
        coordinates: How the model writes boxes (`r1reward.models.coordinates`); null: as its family was trained to.
    """

    path: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    freeze_vision: bool = False
    trust_remote_code: bool = False
    coordinates: Literal["pixels", "resized_pixels", "thousand", "thousand_y_first", "unit"] | None = None


def embedded_checkpoint() -> Path:
    """Folder of the cold-start checkpoint that ships in the package."""
    return Path(str(resources.files("r1reward") / "models" / "cold_start"))


def resolve(path: str) -> str:
    """The folder or hub id behind a model's path; a clear error where a folder was meant and is not there."""
    if path == EMBEDDED:
        folder = embedded_checkpoint()
        if not (folder / "model.safetensors").is_file():
            raise ValueError(f"the embedded checkpoint is missing from {folder}; make it with `make cold-start`")
        return str(folder)
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"model.path={path}: the folder holds no model (no config.json)")
        return str(folder)
    if path.startswith((".", "/", "~")) or path.count("/") != 1 or folder.parent.is_dir():
        raise ValueError(f"model.path={path}: no such folder. Give a folder, a hub id such as org/name, or `{EMBEDDED}`.")
    return path


def load_model(settings: ModelSettings):
    """The policy in the data type asked for, with the vision tower frozen if asked for.

    Raises:
        UnusableModel: The weights are a pickle with code in it, or no vision tower was found to freeze.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    options = {"dtype": getattr(torch, settings.dtype), "trust_remote_code": settings.trust_remote_code}
    if settings.attn_implementation is not None:
        options["attn_implementation"] = settings.attn_implementation
    try:
        model = AutoModelForImageTextToText.from_pretrained(resolve(settings.path), **options)
    except UnpicklingError:
        raise UnusableModel(
            f"model.path={settings.path}: its weights are a pickle that holds more than tensors, which is not opened; convert "
            "them to safetensors"
        ) from None
    if settings.freeze_vision:
        frozen = [name for name, _ in model.named_parameters() if ".visual." in name or "vision_tower" in name]
        if not frozen:
            raise UnusableModel(f"model.freeze_vision: found no vision tower in {type(model).__name__}")
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
    return model


def load_processor(settings: ModelSettings):
    """The processor, padding on the left (right padding misaligns M-RoPE), with the pixel limits asked for."""
    from transformers import AutoProcessor

    limits = {key: getattr(settings, key) for key in ("min_pixels", "max_pixels") if getattr(settings, key) is not None}
    return AutoProcessor.from_pretrained(
        resolve(settings.path), padding_side="left", trust_remote_code=settings.trust_remote_code, **limits
    )
