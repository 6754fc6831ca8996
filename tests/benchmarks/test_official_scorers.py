"""Our numbers against the scorers of the benchmarks and of R1-Reward, written again here from what they are described to do.

Every benchmark has its full number of synthetic rows, in the published shape of ids. The scorers below are plain loops over
records of what a judge was shown and said; they share no code with the package.
"""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest

from r1reward.benchmarks import multimodal_rewardbench, vl_rewardbench
from r1reward.benchmarks.items import Benchmark, Item
from r1reward.benchmarks.protocols import requests
from r1reward.benchmarks.scores import summarise
from r1reward.benchmarks.verdicts import Table, Vote
from r1reward.data.jsonl import unique_ids
from r1reward.data.rows import PreferenceRow

NAMES = ("vl_rewardbench", "multimodal_rewardbench", "mm_rlhf_rewardbench")
FEW = 100  # resamples where only the numbers themselves matter


@dataclass(frozen=True)
class Published:
    """A row as published: its id (not always unique), a category or a path, and which response is the better."""

    id: str
    kind: str
    label: int


def rows_of(name):
    """All rows of a benchmark, shuffled."""
    rng = random.Random(len(name))
    kinds = {"vl_rewardbench": _vl_ids, "multimodal_rewardbench": _multimodal_ids, "mm_rlhf_rewardbench": _mm_rlhf_ids}
    rows = [Published(id, kind, rng.choice([1, 2])) for id, kind in kinds[name]()]
    rng.shuffle(rows)
    return rows


def _vl_ids():
    """1,250 rows under 1,225 ids: 25 ids occur twice."""
    sizes = {
        "hallucination_pair-{}": 448,
        "RLAIF-V-{}": 233,
        "RLHF-V-{}": 68,
        "wildvision-battle-{}": 173,
        "svit-detail-{}": 6,
        "LRVInstruction-{}": 4,
        "mathverse_{}": 167,
        "mmmu_pro_test_Finance_{}": 126,
    }
    ids = [pattern.format(n) for pattern, size in sizes.items() for n in range(size)]
    return [(id, "") for id in ids + ids[-25:]]


def _multimodal_ids():
    """5,211 rows with the categories of the data file, which the scorer splits by id."""
    published = {
        "correctness": ("general/correctness", "nocaps_{}"),
        "preference": ("general/preference", "visitbench_{}"),
        "knowledge": ("knowledge", "mmmu-s_{}"),
        "reasoning/math": ("reasoning", "mathvista_{}"),
        "reasoning/coding": ("reasoning", "image2struct_{}"),
        "safety/bias": ("safety", "PAIRS_{}"),
        "safety/toxicity": ("safety", "hateful_memes_{}"),
        "vqa": ("vqa", "SEED-Bench_{}"),
    }
    sizes = multimodal_rewardbench.EDITIONS["5,211 pairs, as in the paper"]
    return [(published[category][1].format(n), published[category][0]) for category in sizes for n in range(sizes[category])]


def _mm_rlhf_ids():
    """170 rows under 46 ids, 10 of each kind but 6 of safety."""
    groups = {"mcq": (42, 10), "long": (37, 10), "short": (34, 10), "safety": (32, 6), "video": (25, 10)}
    return [
        (f"{kind}_{n % count}_671", f"{kind}/{n % count}.png") for kind, (size, count) in groups.items() for n in range(size)
    ]


def benchmark_of(name, rows):
    """The rows as our readers give them."""
    items = []
    for id, row in zip(unique_ids([row.id for row in rows]), rows, strict=True):
        if name == "vl_rewardbench":
            category, released = vl_rewardbench.official_category(row.id)[0], vl_rewardbench.released_category(row.id)
        elif name == "multimodal_rewardbench":
            category = released = multimodal_rewardbench.official_category(row.kind, row.id)
        else:
            category = released = row.kind.split("/")[0]
        pair = PreferenceRow(id, (), "Q", ("A", "B"), row.label, ("", "", ""), category=category)
        items.append(Item(pair, row.id, released))
    return Benchmark(name, items, {}, {})


def fallible(rng, better):
    """Right in 62 %, wrong in 28 %, unparsable in 10 %."""
    return rng.choices([better, 3 - better, None], [62, 28, 10])[0]


def often_right(rng, better):
    return rng.choices([better, 3 - better, None], [90, 8, 2])[0]


