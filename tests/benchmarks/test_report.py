"""What people read of an evaluation: the Markdown row beside the published ones, and the tables for the terminal."""

import io
import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from r1reward.benchmarks import mm_rlhf_rewardbench, multimodal_rewardbench
from r1reward.benchmarks.items import Benchmark, Item
from r1reward.benchmarks.preference_files import shapes_benchmark
from r1reward.benchmarks.protocols import requests, rules_of
from r1reward.benchmarks.published import OTHER_PROMPT, R1_REWARD_PROMPT, published
from r1reward.benchmarks.read import NAMES
from r1reward.benchmarks.report import caveats, in_words, markdown, print_results, short_name, write_reports
from r1reward.benchmarks.scores import summarise
from r1reward.benchmarks.verdicts import Table, Vote
from r1reward.data.rows import PreferenceRow


def benchmark(name, sizes, groups_of=1):
    """Items c0, c1, ... of each category c, response 1 the better one; `groups_of` items share a question."""
    items = [
        Item(PreferenceRow(f"{c}{n}", (), "Q", ("a", "b"), 1, ("", "", ""), category=c), f"{c}{n // groups_of}", c)
        for c, size in sizes.items()
        for n in range(size)
    ]
    return Benchmark(name, items, dict(sizes), {"rows": len(items)}, "as made here")


def judged(bench, right=lambda id, order, vote: True, protocol="both_orders", buckets="official", num_votes=1):
    """(votes, results) of a judge that is right where told; None is unparsable."""
    wanted, labels, votes = requests(bench, protocol), {item.row.id: item.row.label for item in bench.items}, []
    for id, order in wanted:
        for k in range(num_votes):
            answer, good = right(id, order, k), labels[id] if order == "forward" else 3 - labels[id]
            choice = None if answer is None else good if answer else 3 - good
            votes.append(Vote(id, order, k, choice, None, 10, "text"))
    about = {
        "complete": bench.is_complete,
        "edition": bench.edition,
        "notes": bench.notes,
        "size_problems": bench.size_problems(),
    }
    scores = summarise(bench, Table.build(bench.items, votes, wanted, num_votes), protocol, buckets, resamples=20)
    return votes, about | scores


def results_of(*arguments, **options):
    return judged(*arguments, **options)[1]


VL = {"general": 2, "hallucination": 4, "reasoning": 1}
MRB = multimodal_rewardbench.EDITIONS


def vl_results(**options):
    """general 3/4, hallucination 8/8, reasoning 1/2; overall 12/14, macro 3/4."""
    wrong = {("general0", "backward"), ("reasoning0", "forward")}
    return results_of(benchmark("vl_rewardbench", VL), lambda id, order, vote: (id, order) not in wrong, **options)


def cells(text, model):
    """The cells of the table's row whose first cell begins with that name, the name's letters apart."""
    (line,) = [line for line in text.splitlines() if line.startswith((f"| {model} |", f"| {model} ("))]
    first, *others = [cell.strip() for cell in line.strip("|").split("|")]
    return first.removeprefix(model).strip(" ()"), others


def remarks(text):
    """letter -> remark with its models."""
    lines = [line for line in text.splitlines() if line.startswith("- (")]
    return {line[3]: line[6:] for line in lines}


def remarks_on(text, model):
    letters, _ = cells(text, model)
    return " ".join(remarks(text)[letter] for letter in letters.split(", ") if letter)


def test_our_row_stands_beside_the_published_ones():
    text = markdown("some/model", vl_results())
    lines = text.splitlines()
    assert lines[0] == "| Model | general | hallucination | reasoning | Overall | Macro | Source |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
    assert lines[2] == "| **some/model** | **75.00** | **100.00** | **50.00** | **85.71** | **75.00** | this evaluation |"
    rows = published("vl_rewardbench")
    assert len([line for line in lines if line.startswith("| ")]) == 3 + len(rows)
    link = "[1](https://arxiv.org/abs/2505.02835v2)"
    assert cells(text, "R1-Reward")[1] == ["63.84", "85.71", "64.78", "71.92", "71.44", link]
    # As many decimals as the published row has; no macro among the ablations, which are another source.
    assert cells(text, "IXC-2.5-Reward")[1] == ["84.7", "62.5", "62.9", "65.8", "70.0", link]
    assert cells(text, "R1-Reward, SFT only")[1] == ["59.92", "72.27", "60.01", "64.80", "–", link.replace("1]", "2]", 1)]
    assert f"Sources: {link} {rows[0].source}. " in text


