"""Evaluate a reward model: `python -m r1reward.evaluate`. Compose the config, judge what is not judged yet, score, report.

Only Hydra is imported here; torch loads when something is judged, so that `--help` answers at once.
"""

import os
import sys

import hydra
from omegaconf import DictConfig

from r1reward.configs import CONFIG_FOLDER, check_processes, command_line, compose_settings, quiet_libraries
from r1reward.tracking.disk import disk_error
from r1reward.tracking.redaction import redact
from r1reward.unknown_settings import start, started

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
SERVER_FAILED = 3  # exit code where the reward model's server gave no completion
BLIND = 7  # exit code where the model does not see its images, as r1reward.train has it
DISK = 5  # exit code where the disk is full or failed, as r1reward.train has it


@hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="evaluate")
def main(config: DictConfig) -> float | None:
    """Run one evaluation and return the overall accuracy of its verdicts."""
    started()
    from hydra.core.hydra_config import HydraConfig

    folder = HydraConfig.get().runtime.output_dir
    try:
        check_processes()
        quiet_libraries()
        from tqdm.auto import tqdm

        from r1reward.benchmarks.job import evaluate
        from r1reward.benchmarks.report import print_results
        from r1reward.benchmarks.settings import EvaluateSettings
        from r1reward.benchmarks.tasks import TASKS, print_task_results
        from r1reward.inference.server_backend import ServerFailed
        from r1reward.models.image_check import ImagesNotSeen

        settings = compose_settings(config, EvaluateSettings)
        bars: list[tqdm] = []

        def begin(total: int, done: int):
            bars.append(tqdm(desc=settings.benchmark.name, unit="verdict", total=total, initial=done, smoothing=0.05))

        try:
            results = evaluate(settings, folder, command_line(), begin, lambda verdicts: bars[0].update(verdicts))
        finally:
            for bar in bars:
                bar.close()
    except ValueError as error:
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        print(f"error: {redact(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command goes on from here: {folder}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except ServerFailed as error:
        print(f"\nerror: {redact(str(error))}\nthe same command goes on from here: {folder}", file=sys.stderr)
        sys.exit(SERVER_FAILED)
    except ImagesNotSeen as error:
        print(f"\nerror: {error}", file=sys.stderr)
        sys.exit(BLIND)
    except Exception as error:
        said = disk_error(error)
        if said is None:
            raise
        print(f"\nerror: {said}\nthe same command goes on from here: {folder}", file=sys.stderr)
        sys.exit(DISK)
    if not results:  # not the first process
        return None
    if results["benchmark"] in TASKS:
        print_task_results(results, folder)
        return None
    print_results(results, folder)
    accuracy = results["overall"]["accuracy"]  # None where no item has a majority
    return None if accuracy is None else accuracy["mean"]


def _settings() -> type:
    from r1reward.benchmarks.settings import EvaluateSettings

    return EvaluateSettings


if __name__ == "__main__":
    start(main, _settings)
