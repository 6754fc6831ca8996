"""Videos as sampled frames: a video is a folder of frames, of which evenly spaced ones become a row's images."""

import os
import re
import shlex

import numpy as np

FRAMES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov")


def frame_files(folder: str) -> list[str]:
    """The frames in a folder, in no particular order; other files are passed over."""
    return [os.path.join(folder, name) for name in os.listdir(folder) if name.lower().endswith(FRAMES)]


def sample_frames(files: list[str], num_frames: int) -> list[str]:
    """At most `num_frames` of the files, evenly spaced from the first to the last after a natural sort (2 before 10).

    The indices are those of R1-Reward's released evaluation, `linspace(0, n - 1, num_frames)` rounded down, but on sorted
    files (its script takes them in the order of the file system), and a video with fewer frames shows each once (there, some
    come several times).
    """
    ordered = sorted(files, key=_natural_key)
    indices = np.linspace(0, len(ordered) - 1, min(num_frames, len(ordered)), dtype=int)
    return [ordered[index] for index in indices]


def extraction(path: str) -> str | None:
    """The command that makes the folder of frames where there is a video file instead: at `path` or at `path` + ".mp4" and
    the like; None where there is none.
    """
    folder, ending = os.path.splitext(path)
    candidates = [(path, folder)] if ending.lower() in VIDEOS else [(path + suffix, path) for suffix in VIDEOS]
    for file, target in candidates:
        if os.path.isfile(file):
            quoted = [shlex.quote(name) for name in (target, file, f"{target}/%04d.jpg")]
            return "mkdir -p {} && ffmpeg -i {} -vf fps=1 {}".format(*quoted)
    return None


def _natural_key(file: str) -> list[tuple[str, int]]:
    numbers_and_text = re.findall(r"([0-9]+)|([^0-9]+)", os.path.basename(file))
    return [(text, int(number or 0)) for number, text in numbers_and_text]