def test_the_line_below_says_how_our_row_was_made():
    text = markdown("m", vl_results())
    (line,) = [line for line in text.splitlines() if line.startswith("Our row")]
    assert (
        "protocol both_orders, official buckets, 1 vote per item and order, n = 7 items. Every item is judged in both" in line
    )
    assert "as made here" in line
    assert "right in both orders 71.4 [" in line and "flips 28.6 [" in line  # 5 of 7, 2 of 7
    assert "Overall accuracy 85.7 [" in line and "unparsable 0.0 [" in line and "names the first 50.0 [" in line
    voted = markdown("m", vl_results(num_votes=3, protocol="official", buckets="released"))
    assert "protocol official, released buckets, 3 votes per item and order, n = 7" in voted
    assert "right in both" not in voted and "flips" not in voted


def test_what_is_not_comparable_depends_on_how_we_judged():
    first, released, authors, alone = (
        "always shown first",
        "301 hallucination",
        "random order, majority",
        "scores each response",
    )
    text = markdown("m", vl_results())
    assert first in remarks_on(text, "R1-Reward") and released in remarks_on(text, "R1-Reward")
    assert authors in remarks_on(text, "GPT-4o")
    # A model without an order scores the same in both.
    assert cells(text, "IXC-2.5-Reward")[0] == "" and alone not in text
    assert "those without a letter compare with ours directly" in text

    text = markdown("m", vl_results(protocol="released", buckets="released"))
    assert cells(text, "R1-Reward")[0] == ""
    assert first not in "".join(remarks(text).values()) and released not in text
    assert alone in remarks_on(text, "MM-RLHF-Reward") and "official buckets" not in remarks_on(text, "MM-RLHF-Reward")
    for model in ("GPT-4o", "IXC-2.5-Reward"):
        assert "only overall compares" in remarks_on(text, model)
    assert authors in remarks_on(text, "GPT-4o")
    assert "neither the released nor" in remarks_on(text, "Claude-3.7-Sonnet")
    assert "only overall" not in remarks_on(text, "Claude-3.7-Sonnet")

    text = markdown("m", vl_results(protocol="official"))
    assert cells(text, "GPT-4o")[0] == "" and first in remarks_on(text, "R1-Reward")
    assert "quoted in the paper, order of the responses not stated: Claude-3.7-Sonnet" in remarks(text).values()


def test_every_remark_names_its_rows_and_no_other():
    text = markdown("m", vl_results())
    for letter, remark in remarks(text).items():
        named = remark.rpartition(": ")[2].split("; ")
        marked = [row.model for row in published("vl_rewardbench") if letter in cells(text, row.model)[0].split(", ")]
        assert named == marked


@pytest.mark.parametrize(("edition", "complete"), [("4,711 pairs, without Hateful Memes", False), ("5,211 pairs", True)])
def test_the_leaderboard_compares_with_the_official_protocol_on_all_pairs(edition, complete):
    (sizes,) = [sizes for name, sizes in MRB.items() if name.startswith(edition)]
    text = markdown("m", results_of(benchmark("multimodal_rewardbench", sizes), protocol="official"))
    found = remarks_on(text, "GPT-4o (Dec 2024)")
    assert found == "" if complete else found.startswith("5,211 pairs: ")
    both = markdown("m", results_of(benchmark("multimodal_rewardbench", sizes)))
    assert "count as a guess" in remarks_on(both, "GPT-4o (Dec 2024)")


