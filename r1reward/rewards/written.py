"""The text that a policy wrote, made in this one place for rewards, samples and verdicts.

It is not always what was sampled. Some chat templates begin the assistant's turn themselves, with `<think>` (Qwen3-VL-Thinking,
GLM) or with an empty think block (thinking switched off): what they open counts as written. And where the reasoning was taken
apart from the answer, by a server's reasoning parser or a tokenizer's template of responses, the two are joined again.
"""

import json
import re
from collections.abc import Mapping

from r1reward.rewards.blocks import ANSWER, THINK, THINK_END

REASONING = ("reasoning_content", "reasoning", "thinking")  # where messages hold it: servers' two names, and transformers'
_PROBE = "What the turn is answered to."
_AT_THE_END = re.compile(rf"{THINK}[ \t\r\n]{{0,8}}(?:{THINK_END}[ \t\r\n]{{0,8}})?\Z")


def opening(processor, chat_template: str | None = None, **options) -> str:
    """What the chat template itself opens of the assistant's turn, from the first <think> or <answer> on; mostly nothing.

    Args:
        processor: Of the policy: a processor, or a tokenizer.
        chat_template: Another template than the processor's.
        options: Of the template, such as `enable_thinking`.
    """
    if chat_template is None and getattr(processor, "chat_template", None) is None:
        return ""
    is_text_only = not hasattr(processor, "tokenizer")
    content = _PROBE if is_text_only else [{"type": "text", "text": _PROBE}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=False,
        add_generation_prompt=True,
        **({} if chat_template is None else {"chat_template": chat_template}),
        **options,
    )
    turn = prompt.rpartition(_PROBE)[2]
    begun = [position for tag in (THINK, ANSWER) if (position := turn.find(tag)) >= 0]
    return turn[min(begun) :] if begun else ""


def opening_of_text(prompt: str) -> str:
    """What a prompt that is no conversation ends with of the answer: an opened think block, or an empty one."""
    found = _AT_THE_END.search(prompt[-64:])
    return found[0] if found else ""


def full_text(message: Mapping, opening: str = "") -> str:
    """The text of an assistant's message, reasoning included. A think block is closed only where an answer follows.

    Args:
        message: With `content`, a text or parts, and perhaps one of `REASONING`.
        opening: What the prompt ends with of it.
    """
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text") or "" for part in content)
    reasoning = next((message[name] for name in REASONING if isinstance(message.get(name), str) and message[name]), None)
    if reasoning is None:
        return opening + content
    return f"{THINK}{reasoning}{THINK_END}{content}" if content else THINK + reasoning


def after_opening(text: str, opening: str) -> str:
    """What is left to write of a text, white space aside, after an opening.

    Raises:
        ValueError: The text does not begin with it.
    """
    rest = text
    for tag in re.findall(r"\S+", opening.replace(">", "> ")):
        rest = rest.lstrip()
        if not rest.startswith(tag):
            raise ValueError(f"the chat template opens the turn with {opening!r}, with which the text {text!r} does not begin")
        rest = rest.removeprefix(tag)
    return rest


def text_with_reasoning(body: bytes) -> str:
    """The whole text of a server's reply whose reasoning stands beside its content; empty where none does."""
    try:
        message = json.loads(body)["choices"][0]["message"]
        return full_text(message) if any(message.get(name) for name in REASONING) else ""
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""  # whoever reads the content says what is wrong


def with_think_opened(text: str) -> str:
    """A text from a server, whose chat template is not known here: it opened a think block that ends without beginning."""
    before, end, _ = text.partition(THINK_END)
    return THINK + text if end and THINK not in before else text


def text_of(completion: str | list[Mapping]) -> str:
    """The text of one of TRL's completions: a conversation whose first message is the policy's, or a text."""
    return completion if isinstance(completion, str) else full_text(completion[0])


def texts_of(completions: list) -> list[str]:
    """The texts of a batch of them."""
    return [text_of(completion) for completion in completions]
