"""How a stored text becomes a choice: as a verdict reads everywhere here, or as R1-Reward's evaluation scripts read it.

    strict, released     `rewards.verdict.parse`
    scripts              The first answer block, or without one the last character 1 or 2 of the text, must be a number as
                         Python reads numbers ("1", " 1.0", not "Response 1"). The scripts count whatever is not 1 as wrong,
                         as their preferred response is always the first; here such a text names 2 only where it says 2.
    scripts_first_line   The same, but without an answer block the last 1 or 2 in the first line that has any: what the
                         script for MM-RLHF-RewardBench does.

Source: inference/*/*r1_reward.py of github.com/yfzhang114/r1_reward. Time is linear in the length of the text.
"""

from r1reward.rewards.blocks import first_answer
from r1reward.rewards.verdict import Verdict, parse

SCRIPTS, SCRIPTS_FIRST_LINE = "scripts", "scripts_first_line"


def reading_of(pattern: str | None, protocol: str, benchmark: str) -> str:
    """The reading that a pattern asks for; None is the protocol's own: the scripts' for `released`, else strict."""
    if pattern is None:
        pattern = SCRIPTS if protocol == "released" else "strict"
    return SCRIPTS_FIRST_LINE if pattern == SCRIPTS and benchmark == "mm_rlhf_rewardbench" else pattern


def read_verdict(text: str, reading: str) -> Verdict:
    """The verdict in a text.

    Raises:
        ValueError: Unknown reading. No text raises.
    """
    if reading not in (SCRIPTS, SCRIPTS_FIRST_LINE):
        return parse(text, reading)
    said = first_answer(text)
    if said is None:
        said = _last_digit(_first_line(text) if reading == SCRIPTS_FIRST_LINE else text)
    choice = {1.0: 1, 2.0: 2}.get(_number(said))
    return Verdict(choice, "", None if choice else "unreadable_choice")


def _first_line(text: str) -> str:
    return next((line for line in text.split("\n") if "1" in line or "2" in line), "")


def _last_digit(text: str) -> str:
    place = max(text.rfind("1"), text.rfind("2"))
    return text[place] if place >= 0 else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