def test_published_categories_that_ours_divide_are_over_the_pairs_of_their_parts():
    """1 of 1 in mathematics and 0 of 3 in coding are 25 % of reasoning; safety is its one part, or is over both of them."""
    sizes = {"correctness": 1, "reasoning/math": 1, "reasoning/coding": 3, "safety/bias": 2}
    right = {"correctness0", "reasoning/math0", "safety/bias0"}
    text = markdown("m", results_of(benchmark("multimodal_rewardbench", sizes), lambda id, order, vote: id in right))
    head = "| Model | correctness | preference | knowledge | reasoning/math | reasoning/coding | safety | vqa | reasoning |"
    assert text.startswith(head + " Overall | Macro | Source |")
    ours = ["100.00", "–", "–", "100.00", "0.00", "50.00", "–", "25.00", "42.86", "62.50"]
    assert cells(text, "**m**")[1] == [f"**{number}**" for number in ours] + ["this evaluation"]
    assert cells(text, "GPT-4o (Dec 2024)")[1][3:10] == ["–", "–", "66.9", "87.2", "64.7", "71.5", "–"]

    sizes |= {"safety/toxicity": 2}
    text = markdown("m", results_of(benchmark("multimodal_rewardbench", sizes), lambda id, order, vote: id in right))
    assert text.startswith(head + " safety/bias | safety/toxicity | Overall | Macro | Source |")
    assert cells(text, "**m**")[1][5:10] == ["**25.00**", "**–**", "**25.00**", "**50.00**", "**0.00**"]


def test_mm_rlhf_has_acc_and_acc_plus():
    """Two mcq questions of two pairs each; one pair is wrong: Acc 4/5, Acc+ 2 of 3 questions."""
    bench = benchmark("mm_rlhf_rewardbench", {"mcq": 4, "video": 1}, groups_of=2)
    text = markdown("m", results_of(bench, lambda id, order, vote: id != "mcq0"))
    assert text.startswith("| Model | mcq | long | short | safety | video | Acc | Acc+ | Source |\n")
    ours = ["**75.00**", "**–**", "**–**", "**–**", "**100.00**", "**80.00**", "**66.67**", "this evaluation"]
    assert cells(text, "**m**")[1] == ours
    assert cells(text, "MM-RLHF-Reward")[1][:-1] == ["83", "97", "74", "69", "88", "82", "63"]
    assert cells(text, "GPT-4o")[1][-2] == "26.01"


def test_data_without_published_numbers_has_a_row_alone():
    text = markdown("m", results_of(shapes_benchmark(num=12)))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 3 and table[0].endswith("| Overall | Macro |") and table[2].endswith("| **100.00** | **100.00** |")
    assert "Source" not in text and "published" not in text.lower() and "n = 12 items" in text


def test_names_cannot_break_the_table():
    text = markdown("a|b<c>*d*\ne", results_of(benchmark("mine", {"x|y": 1, "_z_": 1})))
    lines = text.splitlines()
    assert lines[0] == r"| Model | \_z\_ | x\|y | Overall | Macro |"
    assert lines[2].startswith(r"| **a\|b&lt;c>\*d\* e** | ")


@pytest.mark.parametrize(
    ("given", "shown"),
    [("Qwen/Qwen2.5-VL-7B", "Qwen/Qwen2.5-VL-7B"), ("/home/me/runs/x/model", "x/model"), ("runs/a/b/model", "runs/a/b/model")],
)
def test_a_readers_folders_are_not_shown(given, shown):
    assert short_name(given) == shown


def test_what_was_met_in_the_data_is_said():
    notes = {"rows": 20, "duplicate_ids": 2, "ties_left_out": 1, "missing_images_skipped": 3, "unknown_sources_as_general": 4}
    bench = replace(benchmark("vl_rewardbench", VL), notes=notes, sizes=VL | {"general": 183})
    results = results_of(bench)
    assert caveats(results) == [
        "Not a benchmark score: the items are not those of the whole benchmark (general: 2 items, officially 183).",
        "3 items left out because images are missing.",
        "1 tie left out: a pair without a better response has no right verdict.",
        "2 rows repeat the id of another; all are judged.",
        "unknown sources as general: 4.",
    ]
    text = markdown("m", results)
    assert all(f"- {line}" in text for line in caveats(results)[1:])
    assert "- Not a benchmark score" in text and "compare with ours directly" not in text
    assert "Not a benchmark score" in printed(results)[0]
    zero = replace(bench, notes=dict.fromkeys(notes, 0), sizes=VL)
    assert caveats(results_of(zero)) == []


