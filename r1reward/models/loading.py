"""Loading a policy and its processor: the embedded one, a local folder or a hub id, all by the same classes."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from pickle import UnpicklingError  # the error alone: nothing is unpickled here
from typing import Any, Literal

from r1reward.models.families import Family, family_of
from r1reward.tracking.disk import disk_error

EMBEDDED = {"embedded": "cold_start", "embedded_visual": "cold_start_visual"}  # folders in this package


class UnusableModel(ValueError):
    """The model cannot be loaded as asked for; the message says why."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model is trained, and how it is loaded.

    Attributes:
        path: `embedded` or `embedded_visual` (the cold-start checkpoints in the package), a folder, or a hub id.
        dtype: Data type of the weights in training: `float32`, `bfloat16` or `float16`.
        attn_implementation: `sdpa`, `flash_attention_2`, `eager`; null leaves it to transformers.
        min_pixels: Smallest size of a resized image in pixels; null keeps the processor's. Where images are cut into tiles,
            the whole image beside them does not count. A family whose processor has no such limit refuses it.
        max_pixels: Largest size of a resized image in pixels, as `min_pixels`.
        freeze: Parts that are left as they are: `vision` (the vision tower), `projector` (what brings its features to the
            language model), or both.
        trust_remote_code: Whether code that comes with the weights may run.
        family: Dotted path of a `r1reward.models.families.Family` for a model that is not of a family known here; null: found
            by the model's type.
        coordinates: How the model writes boxes (`r1reward.models.coordinates`); null: as its family was trained to.
    """

    path: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attn_implementation: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    freeze: list[Literal["vision", "projector"]] = field(default_factory=list)
    trust_remote_code: bool = False
    family: str | None = None
    coordinates: Literal["pixels", "resized_pixels", "thousand", "thousand_y_first", "unit"] | None = None


def embedded_checkpoint(name: str = "embedded") -> Path:
    """Folder of a cold-start checkpoint that ships in the package, one of `EMBEDDED`."""
    return Path(str(resources.files("r1reward") / "models" / EMBEDDED[name]))


def resolve(path: str) -> str:
    """The folder or hub id behind a model's path; a clear error where a folder was meant and is not there."""
    if path in EMBEDDED:
        folder = embedded_checkpoint(path)
        if not (folder / "model.safetensors").is_file():
            raise ValueError(f"the embedded checkpoint is missing from {folder}; make it with `make cold-start`")
        return str(folder)
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"model.path={path}: the folder holds no model (no config.json)")
        return str(folder)
    if path.startswith((".", "/", "~")) or path.count("/") != 1 or folder.parent.is_dir():
        known = ", ".join(EMBEDDED)
        raise ValueError(f"model.path={path}: no such folder. Give a folder, a hub id such as org/name, or one of {known}.")
    return path


