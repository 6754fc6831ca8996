"""The commands as a user types them, with real vLLM."""

import json
import os
import subprocess
import sys

ENGINE = "{enforce_eager: true, max_model_len: 1024, gpu_memory_utilization: 0.1}"
FEW = ["data.num_train=64", "data.num_eval=16", "trainer.save_model=false", "logger=none"]


def run(*arguments, folder):
    command = [sys.executable, "-m", *arguments, f"hydra.run.dir={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_train(tmp_path):
    engine = f"+trainer.extra.vllm_engine_kwargs={ENGINE}"
    run("r1reward.train", "trainer.max_steps=4", "trainer.use_vllm=true", engine, *FEW, folder=tmp_path)
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps[0]["rewards/format/mean"] == 1.0
    assert all(step["sampling/sampling_logp_difference/mean"] < 2e-2 for step in steps[::2])


def test_evaluate(tmp_path):
    """The same accuracy as with transformers, in float32."""
    found = {}
    for backend in (["backend=transformers"], ["backend=vllm", f"+backend.engine_kwargs={ENGINE[:-1]}, dtype: float32}}"]):
        folder = tmp_path / backend[0].partition("=")[2]
        run("r1reward.evaluate", "benchmark=shapes", "benchmark.num=50", *backend, folder=folder)
        found[backend[0]] = json.loads((folder / "results.json").read_text())["overall"]["accuracy"]
    assert found["backend=vllm"] == found["backend=transformers"]
