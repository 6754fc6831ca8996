"""One of several processes: runs every scenario and writes down what came of it.

accelerate launch --multi_gpu --num_processes 2 -m tests.several_processes.worker FOLDER [NAME ...]
"""

import os
import sys
import time
import traceback
from pathlib import Path

import torch

from tests.several_processes.judging import judge, measure_mixture
from tests.several_processes.scenarios import SCENARIOS, run


def main(folder: Path, names: list[str]):
    torch.set_num_threads(1)
    rank, outcomes = int(os.environ["RANK"]), {}
    for name in names:
        started = time.perf_counter()
        try:
            outcomes[name] = run(name, folder)
        except Exception:
            outcomes[name] = traceback.format_exc()
        print(f"process {rank}: {name}: {time.perf_counter() - started:.1f} s", flush=True)
    outcomes["judging"], outcomes["mixture"] = judge(folder), measure_mixture(folder)
    torch.save(outcomes, folder / f"outcomes-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(SCENARIOS))