def test_a_score_that_nothing_counts_for_is_a_dash():
    results = vl_results(protocol="official")
    nothing = results_of(benchmark("vl_rewardbench", VL), lambda id, order, vote: None, protocol="official")
    assert nothing["overall"]["accuracy"] is None and results["overall"]["accuracy"]
    assert cells(markdown("m", nothing), "**m**")[1][:5] == ["**–**"] * 5
    assert "overall 7 – – 100.0 10" in printed(nothing)[1]


def printed(results, width=80, folder="nowhere"):
    """(text, text with runs of white space as one)."""
    console = Console(width=width, file=io.StringIO())
    print_results(results, folder, console)
    text = console.file.getvalue()
    return text, " ".join(text.split())


ALL_SIZES = {
    "vl_rewardbench": {"general": 183, "hallucination": 749, "reasoning": 318},
    "multimodal_rewardbench": MRB["4,711 pairs, without Hateful Memes"],
    "mm_rlhf_rewardbench": mm_rlhf_rewardbench.SIZES,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_votes", [1, 3])
def test_tables_fit_80_columns(name, num_votes):
    """The widest case: all right, so that accuracies read 100.0 [100.0, 100.0] or nearly so."""
    results = results_of(benchmark(name, ALL_SIZES[name]), num_votes=num_votes)
    text, words = printed(results)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    for category, block in results["by_category"].items():
        low = 100 * block["accuracy"]["low"]
        plus = " 100.0" if name == "mm_rlhf_rewardbench" else ""
        row = f"{category} {block['n']:,} 100.0 [{low:.1f}, 100.0]{plus} 100.0 0.0 50.0 0.0 10"
        assert f" {row} " in words, row
    low = 100 * results["overall"]["accuracy"]["low"]
    assert f" overall {results['overall']['n']:,} 100.0 [{low:.1f}, 100.0]" in words and " macro 100.0 [" in words


def test_the_columns_of_the_table_are_what_they_say():
    """Forward: x0 right, x1 wrong, x2 unparsable, x3 right. Backward: right, right, right, wrong. 5/8 right; x0 in both."""
    said = {"forward": (True, False, None, True), "backward": (True, True, True, False)}
    text, words = printed(results_of(benchmark("mine", {"x": 4}), lambda id, order, vote: said[order][int(id[1])]))
    assert "both names unpar- % n accuracy orders flips first sable tokens" in words
    # First named: x0 1 of 2, x1 none of 2, x2 none of 1, x3 2 of 2: 37.5 %. Flips: all but x0.
    assert " x 4 62.5 [" in words and "] 25.0 75.0 37.5 12.5 10 " in words
    one_order = printed(results_of(benchmark("mine", {"x": 4}), protocol="released"))[1]
    assert "orders" not in one_order.partition("overall")[0] and "flips" not in one_order.lower()


def test_long_and_odd_category_names_are_wrapped_not_cut_or_taken_for_markup():
    names = {"a_very_long_category_of_somebody_elses_preference_file": 1, "[red]b[/red]": 1}
    text, _ = printed(results_of(benchmark("mine", names)))
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text and "[red]b[/red]" in text
    column = "".join(line.split()[0] for line in text.splitlines() if line.strip())
    assert "a_very_long_category_of_somebody_elses_preference_file" in column


def test_the_curve_has_a_line_for_each_number_of_votes():
    """Of 3 votes 2 are right, always: k = 1 gives 2/3, k = 2 one of three pairs has no tie, k = 3 all."""
    results = results_of(benchmark("mine", {"x": 8}), lambda id, order, vote: vote < 2, num_votes=3)
    _, words = printed(results)
    assert "votes accuracy, % any right, %" in words
    assert " 1 66.7 [66.7, 66.7] 66.7 [66.7, 66.7] 2 33.3 [33.3, 33.3] 100.0 [" in words and " 3 100.0 [" in words
    assert "Ties count as wrong" in words and "any right" not in printed(results_of(benchmark("mine", {"x": 8})))[1]


@pytest.mark.parametrize(
    ("name", "protocol", "orders", "undecided", "first"),
    [
        ("mine", "both_orders", "in both orders", "cannot be read counts as wrong (2 verdicts here)", "50 % is no favour"),
        ("mine", "released", "always names the first scores 100 %", "counts as wrong (1 verdict here)", "cannot be told from"),
        ("vl_rewardbench", "official", "drawn by the seed", "takes the item out of the accuracy (1", "about 50 %"),
        ("multimodal_rewardbench", "official", "that of the published data", "is replaced by a guess (1", "always right has"),
    ],
)
def test_the_protocol_in_words(name, protocol, orders, undecided, first):
    results = results_of(benchmark(name, {"vqa": 5}), lambda id, order, vote: None if id == "vqa0" else True, protocol=protocol)
    assert results["rules"] == asdict(rules_of(benchmark(name, {}), protocol))
    sentences = in_words(results)
    assert orders in sentences[0] and undecided in sentences[1] and first in sentences[-1]
    assert any("Flips" in sentence for sentence in sentences) == (protocol == "both_orders")
    assert all(sentence in printed(results, width=1000)[0] for sentence in sentences)


def test_the_majority_and_its_ties_in_words():
    def tied(id, order, vote):
        return vote == 0

    wrong = in_words(results_of(benchmark("mine", {"x": 3}), tied, num_votes=2))[1]
    assert wrong == "The majority of 2 votes decides in each order; a tie counts as wrong (6 verdicts here)."
    out = in_words(results_of(benchmark("vl_rewardbench", {"x": 3}), tied, protocol="official", num_votes=2))[1]
    assert "no more than half of all votes for either takes the item out of the accuracy (3 verdicts here)" in out


def test_acc_plus_and_released_categories_are_explained():
    text = " ".join(in_words(results_of(benchmark("mm_rlhf_rewardbench", {"mcq": 2}), buckets="released")))
    assert "Acc+: share of questions all of whose pairs are right" in text and "released scorer" in text
    text = " ".join(in_words(results_of(benchmark("vl_rewardbench", {"general": 2}))))
    assert "Acc+" not in text and "released" not in text


def test_reports_are_written_and_listed(tmp_path):
    bench = shapes_benchmark(num=6)
    votes, results = judged(bench, lambda id, order, vote: id != bench.items[0].row.id)
    write_reports(tmp_path, "/home/me/x/model", bench, votes, results, mistakes=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.jsonl", "mistakes.html", "row.md"]
    assert (tmp_path / "row.md").read_text(encoding="utf-8") == markdown("/home/me/x/model", results)
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [item.row.id for item in bench.items]
    page = (tmp_path / "mistakes.html").read_text(encoding="utf-8")
    assert page.count("<article") == 1 and "x/model" in page and "/home/me" not in page

    text, _ = printed(results, folder=tmp_path / ("long" * 30) / "..")
    assert "row.md" not in text
    text, _ = printed(results, folder=tmp_path)
    assert f"row.md  {tmp_path / 'row.md'}\n" in text and "mistakes.html" in text and "verdicts.jsonl" not in text


def test_no_page_of_mistakes_is_left_where_none_is_wanted(tmp_path):
    bench = shapes_benchmark(num=3)
    votes, results = judged(bench)
    for mistakes, is_there in ((2, True), (0, False), (0, False)):
        write_reports(tmp_path, "m", bench, votes, results, mistakes)
        assert (tmp_path / "mistakes.html").exists() == is_there


def test_rows_judged_with_another_prompt_are_not_called_comparable():
    def marked(digest: str, model: str) -> bool:
        results = vl_results(protocol="released", buckets="released") | {"prompt": {"name": "mine.txt", "digest": digest}}
        text = markdown("m", results)
        assert "judge prompt mine.txt" in text
        return OTHER_PROMPT in remarks_on(text, model)

    assert marked("0" * 16, "R1-Reward") and marked("0" * 16, "GPT-4o") and marked(R1_REWARD_PROMPT, "GPT-4o")
    assert not marked(R1_REWARD_PROMPT, "R1-Reward")  # the prompt of its own scripts
    assert not marked("0" * 16, "IXC-2.5-Reward")  # scores each response alone
