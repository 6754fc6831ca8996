"""How fast we are, beside stock TRL: `python -m r1reward.bench` (`make bench`) measures and writes table, plot and numbers."""

import argparse
import sys
from pathlib import Path

SHAPES = ("256,64,8", "1000,128,2", "1000,128,4", "1000,128,8", "1000,128,16", "1000,128,32", "2000,256,8")
PARTS = ("steps", "memory", "verdicts", "rewards", "evaluation", "checkpoints")
EXAMPLES = """examples:
  everything on this CPU, about an hour (two cores; nothing else should run):
    python -m r1reward.bench
  one shape, quickly:
    python -m r1reward.bench --shapes 256,64,8 --trials 3 --parts steps --output /tmp/bench
  a 3B-shaped model with random weights on a GPU:
    python -m r1reward.bench --model 3b --shapes 1000,128,8 2000,256,8
"""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m r1reward.bench",
        description="Measure rollout batches of stock TRL, of ours without sharing and of ours, in turn in one process.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--shapes", nargs="+", default=SHAPES, metavar="P,R,G", help="prompt tokens, completion tokens, completions per prompt"
    )
    result.add_argument("--prompts", type=int, default=2, help="prompts per rollout batch, an even number (default: 2)")
    result.add_argument("--trials", type=int, default=5, help="rollout batches measured per trainer and shape (default: 5)")
    result.add_argument(
        "--kinds", nargs="+", choices=("stock", "unshared", "ours"), default=("stock", "unshared", "ours"), help="trainers"
    )
    result.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)",
    )  # fmt: skip
    result.add_argument("--model", choices=("small", "3b", "7b"), default="small", help="7.3 million parameters, or 3B, 7B")
    result.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    result.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: float32 on a CPU, bfloat16 on a GPU")
    result.add_argument(
        "--output", type=Path, default=Path("experiments/benchmarks"), metavar="DIR", help="default: %(default)s"
    )
    result.add_argument("--report-only", action="store_true", help="write table and plot anew from the numbers in DIR")
    return result


def shape(text: str, prompts: int):
    """A shape from "P,R,G".

    Raises:
        ValueError: If it is not three positive numbers, or they do not fit.
    """
    from r1reward.speed.workload import Shape

    try:
        prompt, completion, generations = map(int, text.split(","))
    except ValueError:
        raise ValueError(f"--shapes {text}: give P,R,G, for example 1000,128,8") from None
    if prompt < 200 or completion < 2 or generations < 2:
        raise ValueError(f"--shapes {text}: P must be at least 200, R and G at least 2")
    if prompts < 2 or prompts % 2:
        raise ValueError(f"--prompts {prompts}: two updates share a rollout batch, so give an even number")
    return Shape(prompt, completion, generations, prompts)


def main(arguments: list[str] | None = None) -> int:
    """The command line; exit status 2 with one line of explanation where something cannot be measured."""
    options = parser().parse_args(arguments)
    try:
        if not options.report_only:
            _measure(options)
        from r1reward.speed.report import write_report

        print(write_report(options.output))
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(options):
    import tempfile

    from r1reward.configs import quiet_libraries

    shapes = [shape(text, options.prompts) for text in options.shapes]
    quiet_libraries()
    import torch

    from r1reward.speed.checkpointing import checkpointing
    from r1reward.speed.evaluation import evaluation
    from r1reward.speed.measure import Bench, Machine, peak_memory
    from r1reward.speed.report import Results
    from r1reward.speed.rewards import scoring

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU")
    machine = Machine(device, options.dtype or ("float32" if device == "cpu" else "bfloat16"), options.model)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(machine, Path(folder))
        results = Results(options.output, machine.describe(), bench.parameters, bench.vision_parameters)
        for part, measure in (("rewards", scoring), ("evaluation", evaluation), ("checkpoints", checkpointing)):
            if part in options.parts:
                results.values[part] = measure(options.trials)
                results.save()
        for each in shapes:
            if "steps" in options.parts:
                results.add("steps", str(each), bench.steps(each, options.trials, options.kinds, _show(each)))
            if "memory" in options.parts:
                peaks = {kind: peak_memory(machine, kind, each) for kind in options.kinds}
                results.add("memory", str(each), peaks)
            if "verdicts" in options.parts and each.generations == 8:
                results.add("verdicts", str(each), bench.verdicts(each, rows=8, trials=options.trials))


def _show(each):
    def show(kind: str, seconds: dict):
        parts = "  ".join(f"{name} {value:.2f}" for name, value in seconds.items())
        print(f"{each}  {kind:9}{parts}  (seconds)", flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
