"""The reports of an evaluation: tables for the terminal, a Markdown row beside the published numbers, a page of mistakes.

Shares are per cent in what people read; results.json keeps them as shares, unrounded, with all intervals.
"""

import re
import sys
from pathlib import Path
from string import ascii_lowercase

from r1reward.benchmarks.items import Benchmark
from r1reward.benchmarks.published import (
    CHOSEN_FIRST,
    OFFICIAL_VL,
    OTHER_PROMPT,
    POINTWISE,
    QUOTED,
    R1_REWARD_PROMPT,
    RELEASED_BUCKETS,
    UNKNOWN_BUCKETS,
    Published,
    published,
)
from r1reward.benchmarks.verdicts import Vote

DASH = "–"
FILES = ("results.json", "verdicts.jsonl", "row.md", "mistakes.html")
OFFICIAL_MRB = "published order, unparsable outputs count as a guess"  # as the notes of its leaderboard's rows say
OFFICIAL_BUCKETS = "official buckets, ours are the released ones: only overall compares"

_ORDERS = {
    "both": "Every item is judged in both orders of its responses; accuracy is the mean of the two.",
    "random": "Every item is judged in one order, drawn by the seed.",
    "data": "Every item is judged in one order, that of the published data.",
    "preferred_first": "The better response is always shown first: a judge that always names the first scores 100 %.",
}
_UNDECIDED = {"wrong": "counts as wrong", "left_out": "takes the item out of the accuracy", "guess": "is replaced by a guess"}
_FIRST_POSITION = {
    "both": "50 % is no favour for either place.",
    "random": "about 50 % is no favour for either place.",
    "data": "a judge that is always right has the share of items whose better response comes first in the data.",
    "preferred_first": "the better response is always there, so favour for it cannot be told from judgement.",
}


def write_reports(folder: Path, model_name: str, benchmark: Benchmark, votes: list[Vote], results: dict, mistakes: int) -> None:
    """Write row.md, items.jsonl (for `paired`) and mistakes.html into the folder.

    Args:
        folder: The evaluation's folder.
        model_name: Path or hub id of the reward model.
        benchmark: The items.
        votes: All votes on them.
        results: What results.json holds.
        mistakes: Items on the page of mistakes, at most; 0: no page, and an old one is removed.
    """
    from r1reward.benchmarks.mistakes import write_page
    from r1reward.benchmarks.paired import ITEMS, write_items

    (folder / "row.md").write_text(markdown(model_name, results), encoding="utf-8")
    write_items(folder / ITEMS, benchmark)
    if mistakes:
        write_page(folder / "mistakes.html", benchmark, votes, mistakes, short_name(model_name))
    else:
        (folder / "mistakes.html").unlink(missing_ok=True)


