"""Starts the project's modules on several processes, as a user does, and never waits for ever."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

# The option says GPU; the processes use those that there are, here none, and then talk by gloo.
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--mixed_precision=no"]
ACCELERATE += ["--dynamo_backend=no", "--main_process_port=0"]


def launch(module: str, *arguments: str, folder: Path, processes: int = 2, timeout: float = 400) -> tuple[int, str]:
    """Run `accelerate launch -m MODULE ARGUMENTS` in a folder; return its exit status and everything it printed.

    Raises:
        AssertionError: If it has not ended after `timeout` seconds; all of its processes are killed before.
    """
    command = [sys.executable, *ACCELERATE, f"--num_processes={processes}", "-m", module, *arguments]
    repository = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": repository}
    output = folder / f"output-of-{module}"
    with open(output, "w+b") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(process)
    text = output.read_text(errors="replace")
    assert code is not None, f"{module} hangs; it was ended after {timeout} s. Its output:\n{text[-6000:]}"
    return code, text


def end(process: subprocess.Popen):
    """Kill the launcher, if it still runs, and its processes, which lie in process groups of their own."""
    if process.poll() is not None:
        return
    everyone = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in everyone:
        child.kill()
    process.wait()
