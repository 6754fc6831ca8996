"""What `hf download` leaves in the cache of the hub, without a network."""

from pathlib import Path


def snapshot_of(repository: str, cache: Path, monkeypatch) -> Path:
    """The empty folder that the cache gives for a repository from now on: refs/main names the snapshot."""
    folder = cache / f"datasets--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(cache))
    return snapshot