def judged(name, protocol, judge, num_votes=1, seed=0):
    """(Benchmark, its table, records): what a judge says under a protocol, once for us and once for the scorers.

    A record holds the published row, "swapped" and what was said in the numbering of the order shown.
    """
    rows = rows_of(name)
    benchmark = benchmark_of(name, rows)
    row_of = {item.row.id: row for item, row in zip(benchmark.items, rows, strict=True)}
    rng = random.Random(7)
    votes, records = [], []
    asked = requests(benchmark, protocol, seed)
    for id, order in asked:
        swapped = order == "backward"
        better = 3 - row_of[id].label if swapped else row_of[id].label
        for k in range(num_votes):
            said = judge(rng, better)
            votes.append(Vote(id, order, k, said, None if said else "no_answer", 5, ""))
            records.append({"name": id, "row": row_of[id], "swapped": swapped, "better": better, "said": said})
    random.Random(1).shuffle(votes)
    return benchmark, Table.build(benchmark.items, votes, asked, num_votes), records


def assert_equal(summary, micro, by_category, macro):
    assert summary["overall"]["accuracy"]["mean"] == micro
    assert {name: block["accuracy"]["mean"] for name, block in summary["by_category"].items()} == by_category
    # A mean of fractions: which one is added first shows in the 16th digit.
    assert summary["macro"]["accuracy"]["mean"] == pytest.approx(macro, abs=2e-16, rel=0)


# The scorers, from their descriptions.


def tally(values):
    """(Mean of all, mean by category, mean of those) of (category, value) pairs."""
    of_category, everything = defaultdict(list), []
    for category, value in values:
        of_category[category].append(value)
        everything.append(value)
    means = {category: sum(of_category[category]) / len(of_category[category]) for category in of_category}
    return sum(everything) / len(everything), means, sum(means.values()) / len(means)


def vl_group(row):
    if row.id.startswith(("hallucination", "RLAIF", "RLHF")):
        return "hallucination"
    return "reasoning" if row.id.startswith(("mathverse", "mmmu")) else "general"


def vl_group_released(row):
    if "mmmu" in row.id or "mathverse" in row.id:
        return "reasoning"
    return "hallucination" if "hallucination" in row.id or "rlhf" in row.id or "rlaif" in row.id else "general"


def multimodal_category(row):
    if row.kind == "safety":
        return "safety/bias" if row.id.lower().startswith("pairs") else "safety/toxicity"
    if row.kind == "reasoning":
        return "reasoning/math" if row.id.lower().startswith("math") else "reasoning/coding"
    return row.kind.removeprefix("general/")


def vl_official(records):
    """VL-RewardBench: per pair, agree, reject and unreadable votes. A pair counts where more than half of all its votes agree,
    or more than half reject; unreadable ones are among the votes."""
    pairs = {}
    for record in records:
        votes = pairs.setdefault(record["name"], {"agree": 0, "reject": 0, "unreadable": 0, "group": vl_group(record["row"])})
        if record["said"] is None:
            votes["unreadable"] += 1
        else:
            votes["agree" if record["said"] == record["better"] else "reject"] += 1
    outcomes = []
    for votes in pairs.values():
        half = (votes["agree"] + votes["reject"] + votes["unreadable"]) / 2
        if max(votes["agree"], votes["reject"]) > half:
            outcomes.append((votes["group"], votes["agree"] > half))
    return tally(outcomes)


def released(records, category_of):
    """R1-Reward's scripts: the better response is shown first, so a pair is right where the judge says 1."""
    return tally((category_of(record["row"]), record["said"] == 1) for record in records)


def multimodal_official(records):
    """Multimodal RewardBench: A is Output1; what cannot be read is drawn, A below a half, after random.seed(123)."""
    state = random.getstate()
    random.seed(123)
    outcomes = []
    for record in records:
        answer = "AB"[record["said"] - 1] if record["said"] else ("A" if random.random() < 0.5 else "B")
        outcomes.append((multimodal_category(record["row"]), answer == "AB"[record["row"].label - 1]))
    random.setstate(state)
    return tally(outcomes)


def mm_rlhf(rewards_of):
    """MM-RLHF-RewardBench: rewards_of gives (row, reward of the better, of the worse) per pair. A pair is right where the
    first is larger, an id where all its pairs are. -> (Acc, Acc by kind, Acc+, Acc+ by kind)"""
    pairs, ids = defaultdict(list), defaultdict(list)
    for row, better, worse in rewards_of:
        pairs["all"].append(better > worse)
        for kind in ("mcq", "long", "short", "safety", "video"):
            if kind in row.kind:
                pairs[kind].append(better > worse)
                break
        ids[row.id].append((kind, better > worse))
    plus = defaultdict(list)
    for outcomes in ids.values():
        plus["all"].append(all(right for _, right in outcomes))
        plus[outcomes[0][0]].append(all(right for _, right in outcomes))
    accuracy = {kind: sum(values) / len(values) for kind, values in pairs.items()}
    accuracy_plus = {kind: sum(values) / len(values) for kind, values in plus.items()}
    return accuracy.pop("all"), accuracy, accuracy_plus.pop("all"), accuracy_plus


