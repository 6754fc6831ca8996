"""What an OpenAI-compatible server's answer means, or the lack of one."""

import email.utils
import json
import math
import time

from r1reward.messages import short_repr

LONGEST_RETRY_AFTER = 60.0  # seconds that a server may ask us to wait


class BadReply(Exception):
    """The answer is not what was asked for: no chat completion, no list of models."""


class OtherHost(Exception):
    """The server sent us to another host."""


class Refused(Exception):
    """The model declined to answer, was kept from it, or answered with nothing."""


class Nonsense(Exception):
    """The model's text is none of the replies asked for."""


def reply_in(body: bytes) -> str:
    """The text of the first choice in a chat completion.

    Raises:
        BadReply: If it is none.
        Refused: If the model declined or was kept from answering, or the text is empty.
    """
    try:
        choice = json.loads(body)["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise BadReply(f"not a chat completion: {short_repr(body)}") from None
    if refusal or reason == "content_filter":
        raise Refused(f"finish_reason {short_repr(reason)}, refusal {short_repr(refusal)}")
    if content is None or content == "":
        raise Refused(f"no text, finish_reason {short_repr(reason)}")
    if not isinstance(content, str):
        raise BadReply(f"the content is no text: {short_repr(body)}")
    return content


def first_model_in(body: bytes) -> str:
    """The name of the first model in a list of models.

    Raises:
        BadReply: If it is none, or empty.
    """
    try:
        name = json.loads(body)["data"][0]["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        name = None
    if not isinstance(name, str):
        raise BadReply(f"not a list of models: {short_repr(body)}")
    return name


def connected(error: Exception | None) -> bool:
    """Whether an error came after a connection was made: else nobody was asked."""
    while error is not None:
        if type(error).__name__ in ("ConnectError", "ConnectTimeout"):  # of httpx or httpx2
            return False
        error = error.__cause__
    return True


def failure_of(error: Exception) -> tuple[str, float | None]:
    """Which of `opinion.FAILURES` an error while asking is, and the seconds that the server asked us to wait, if it did."""
    import openai

    if isinstance(error, openai.APIStatusError):
        wait = seconds_to_wait(error.response.headers.get("retry-after"))
        if error.status_code == 429:
            return "rate_limited", wait
        return ("server_error" if error.status_code >= 500 else "rejected"), wait
    if isinstance(error, openai.APIConnectionError) and isinstance(error.__cause__, BadReply | OtherHost):
        error = error.__cause__  # raised while the answer was read, and taken for the connection's fault
    kinds = {
        (OtherHost,): "rejected",
        (TimeoutError, openai.APITimeoutError): "timeout",
        (openai.APIConnectionError,): "connection",
        (BadReply,): "bad_reply",
        (Refused,): "refused",
        (Nonsense,): "nonsense",
    }
    return next((kind for types, kind in kinds.items() if isinstance(error, types)), "exception"), None


def seconds_to_wait(header: str | None) -> float | None:
    """The seconds that a Retry-After header means (a number or a date), at most `LONGEST_RETRY_AFTER`; None if nothing."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        date = email.utils.parsedate_tz(header)
        seconds = math.nan if date is None else _timestamp(date) - time.time()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _timestamp(date: tuple) -> float:
    """Seconds since 1970; NaN for a date that no calendar has."""
    try:
        return email.utils.mktime_tz(date)
    except (ValueError, OverflowError):
        return math.nan
