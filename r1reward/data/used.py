"""Which settings of the group `data` act with which reader; a setting without effect is an error."""

from dataclasses import fields

from r1reward.settings import DataSettings

IMAGES = ("max_image_pixels", "max_image_bytes", "on_bad_image", "max_bad_images")  # hold for all images of a run
_FILE = ("path", "image_root", "held_out_fraction", "num_eval", "seed", "limit", *IMAGES)
USED = {  # settings that act, by reader
    "shapes": ("prompt", "num_train", "num_eval", "seed", "levels", "tasks"),
    "r1_reward_jsonl": _FILE,
    "vlm_r1_jsonl": (*_FILE, "task", "num_frames", "box_space"),
    "mixed": ("sources", *IMAGES),
}


def check_used(settings: DataSettings, where: str) -> None:
    """See that nothing is set that the reader does not use.

    Raises:
        ValueError: With the setting, and where it would act.
    """
    defaults = DataSettings(settings.reader)
    for name in (field.name for field in fields(DataSettings) if field.name not in ("reader", *USED[settings.reader])):
        if getattr(settings, name) != getattr(defaults, name):
            readers = " or ".join(reader for reader, used in USED.items() if name in used)
            raise ValueError(f"{where}.{name} has no effect with {where}.reader={settings.reader}; it is for {readers}")