def both_orders(records, category_of):
    """Every pair in both orders, which are averaged; an unreadable verdict is wrong. -> (tally, share right in both)"""
    right, category = defaultdict(float), {}
    for record in records:
        right[record["name"]] += 0.5 * (record["said"] == record["better"])
        category[record["name"]] = category_of(record["row"])
    twice = sum(value == 1 for value in right.values()) / len(right)
    return tally((category[name], value) for name, value in right.items()), twice


CATEGORY = {
    "vl_rewardbench": vl_group,
    "multimodal_rewardbench": multimodal_category,
    "mm_rlhf_rewardbench": lambda row: row.kind.split("/")[0],
}


# Our numbers equal theirs.


def test_sizes_are_the_official_ones():
    count = {name: Counter(item.row.category for item in benchmark_of(name, rows_of(name)).items) for name in NAMES}
    assert count["vl_rewardbench"] == {"general": 183, "hallucination": 749, "reasoning": 318}
    assert count["mm_rlhf_rewardbench"] == {"mcq": 42, "long": 37, "short": 34, "safety": 32, "video": 25}
    assert [sum(sizes.values()) for sizes in count.values()] == [1250, 5211, 170]
    assert [len({row.id for row in rows_of(name)}) for name in NAMES] == [1225, 5211, 46]
    released = Counter(item.released_category for item in benchmark_of("vl_rewardbench", rows_of("vl_rewardbench")).items)
    assert released == {"general": 484, "hallucination": 448, "reasoning": 318}


@pytest.mark.parametrize("num_votes", [1, 3, 9, 10])
def test_vl_rewardbench_official(num_votes):
    """With 10 votes there are ties; one unreadable vote of three does not take a pair out."""
    benchmark, table, records = judged("vl_rewardbench", "official", fallible, num_votes, seed=11)
    summary = summarise(benchmark, table, "official", seed=11, resamples=FEW)
    assert_equal(summary, *vl_official(records))
    assert 1250 * 0.03 < summary["overall"]["left_out"] < 1250 * 0.35


@pytest.mark.parametrize("buckets", ["official", "released"])
def test_vl_rewardbench_released(buckets):
    benchmark, table, records = judged("vl_rewardbench", "released", fallible)
    summary = summarise(benchmark, table, "released", buckets, resamples=FEW)
    micro, by_category, macro = released(records, vl_group_released)
    if buckets == "released":
        assert_equal(summary, micro, by_category, macro)
    else:  # only the overall number survives the wrong groups
        assert summary["overall"]["accuracy"]["mean"] == micro
        assert summary["by_category"]["hallucination"]["n"] == 749
        assert summary["macro"]["accuracy"]["mean"] != macro


def test_the_overall_number_of_the_paper():
    """899 of 1,250 right are the 71.92 that R1-Reward reports: 309 of 484, 384 of 448 and 206 of 318."""
    published = {"general": (309, 484), "hallucination": (384, 448), "reasoning": (206, 318)}
    left = {category: right for category, (right, _) in published.items()}
    benchmark = benchmark_of("vl_rewardbench", rows_of("vl_rewardbench"))
    asked, votes = requests(benchmark, "released"), []
    for item, (id, order) in zip(benchmark.items, asked, strict=True):
        left[item.released_category] -= 1
        votes.append(Vote(id, order, 0, 1 if left[item.released_category] >= 0 else 2, None, 5, ""))
    summary = summarise(benchmark, Table.build(benchmark.items, votes, asked), "released", "released", resamples=FEW)
    assert round(100 * summary["overall"]["accuracy"]["mean"], 2) == 71.92
    assert round(100 * summary["macro"]["accuracy"]["mean"], 2) == 71.45  # printed 71.44, the mean of rounded numbers
    rounded = {name: round(100 * block["accuracy"]["mean"], 2) for name, block in summary["by_category"].items()}
    assert rounded == {"general": 63.84, "hallucination": 85.71, "reasoning": 64.78}


def test_multimodal_rewardbench_official():
    benchmark, table, records = judged("multimodal_rewardbench", "official", fallible)
    summary = summarise(benchmark, table, "official", resamples=FEW)
    assert_equal(summary, *multimodal_official(records))
    assert summary["overall"]["undecided"] == sum(record["said"] is None for record in records) > 400


def test_multimodal_rewardbench_released():
    benchmark, table, records = judged("multimodal_rewardbench", "released", fallible)
    for buckets in ("official", "released"):
        assert_equal(summarise(benchmark, table, "released", buckets, resamples=FEW), *released(records, multimodal_category))


def assert_mm_rlhf(summary, expected):
    accuracy, by_kind, plus, plus_by_kind = expected
    assert summary["overall"]["accuracy"]["mean"] == accuracy
    assert {name: block["accuracy"]["mean"] for name, block in summary["by_category"].items()} == by_kind
    assert summary["overall"]["acc_plus"]["mean"] == plus
    assert {name: block["acc_plus"]["mean"] for name, block in summary["by_category"].items()} == plus_by_kind


