"""What checkpoints cost: the share of the embedded run's training that is spent in writing them, at the default interval."""

import tempfile
import time
from pathlib import Path

from r1reward.configs import CONFIG_FOLDER, compose_settings
from r1reward.trainer.job import Job
from r1reward.trainer.stable_reinforce import StableReinforceTrainer


def checkpointing(trials: int, overrides: tuple[str, ...] = ()) -> dict:
    """Seconds of training from one checkpoint to the next, and of these the seconds spent in that checkpoint.

    Training times of whole runs vary by more than a checkpoint takes, so runs with and without are not compared.

    Args:
        trials: Intervals, after one that is thrown away.
        overrides: Further settings, in Hydra's grammar.
    """
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("train", overrides=["arm=bench", "logger=none", "trainer.evaluate=false", *overrides])
    interval = config.trainer.save_steps
    config.trainer.save_model, config.trainer.max_steps = False, interval
    stock, saving = StableReinforceTrainer._save_checkpoint, []

    def timed(*args):
        started = time.perf_counter()
        stock(*args)
        saving.append(time.perf_counter() - started)

    seconds: dict[str, list[float]] = {"training": [], "saving": saving}
    StableReinforceTrainer._save_checkpoint = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            for trial in range(trials + 1):
                run = Path(folder) / str(trial)
                summary = Job.prepare(compose_settings(config), run, "bench").run()
                seconds["training"].append(summary["seconds"]["training"])
            size = sum(path.stat().st_size for path in (run / "checkpoints").rglob("*") if path.is_file())
    finally:
        StableReinforceTrainer._save_checkpoint = stock
    return {"interval": interval, "bytes": size, "seconds": {name: values[1:] for name, values in seconds.items()}}