def load_model(settings: ModelSettings, quantization=None):
    """The policy in the data type asked for, with the parts frozen that are to be left as they are.

    Raises:
        UnusableModel: The weights are damaged, not those of the configuration, or a pickle with code in it; a part to freeze
            was not found; or `model.family` is not the model's.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    family = _family(settings) if settings.freeze or settings.family is not None else None
    options = {"dtype": getattr(torch, settings.dtype), "trust_remote_code": settings.trust_remote_code}
    if settings.attn_implementation is not None:
        options["attn_implementation"] = settings.attn_implementation
    if quantization is not None:
        options["quantization_config"] = quantization
    with _loading(settings):
        try:
            model = AutoModelForImageTextToText.from_pretrained(resolve(settings.path), **options)
        except UnpicklingError:
            raise UnusableModel(
                f"model.path={settings.path}: its weights are a pickle that holds more than tensors, which is not opened; "
                "convert them to safetensors"
            ) from None
        except (SafetensorError, RuntimeError) as error:
            if _is_of_the_machine(error):
                raise
            raise UnusableModel(
                f"model.path={settings.path}: its weights are damaged, or not those of its config.json: "
                f"{_first_sentence(str(error))}"
            ) from error
    for part in settings.freeze:
        parameters = [parameter for name, parameter in model.named_parameters() if family.part_of(name) == part]
        if not parameters:
            raise UnusableModel(
                f"model.freeze={part}: found none of it in {type(model).__name__}, where its family says "
                f"{', '.join(family.vision + family.projector)}"
            )
        for parameter in parameters:
            parameter.requires_grad_(False)
    return model


def load_processor(settings: ModelSettings):
    """The processor, padding on the left (right padding misaligns M-RoPE), with the pixel limits asked for.

    Raises:
        UnusableModel: It cannot keep to the limits, or needs a package that is not installed (SmolVLM: num2words).
    """
    from transformers import AutoProcessor

    with _loading(settings):
        try:
            processor = AutoProcessor.from_pretrained(
                resolve(settings.path), padding_side="left", trust_remote_code=settings.trust_remote_code
            )
        except ImportError as error:
            raise UnusableModel(f"model.path={settings.path}: its processor needs a package: {error}") from None
    for name, value in pixel_limits(settings, processor).items():
        setattr(processor.image_processor, name, value)
    return processor


def pixel_limits(settings: ModelSettings, processor) -> dict[str, Any]:
    """The attributes of a processor's image processor that keep images between the limits asked for; none if none are.

    Raises:
        UnusableModel: It cannot keep to them, or it is not known how.
    """
    least, most = settings.min_pixels, settings.max_pixels
    given = [limit for limit in (least, most) if limit is not None]
    if not given:
        return {}
    asked = f"model.min_pixels={'null' if least is None else least}, model.max_pixels={'null' if most is None else most}"
    limits = _family(settings).limits
    if limits is None:
        raise UnusableModel(
            f"{asked}: the family does not say how limits reach its processor; leave both null or give it `limits`"
        )
    if given[0] < 1 or given != sorted(given):
        raise UnusableModel(f"{asked}: min_pixels must be at least 1 and at most max_pixels")
    try:
        return limits(processor.image_processor, least, most)
    except ValueError as error:
        raise UnusableModel(f"{asked}: {error}") from None


def load_config(settings: ModelSettings):
    """The model's configuration, without its weights: what it takes to see that the model is there.

    Raises:
        UnusableModel: It is neither on disk nor to be had from the hub, or it brings code that may not run.
    """
    from transformers import AutoConfig

    with _loading(settings):
        return AutoConfig.from_pretrained(resolve(settings.path), trust_remote_code=settings.trust_remote_code)


@contextmanager
def _loading(settings: ModelSettings):
    """What transformers raises where a model is missing, damaged or brings its own code, as one `UnusableModel`."""
    try:
        yield
    except UnusableModel:
        raise
    except (OSError, ValueError) as error:
        if disk_error(error) is not None:
            raise
        text = str(error)
        if "trust_remote_code" in text:
            reason = "it brings code of its own, which runs only if you trust it: set model.trust_remote_code=true"
        elif Path(settings.path).expanduser().is_dir() or settings.path in EMBEDDED:
            reason = f"the folder cannot be loaded as a model: {_first_sentence(text)}"
        else:
            reason = (
                "it is neither a folder nor in the cache of downloaded models, and the hub gave none "
                f"({_first_sentence(text)}). Check the name and the network, log in for a gated one, or give a folder"
            )
        raise UnusableModel(f"model.path={settings.path}: {reason}") from error


def _is_of_the_machine(error: Exception) -> bool:
    """Whether an error says something about memory, device or disk, and nothing about the model."""
    import torch

    is_of_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return is_of_memory or isinstance(error, torch.AcceleratorError) or disk_error(error) is not None


def _first_sentence(text: str) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return first if len(first) <= 300 else f"{first[:300]}..."


def _family(settings: ModelSettings) -> Family:
    config = load_config(settings)
    try:
        return family_of(config.model_type, settings.family)
    except ValueError as error:
        raise UnusableModel(str(error)) from None