def test_mm_rlhf_rewardbench_released():
    benchmark, table, records = judged("mm_rlhf_rewardbench", "released", often_right)
    rewards = [(record["row"], *((1, 0) if record["said"] == 1 else (0, 1))) for record in records]
    summary = summarise(benchmark, table, "released", "released", resamples=FEW)
    assert_mm_rlhf(summary, mm_rlhf(rewards))
    assert 0 < summary["overall"]["acc_plus"]["mean"] < summary["overall"]["accuracy"]["mean"]


def test_mm_rlhf_rewardbench_official_with_a_judge_that_is_the_same_in_both_orders():
    """The authors score each response once; a judge without a bias for a position says in both orders what its scores say."""
    rows = rows_of("mm_rlhf_rewardbench")
    benchmark = benchmark_of("mm_rlhf_rewardbench", rows)
    rng = random.Random(3)
    rewards = [(row, rng.gauss(1, 1), rng.gauss(0, 1)) for row in rows]
    votes = []
    for item, (row, better, worse) in zip(benchmark.items, rewards, strict=True):
        preferred = row.label if better > worse else 3 - row.label
        votes += [Vote(item.row.id, "forward", 0, preferred, None, 5, "")]
        votes += [Vote(item.row.id, "backward", 0, 3 - preferred, None, 5, "")]
    table = Table.build(benchmark.items, votes, requests(benchmark, "official"))
    summary = summarise(benchmark, table, "official", resamples=FEW)
    assert_mm_rlhf(summary, mm_rlhf(rewards))
    assert summary["overall"]["flip_rate"]["mean"] == 0


def test_mm_rlhf_rewardbench_asks_for_both_orders_right():
    """Acc is the mean of the orders; for Acc+ a pair is right where it is right in both."""
    benchmark, table, records = judged("mm_rlhf_rewardbench", "official", often_right)
    right = defaultdict(int)
    for record in records:
        right[record["name"]] += record["said"] == record["better"]
    rows = {record["name"]: record["row"] for record in records}
    _, _, plus, plus_by_kind = mm_rlhf([(rows[name], count == 2, 0) for name, count in right.items()])
    for protocol in ("official", "both_orders"):
        summary = summarise(benchmark, table, protocol, resamples=FEW)
        assert summary["overall"]["acc_plus"]["mean"] == plus
        assert {name: block["acc_plus"]["mean"] for name, block in summary["by_category"].items()} == plus_by_kind
        assert summary["overall"]["accuracy"]["mean"] == sum(right.values()) / 340


@pytest.mark.parametrize("name", NAMES)
def test_both_orders(name):
    benchmark, table, records = judged(name, "both_orders", fallible)
    expected, twice = both_orders(records, CATEGORY[name])
    summary = summarise(benchmark, table, resamples=FEW)
    assert_equal(summary, *expected)
    assert summary["overall"]["both_orders_correct"]["mean"] == twice


# Judges whose score is known.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_votes", [1, 3])
def test_an_always_first_judge_is_unmasked_by_both_orders_only(name, num_votes):
    benchmark, table, _ = judged(name, "both_orders", lambda rng, better: 1, num_votes)
    summary = summarise(benchmark, table, resamples=FEW)
    for block in [summary["overall"], summary["macro"], *summary["by_category"].values()]:
        assert block["accuracy"]["mean"] == 0.5
        assert block["both_orders_correct"]["mean"] == 0
        assert block["flip_rate"]["mean"] == block["first_position_rate"]["mean"] == 1
    unmasked = summary
    summary = summarise(benchmark, table, "released", "released", resamples=FEW)
    for block in [summary["overall"], summary["macro"], *summary["by_category"].values()]:
        assert block["accuracy"]["mean"] == 1
    if name == "mm_rlhf_rewardbench":
        assert unmasked["overall"]["acc_plus"]["mean"] == 0
        assert summary["overall"]["acc_plus"]["mean"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_judge_is_right_by_every_protocol(name):
    benchmark, table, _ = judged(name, "both_orders", lambda rng, better: better)
    for protocol in ("both_orders", "official", "released"):
        summary = summarise(benchmark, table, protocol, resamples=FEW)
        for block in [summary["overall"], summary["macro"], *summary["by_category"].values()]:
            assert block["accuracy"]["mean"] == block["accuracy"]["high"] == 1
            assert block["accuracy"]["low"] < 1
    overall = summarise(benchmark, table, resamples=FEW)["overall"]
    assert overall["both_orders_correct"]["mean"] == 1
    assert overall["flip_rate"]["mean"] == overall["unparsable_rate"]["mean"] == 0
    assert overall["first_position_rate"]["mean"] == 0.5
