"""Published numbers of the three benchmarks, in percent, with their sources and with what makes them incomparable.

The numbers of the R1-Reward paper come from its released scripts, which always show the preferred response first, in one
order, and which count VL-RewardBench's categories differently. Set beside numbers of both orders they flatter any judge
that favours the first position.
"""

from dataclasses import dataclass

PAPER = "arXiv 2505.02835 v2"
LEADERBOARD = "github.com/facebookresearch/multimodal_rewardbench, README"

CHOSEN_FIRST = "preferred response always shown first, one order"
RELEASED_BUCKETS = "released buckets: 301 hallucination pairs counted as general, so only overall compares"
UNKNOWN_BUCKETS = "overall follows from the categories with neither the released nor the official sizes"
OFFICIAL_VL = "quoted from the benchmark's authors: random order, majority of samples, undecided pairs left out"
# Of the judge prompt in R1-Reward's scripts, the same in all three (`data.prompts.prompt_digest`); the other judges of its
# tables and those of the benchmarks' authors have prompts of their own.
R1_REWARD_PROMPT = "cd0817a916d40865"
OTHER_PROMPT = "judged with another prompt than ours"
POINTWISE = "scores each response alone, so has no order"
QUOTED = "quoted in the paper; order of the responses not stated"
# The paper's text calls it overall, but the mean of the seven columns gives all six rows to the digit.
MEAN_OF_COLUMNS = "published as overall, but the mean of the seven columns"
WITHOUT_MEMES = "safety presumably without Hateful Memes, which cannot be fetched"


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        model: As the table names it.
        benchmark: As in `items.NAMES`.
        scores: Percent by category, with `overall` (over pairs), `macro` (over categories) and `acc_plus` where published.
        source: Where it is published.
        note: What keeps it from being compared with our numbers; empty where nothing does.
    """

    model: str
    benchmark: str
    scores: dict[str, float]
    source: str
    note: str = ""


def published(benchmark: str) -> list[Published]:
    """The published rows of that benchmark; none for data that nobody has published numbers of."""
    return [row for row in _ROWS if row.benchmark == benchmark]


def _rows(benchmark: str, columns: str, source: str, table: list[tuple[str, str, str]]) -> list[Published]:
    """Rows of a table from (model, scores in the order of the columns, note)."""
    names = columns.split()
    return [
        Published(model, benchmark, dict(zip(names, map(float, scores.split()), strict=True)), source, note)
        for model, scores, note in table
    ]


_ABLATION = f"ablation; {CHOSEN_FIRST}"
_MRB = f"{MEAN_OF_COLUMNS}; {WITHOUT_MEMES}"
_ROWS = [
    *_rows(
        "vl_rewardbench",
        "general hallucination reasoning overall macro",
        f"{PAPER}, table of VL-RewardBench",
        [
            ("R1-Reward", "63.84 85.71 64.78 71.92 71.44", f"{RELEASED_BUCKETS}; {CHOSEN_FIRST}"),
            ("R1-Reward, voting of 15", "66.32 89.06 73.70 76.46 76.36", f"{UNKNOWN_BUCKETS}; {CHOSEN_FIRST}"),
            ("IXC-2.5-Reward", "84.70 62.50 62.90 65.80 70.00", POINTWISE),
            ("MM-RLHF-Reward", "45.04 50.45 57.55 50.15 51.01", f"{RELEASED_BUCKETS}; {POINTWISE}"),
            ("GPT-4o", "49.10 67.60 70.50 65.80 62.40", OFFICIAL_VL),
            ("Gemini-1.5-Pro", "50.80 72.50 64.20 67.20 62.50", OFFICIAL_VL),
            ("Claude-3.7-Sonnet", "68.08 70.70 60.81 66.31 66.53", f"{UNKNOWN_BUCKETS}; {QUOTED}"),
            ("Qwen2-VL-72B", "38.10 32.80 58.00 39.50 43.00", OFFICIAL_VL),
        ],
    ),
    *_rows(
        "vl_rewardbench",
        "general hallucination reasoning overall",
        f"{PAPER}, ablations",
        [
            ("R1-Reward without the advantage filter", "63.43 77.45 62.38 68.96", f"{_ABLATION}; {UNKNOWN_BUCKETS}"),
            ("R1-Reward without Pre-CLIP", "62.06 77.44 61.23 67.36", f"{_ABLATION}; {RELEASED_BUCKETS}"),
            ("R1-Reward, SFT only", "59.92 72.27 60.01 64.80", f"{_ABLATION}; {UNKNOWN_BUCKETS}"),
            ("Scalar reward head, same data", "56.71 56.03 48.67 56.41", f"ablation; {POINTWISE}; {UNKNOWN_BUCKETS}"),
            ("MM-RLHF-Reward recipe, same data", "61.01 62.28 59.30 60.80", f"ablation; {POINTWISE}; {UNKNOWN_BUCKETS}"),
        ],
    ),
    *_rows(
        "multimodal_rewardbench",
        "macro correctness preference knowledge reasoning/math reasoning/coding safety vqa",
        f"{PAPER}, table of Multimodal RewardBench",
        [
            ("R1-Reward", "82.2 77.5 74.0 74.9 83.1 79.6 99.6 86.5", f"{_MRB}; {CHOSEN_FIRST}"),
            ("R1-Reward, voting of 15", "83.3 78.0 77.2 74.6 81.3 85.8 99.4 87.0", f"{_MRB}; {CHOSEN_FIRST}"),
            ("MM-RLHF-Reward", "67.1 61.7 67.5 54.3 58.4 57.9 92.9 76.8", f"{_MRB}; {POINTWISE}"),
            ("IXC-2.5-Reward", "66.6 60.7 64.2 56.8 63.0 50.5 89.9 81.1", f"{_MRB}; {POINTWISE}"),
            ("GPT-4o", "70.8 62.6 69.0 72.0 67.6 62.1 74.8 87.2", f"{_MRB}; {QUOTED}"),
            ("Claude-3.7-Sonnet", "71.9 58.4 60.7 78.1 76.3 71.3 72.0 86.8", f"{_MRB}; {QUOTED}"),
        ],
    ),
    *_rows(
        "multimodal_rewardbench",
        "overall correctness preference knowledge reasoning safety vqa",
        LEADERBOARD,
        [
            (model, scores, "5,211 pairs; published order, unparsable outputs count as a guess")
            for model, scores in (
                ("Claude 3.5 Sonnet (Dec 2024)", "72.0 62.6 67.8 73.9 66.8 68.7 85.6"),
                ("Gemini 1.5 Pro (Dec 2024)", "72.0 63.5 67.7 66.3 61.8 76.5 87.2"),
                ("GPT-4o (Dec 2024)", "71.5 62.6 69.0 72.0 64.7 66.9 87.2"),
                ("Llama-3.2-90B-Vision-Instruct", "62.4 60.0 68.4 61.2 54.6 51.9 77.1"),
            )
        ],
    ),
    *_rows(
        "mm_rlhf_rewardbench",
        "mcq long short safety video overall acc_plus",
        f"{PAPER}, table of MM-RLHF-RewardBench",
        [
            ("R1-Reward", "80.95 89.19 82.35 75.00 72.00 80.59 54.35", CHOSEN_FIRST),
            ("R1-Reward, voting of 15", "83.33 97.30 91.18 78.12 80.00 86.47 67.39", CHOSEN_FIRST),
            ("MM-RLHF-Reward", "83 97 74 69 88 82 63", POINTWISE),
            ("IXC-2.5-Reward", "52.38 91.89 67.65 62.50 88.00 71.18 50.00", POINTWISE),
            ("Claude-3.7-Sonnet", "66.67 91.89 91.18 87.50 76.00 82.35 65.22", QUOTED),
            ("GPT-4o", "64.28 78.37 44.11 56.25 40.00 58.23 26.01", QUOTED),
        ],
    ),
]
