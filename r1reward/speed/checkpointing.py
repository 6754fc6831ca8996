"""What checkpoints cost: the embedded run with its checkpoints at the default interval, and without, in turn."""

import tempfile
from pathlib import Path

from r1reward.configs import CONFIG_FOLDER, compose_settings
from r1reward.trainer.job import Job


def checkpointing(trials: int, overrides: tuple[str, ...] = ()) -> dict:
    """Seconds of training from one checkpoint to the next, that checkpoint included, and of as many steps without one.

    Args:
        trials: Pairs, after one that is thrown away.
        overrides: Further settings, in Hydra's grammar.
    """
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("train", overrides=["arm=bench", "logger=none", "trainer.evaluate=false", *overrides])
    interval = config.trainer.save_steps
    config.trainer.save_model, config.trainer.max_steps = False, interval
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as folder:
        for trial in range(trials + 1):
            for kind, save_steps in (("with", interval), ("without", 0)):
                config.trainer.save_steps = save_steps
                run = Path(folder) / f"{kind}-{trial}"
                summary = Job.prepare(compose_settings(config), run, "bench").run()
                if trial:
                    seconds[kind].append(summary["seconds"]["training"])
        files = [path for path in (Path(folder) / "with-0" / "checkpoints").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    return {"interval": interval, "bytes": size, "seconds": seconds}
