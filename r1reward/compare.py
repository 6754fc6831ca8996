"""Compare finished runs: `python -m r1reward.compare FOLDER...` prints a table and writes plots and one HTML page.

Two folders of evaluations are compared item by item instead, by paired tests.

`r1reward.reporting.report` does the same from Python; a study calls it when its last run has finished.
"""

import argparse
import sys
from pathlib import Path

from r1reward.reporting import report

EXAMPLES = """examples:
  a whole study, report in runs/clipping/comparison:
    python -m r1reward.compare runs/clipping
  two studies against one baseline arm, report elsewhere:
    python -m r1reward.compare runs/clipping runs/filter --baseline full --output /tmp/report
  two evaluations of the same items, by paired tests:
    python -m r1reward.compare evaluations/vl_rewardbench/A evaluations/vl_rewardbench/B
  accuracy on other shapes than those trained on:
    python -m r1reward.compare runs/clipping --split out_of_distribution
"""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m r1reward.compare",
        description="Compare runs by arm and seed: a table with intervals, plots and one self-contained HTML page.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="run folders or folders above them; or two evaluations"
    )
    result.add_argument(
        "--output", type=Path, metavar="DIR", help="where the report goes (default: comparison/ in the first folder)"
    )
    result.add_argument(
        "--baseline",
        metavar="ARM",
        help="arm others are compared with, seed by seed (default: full, pre_clip, clip=pre_clip, or nearest to the defaults)",
    )
    result.add_argument("--split", default="held_out", help="split of the main columns (default: %(default)s)")
    result.add_argument("--title", help="title of the page (default: the studies' names)")
    result.add_argument("--question", help="the question that the study asks, shown below the title")
    return result


def main(arguments: list[str] | None = None) -> int:
    """The command line; exit status 2 with one line of explanation where the folders cannot be compared."""
    options = parser().parse_args(arguments)
    output = options.output or options.folders[0] / "comparison"
    try:
        if len(options.folders) == 2 and all((folder / "results.json").is_file() for folder in options.folders):
            from r1reward.benchmarks.paired import compare_evaluations, print_comparison

            print_comparison(compare_evaluations(*options.folders))
            return 0
        report(options.folders, output, options.baseline, options.title, options.split, options.question)
    except ValueError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