def short_name(model_name: str) -> str:
    """A hub id or relative path as it is; of an absolute path the last two parts, for the rest is of no concern to readers."""
    path = Path(model_name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else model_name


def in_words(results: dict) -> list[str]:
    """What the protocol does and what its numbers mean, a sentence each."""
    rules, votes, overall = results["rules"], results["votes"], results["overall"]
    consequence = _UNDECIDED[rules["undecided"]]
    if votes > 1:
        unreadable = "no more than half of all votes for either" if rules["undecided"] == "left_out" else "a tie"
        decided = f"The majority of {votes} votes decides in each order; {unreadable} {consequence}"
    else:
        decided = f"A verdict that cannot be read {consequence}"
    sentences = [_ORDERS[rules["orders"]], f"{decided} ({_count(overall['undecided'], 'verdict')} here)."]
    if rules["orders"] == "both":
        sentences.append("Flips: items whose preferred response changes with the order.")
    sentences.append(
        "Names first: share of the readable votes that name the response shown first; " + _FIRST_POSITION[rules["orders"]]
    )
    if overall.get("acc_plus"):
        sentences.append("Acc+: share of questions all of whose pairs are right, in every order that is judged.")
    if results["buckets"] == "released":
        sentences.append("Categories are those of R1-Reward's released scorer, not the official ones.")
    return sentences


def caveats(results: dict) -> list[str]:
    """What was met in the data and must be known to believe the numbers; empty where nothing was."""
    notes = results["notes"]
    lines = []
    if not results["complete"]:
        problems = "; ".join(results["size_problems"])
        lines.append(f"Not a benchmark score: the items are not those of the whole benchmark ({problems}).")
    if notes.get("missing_images_skipped"):
        lines.append(f"{_count(notes['missing_images_skipped'], 'item')} left out because images are missing.")
    if notes.get("ties_left_out"):
        lines.append(
            f"{_count(notes['ties_left_out'], 'tie')} left out: a pair without a better response has no right verdict."
        )
    if notes.get("duplicate_ids"):
        lines.append(f"{_count(notes['duplicate_ids'], 'row')} repeat the id of another; all are judged.")
    known = ("rows", "missing_images_skipped", "ties_left_out", "duplicate_ids")
    lines += [f"{name.replace('_', ' ')}: {count:,}." for name, count in notes.items() if name not in known and count]
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def markdown(model_name: str, results: dict) -> str:
    """Our row beside the published ones, and what keeps those from being compared with it."""
    rows = published(results["benchmark"])
    remarks = list(dict.fromkeys(remark for row in rows for remark in _remarks(row, results)))
    letters = dict(zip(remarks, ascii_lowercase, strict=False))
    links = {source: f"[{n}]({_address(source)})" for n, source in enumerate(dict.fromkeys(row.source for row in rows), 1)}
    columns = _columns(results, rows)
    ours = [_escape(short_name(model_name)), *[_ours(results, key) for key in columns.values()]]
    lines = [["Model", *columns], ["---", *["---:"] * len(columns)], [f"**{cell}**" for cell in ours]]
    for row in rows:
        marks = ", ".join(sorted(letters[remark] for remark in _remarks(row, results)))
        scores = _theirs(row)
        lines.append([f"{row.model} ({marks})" if marks else row.model, *[scores.get(key, DASH) for key in columns.values()]])
    if rows:
        sources = ["Source", "---", "this evaluation", *[links[row.source] for row in rows]]
        lines = [[*line, source] for line, source in zip(lines, sources, strict=True)]
    parts = ["\n".join("| " + " | ".join(line) + " |" for line in lines), _our_row(results)]
    parts.append("\n".join(f"- {_escape(line)}" for line in caveats(results)))
    if rows:
        direct = "; those without a letter compare with ours directly" if results["complete"] else ""
        parts.append(f"Before comparing the published rows{direct}:")
        of_whom = {remark: "; ".join(row.model for row in rows if remark in _remarks(row, results)) for remark in remarks}
        parts.append("\n".join(f"- ({letters[remark]}) {remark}: {models}" for remark, models in of_whom.items()))
        parts.append("Sources: " + " ".join(f"{link} {source}." for source, link in links.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


def _columns(results: dict, rows: list[Published]) -> dict[str, str]:
    """Title -> key of the scores: the published categories, then those of ours that are not among them. Where ours are parts
    of a published one ("safety/bias" of "safety"), a single part needs no column of its own."""
    ends = {"Overall": "overall", "Macro": "macro"}
    if results["overall"].get("acc_plus"):
        ends = {"Acc": "overall", "Acc+": "acc_plus"}
    keys = list(dict.fromkeys(key for row in rows for key in row.scores if key not in ("overall", "macro", "acc_plus")))
    for category in results["by_category"]:
        parent = category.split("/")[0]
        if category not in keys and (parent not in keys or len(_parts(results, parent)) > 1):
            keys.append(category)
    return {_escape(key): key for key in keys} | ends


def _parts(results: dict, parent: str) -> list[str]:
    return [category for category in results["by_category"] if category.startswith(f"{parent}/")]


def _ours(results: dict, key: str) -> str:
    """Our number for a key of `Published.scores`, in per cent with two decimals, as papers have them."""
    if key in results["by_category"]:
        share = _mean(results["by_category"][key]["accuracy"])
    elif key in ("overall", "macro"):
        share = _mean(results[key]["accuracy"])
    elif key == "acc_plus":
        share = _mean(results["overall"]["acc_plus"])
    else:  # over the pairs of its parts, if there are any; no protocol of a benchmark with parts leaves a pair out
        blocks = [results["by_category"][part] for part in _parts(results, key)]
        pairs = sum(block["n"] for block in blocks)
        share = sum(block["n"] * block["accuracy"]["mean"] for block in blocks) / pairs if pairs else None
    return DASH if share is None else f"{100 * share:.2f}"


def _theirs(row: Published) -> dict[str, str]:
    """The published numbers, all with as many decimals as the row has."""
    digits = max(len(f"{score:g}".partition(".")[2]) for score in row.scores.values())
    return {key: f"{score:.{digits}f}" for key, score in row.scores.items()}


def _remarks(row: Published, results: dict) -> list[str]:
    """What keeps the row from being compared with ours: its notes without those that hold for ours too."""
    protocol = results["protocol"]
    as_ours = {
        CHOSEN_FIRST: protocol == "released",
        RELEASED_BUCKETS: results["buckets"] == "released",
        OFFICIAL_VL: protocol == "official",
        OFFICIAL_MRB: protocol == "official",
        POINTWISE: protocol != "released",  # without an order, either order gives the same score
        "5,211 pairs": results["overall"]["n"] == 5211,
    }
    notes = row.note.replace(QUOTED, QUOTED.replace("; ", ", ")).split("; ")
    remarks = [note for note in notes if note and not as_ours.get(note)]
    prompt = results.get("prompt")
    same = prompt is None or (CHOSEN_FIRST in notes and prompt["digest"] == R1_REWARD_PROMPT)
    if not same and POINTWISE not in notes:  # what scores each response alone has no such prompt
        remarks.append(OTHER_PROMPT)
    if as_ours[RELEASED_BUCKETS] and row.benchmark == "vl_rewardbench" and not {RELEASED_BUCKETS, UNKNOWN_BUCKETS} & set(notes):
        remarks.append(OFFICIAL_BUCKETS)
    return remarks


def _mean(number: dict | None) -> float | None:
    return number and number["mean"]


def _our_row(results: dict) -> str:
    overall, votes = results["overall"], _count(results["votes"], "vote")
    rates = {
        "accuracy": "accuracy",
        "both_orders_correct": "right in both orders",
        "flip_rate": "flips",
        "first_position_rate": "names the first",
        "unparsable_rate": "unparsable",
        "malformed_rate": "not well formed",
    }
    numbers = [f"{words} {_share(overall[name])} %" for name, words in rates.items() if overall[name]]
    edition = f" ({results['edition']})" if results["edition"] else ""
    prompt = f", judge prompt {_escape(short_name(results['prompt']['name']))}" if results.get("prompt") else ""
    return (
        f"Our row: {_escape(results['benchmark'])}{edition}{prompt}, protocol {results['protocol']}, "
        f"{results['buckets']} buckets, {votes} per item and order, n = {overall['n']:,} items. "
        f"{_ORDERS[results['rules']['orders']]} Overall {', '.join(numbers)}; 95 % bootstrap intervals over questions."
    )


def _address(source: str) -> str:
    """The link of a source such as "arXiv 2505.02835 v2, table of …" or "github.com/owner/name, README"."""
    place = source.partition(",")[0]
    arxiv = re.fullmatch(r"arXiv ([\d.]+) (v\d+)", place)
    return f"https://arxiv.org/abs/{arxiv[1]}{arxiv[2]}" if arxiv else f"https://{place}"


def _escape(text: str) -> str:
    return re.sub(r"([\\|*_\[\]`])", r"\\\1", text.replace("\n", " ")).replace("<", "&lt;")


def _share(number: dict | None, interval: bool = True) -> str:
    if number is None:
        return DASH
    mean = f"{100 * number['mean']:.1f}"
    return f"{mean} [{100 * number['low']:.1f}, {100 * number['high']:.1f}]" if interval else mean


def print_results(results: dict, folder: str | Path, console=None) -> None:
    """The results for a terminal of at least 80 columns: by category, the curve over votes, what to know, and the files."""
    from rich.console import Console
    from rich.text import Text

    # Into a file or a pipe rich assumes 80 characters and would break words to fit; a log has no such border.
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    edition = f" ({results['edition']})" if results["edition"] else ""
    votes = _count(results["votes"], "vote")
    console.print(Text(f"{results['benchmark']}{edition}, protocol {results['protocol']}, {votes}", style="bold"))
    console.print(_by_category(results, console.width))
    if results["votes"] > 1:
        console.print(_curve(results["overall"]["curve"]))
    for line in caveats(results):
        console.print(Text(line, style="bold yellow"))
    for line in [*in_words(results), *_reading(results)]:
        console.print(Text(line, style="dim"))
    for name in FILES:
        if (Path(folder) / name).is_file():
            console.print(Text(f"{name:>14}  {Path(folder) / name}"), soft_wrap=True)


def _reading(results: dict) -> list[str]:
    lines = [
        "Brackets: 95 % bootstrap interval, questions resampled with all their pairs; results.json has one for each number."
    ]
    if results["votes"] > 1:
        lines.append(
            "The curve is the mean over all subsets of k of the votes. Any right: in an order, at least one of the k votes is; "
            "it nears 100 % for any judge that draws both answers, and measures no capability."
        )
        if results["rules"]["undecided"] == "wrong":
            lines.append("Ties count as wrong, so that an even k is lower than the odd ones beside it.")
    return lines


def _by_category(results: dict, width: int):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    with_groups = bool(results["overall"].get("acc_plus"))
    both = results["rules"]["orders"] == "both"
    rates = [("names\nfirst", "first_position_rate"), ("unpar-\nsable", "unparsable_rate")]
    if both:
        rates = [("both\norders", "both_orders_correct"), ("flips", "flip_rate"), *rates]
    if with_groups:
        rates = [("Acc+", "acc_plus"), *rates]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, int(width >= 100), 0, 0))
    table.add_column("%", overflow="fold")
    for title in ("n", "accuracy", *[title for title, _ in rates], "tokens"):
        table.add_column(title, justify="right", no_wrap=True)

    def add(name: str, block: dict, n: str, style: str = ""):
        shares = [_share(block[key], interval=False) for _, key in rates]
        tokens = DASH if block["mean_tokens"] is None else f"{block['mean_tokens']['mean']:.0f}"
        table.add_row(Text(name, style=style), n, Text(_share(block["accuracy"]), style=style), *shares, tokens)

    for category, block in results["by_category"].items():
        add(category, block, f"{block['n']:,}")
    table.add_section()
    add("overall", results["overall"], f"{results['overall']['n']:,}", "bold")
    add("macro", results["macro"], "")
    return table


def _curve(curve: list[dict]):
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("votes", "accuracy, %", "any right, %"):
        table.add_column(title, justify="right", no_wrap=True)
    for point in curve:
        table.add_row(str(point["k"]), _share(point["accuracy"]), _share(point["any_correct"]))
    return table
