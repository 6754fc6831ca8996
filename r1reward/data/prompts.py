"""Judge prompts by name. Each is a text with `{question}`, `{response_1}` and `{response_2}`.

`short` is the embedded default: a tiny model reads few tokens, and copies a number most easily that follows what it names.
`r1_reward` carries the same instructions as the R1-Reward prompt (arXiv 2505.02835, appendix), in our words: compare inside
<think>, no ties, one number inside <answer>.
"""

PROMPTS = {
    "short": "{question}\n{response_1} (1)\n{response_2} (2)",
    "r1_reward": (
        "You are an impartial judge. Below are a question about the attached image and two responses from multimodal "
        "models. First compare both responses with the image, step by step, between <think> and </think>. You may not "
        "call it a tie. Then state your verdict between <answer> and </answer> as one number: 1 if Response 1 is better, "
        "2 if Response 2 is better.\n\n[Question]\n{question}\n\n[Response 1]\n{response_1}\n\n[Response 2]\n{response_2}"
        "\n\nReply in exactly this form: <think>your comparison</think><answer>1 or 2</answer>"
    ),
}


def prompt_parts(name: str, question: str) -> tuple[str, str, str]:
    """The named prompt with its question filled in, cut at the two responses (see `PreferenceRow.prompt_parts`)."""
    if name not in PROMPTS:
        raise ValueError(f"unknown prompt {name!r}; choose one of {sorted(PROMPTS)}")
    before, rest = PROMPTS[name].split("{response_1}")
    between, after = rest.split("{response_2}")
    return before.replace("{question}", question), between, after
