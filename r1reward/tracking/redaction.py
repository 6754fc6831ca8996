"""Keeps secrets (keys, tokens, passwords) out of what a run leaves behind: its config, command line, messages and trackers.

A secret is the value of an environment variable whose name ends in KEY, TOKEN, SECRET, PASSWORD or CREDENTIALS, a text in the
form of a well-known service's key, a password in a URL, or what stands under a name such as `api_key`. A config that holds one
is refused (`refuse_secrets`); `redact` is for texts that others wrote, such as the messages of a server.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
SHORTEST = 8  # characters of an environment variable's value; shorter ones ("EMPTY", "none") are placeholders

_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)$")
# Names under which a value is secret whatever it looks like. Not every "token": a tokenizer's pad_token is none.
_NAME = r"api[_-]?key|(?:access|auth|hub)[_-]?token|password|passwd|secret|credentials"
_SETTING = re.compile(rf"(?:^|[._-])(?:{_NAME})$", re.IGNORECASE)
_KEY_FORMS = (
    r"hf_[A-Za-z0-9]{20,}",  # Hugging Face
    r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{20,}|glpat-[\w-]{20,}",  # GitHub, GitLab
    r"A[KS]IA[0-9A-Z]{16}",  # Amazon
    r"AIza[\w-]{35}",  # Google
    r"wandb_v1_\w{20,}",
    r"nvapi-[\w-]{20,}",
)
_OPENAI = re.compile(r"(?<![A-Za-z0-9])sk-[\w-]{20,}")  # OpenAI, Anthropic, OpenRouter; one without a digit is a word
# Each pattern keeps its first group and hides the rest. Texts are long and hostile: no pattern may read the same characters
# from each of many starts, so each consumes what it has read, or stops at what the next start begins with.
_PATTERNS = (
    re.compile(rf"((?<![A-Za-z0-9]))(?:{'|'.join(_KEY_FORMS)})"),
    re.compile(r"(://[^\s/:@?#]*:)[^\s/@]++(?=@)"),  # scheme://user:password@host
    re.compile(rf"((?<![A-Za-z0-9])(?:{_NAME}|(?<=[?&])(?:token|key|sig|signature))=)(?!\*\*\*)[^\s&'\"]+", re.IGNORECASE),
    re.compile(r"(\bBearer\s+)(?!\*\*\*)[^\s'\",]{8,}", re.IGNORECASE),
)


def redact(text: str) -> str:
    """The text with every secret in it replaced by `***`, in time linear in its length."""
    for secret in _environment():
        text = text.replace(secret, HIDDEN)
    text = _OPENAI.sub(lambda found: HIDDEN if re.search("[0-9]", found[0]) else found[0], text)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text


def redact_tree(values: Any) -> Any:
    """A copy of nested dictionaries and lists with the secrets in their texts replaced, and all that has a secret's name."""
    if isinstance(values, Mapping):
        return {key: HIDDEN if _is_named(key, item) else redact_tree(item) for key, item in values.items()}
    if isinstance(values, list | tuple):
        return [redact_tree(item) for item in values]
    return redact(values) if isinstance(values, str) else values


def find_secrets(values: Any, name: str = "") -> list[str]:
    """The dotted names of the settings that hold a secret, such as `reward.judge.base_url` or `logger.tags[0]`.

    Also of an `api_key_env` that is not the name of an environment variable: then it is probably the key itself.
    """
    if isinstance(values, Mapping):
        found = []
        for key, item in values.items():
            inner = f"{name}.{key}" if name else str(key)
            found += [inner] if _is_named(key, item) else find_secrets(item, inner)
        return found
    if isinstance(values, list | tuple):
        return [found for number, item in enumerate(values) for found in find_secrets(item, f"{name}[{number}]")]
    return [name] if isinstance(values, str) and redact(values) != values else []


def refuse_secrets(values: Any) -> None:
    """Raise a ValueError that names (and does not show) the settings that hold a secret, if there are any."""
    found = find_secrets(values)
    if found:
        raise ValueError(
            f"{', '.join(found)}: the config holds a key or a password, which would be written into the run's files. Put it "
            "into an environment variable and name that variable instead: reward.judge.api_key_env=NAME, "
            "backend.api_key_env=NAME, or HF_TOKEN and WANDB_API_KEY, which need no setting"
        )


def _environment() -> list[str]:
    """Values of the environment variables that are secret by their names, longest first: one may be part of another."""
    values = {value.strip() for name, value in os.environ.items() if _VARIABLE.search(name.upper())}
    return sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)


def _is_named(key: Any, value: Any) -> bool:
    """Whether a text is secret by the name that it stands under."""
    if not isinstance(value, str) or not value or value == HIDDEN:
        return False
    key = str(key)
    if key == "api_key_env":
        return not value.isidentifier()
    # Upper case is an environment variable's name, as in hydra.job.env_set; an interpolation is a reference, not the value.
    return bool(_SETTING.search(key) or (key.isupper() and _VARIABLE.search(key))) and "${" not in value
