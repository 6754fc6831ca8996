"""A reward model behind any OpenAI-compatible server: vLLM, SGLang, transformers serve, a hosted one."""

import asyncio
import base64
import itertools
import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import tenacity
from PIL import Image

from r1reward.data.images import open_image, upright_size
from r1reward.data.rows import ImageSource, Row
from r1reward.inference.backend import Completion, PromptRejected, Sampling
from r1reward.models.image_check import ImagesNotSeen, inverted
from r1reward.rewards.judges.client import make_client, post, wait
from r1reward.rewards.judges.replies import BadReply, OtherHost, Refused, failure_of, reply_in
from r1reward.rewards.written import text_with_reasoning, with_think_opened
from r1reward.tracking.redaction import redact

ASKED_AGAIN = ("timeout", "connection", "rate_limited", "server_error", "bad_reply")
# Statuses that may mean this prompt alone: too long, an image that the server does not take, words that it refuses.
OF_THE_PROMPT = (400, 413, 415, 422)
# Else a server takes these from a checkpoint's generation_config.json; `transformers_backend` leaves them out too.
NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
FEW = 4  # prompts that a server may reject, as long as it has answered none
REPEATS = 3  # equal requests, which show how far a server's probabilities vary by themselves
LONGEST_CONNECT = 30.0  # seconds until a server must say that it is there
SENT_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


class ServerFailed(RuntimeError):
    """A completion could not be had; what was judged before is kept, and the evaluation can go on later."""


class Rejected(ServerFailed, PromptRejected):
    """The server does not take this prompt."""


class ServerBackend:
    """Completions by HTTP, a batch's all at once; images travel inside the request.

    A refusal, and a prompt that the server rejects, is a completion without text, which says why (`failure`). A failing server
    is neither: after `attempts` calls for one completion the evaluation stops (`ServerFailed`), and so it does where the server
    rejects one prompt after the other.

    Args:
        model: Name of the model at the server.
        base_url: Address up to the version, such as http://localhost:8000/v1.
        api_key_env: Environment variable that holds the key; a server of one's own needs none.
        concurrency: Calls under way at a time.
        timeout: Seconds that one call may take.
        attempts: Calls for one completion.
        min_pixels, max_pixels: Images beyond these sizes are resized before they are sent; None: no limit.

    Raises:
        ValueError: For limits that contradict each other.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 32,
        timeout: float = 120.0,
        attempts: int = 4,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ):
        limits = [limit for limit in (min_pixels, max_pixels) if limit is not None]
        if limits and (limits[0] < 1 or limits != sorted(limits)):
            raise ValueError(
                f"model.min_pixels={min_pixels}, model.max_pixels={max_pixels}: min_pixels must be at least 1 and at most "
                "max_pixels"
            )
        self._pixels = (min_pixels, max_pixels)
        self._takes_neutral, self._has_answered, self._num_rejected = True, False, 0
        self._model, self._base_url = model, base_url
        self._key = os.environ.get(api_key_env, "").strip() or "EMPTY"
        self._concurrency, self._timeout, self._attempts = concurrency, timeout, attempts

    def complete(self, rows: list[Row], votes: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """See `Backend`; the seed is sent along, what the server makes of it is its own affair."""
        return asyncio.run(self._complete(rows, votes, sampling, seed))

    def check_images(self, row: Row):
        """See `Backend`: other images change the first token's probabilities by more than asking again does, or, where the
        server gives none, images count as tokens of the prompt. A server that says neither is warned of."""
        asyncio.run(self._check_images(row))

    def check_connection(self):
        """See that somebody answers at the address: one request for its list of models, whatever the answer is.

        Raises:
            ServerFailed: There is no connection, or no answer.
        """
        asyncio.run(self._check_connection())

    async def _complete(self, rows, votes, sampling, seed) -> list[list[Completion]]:
        requests = [
            self._request(messages, sampling, seed=seed * 10_007 + number * votes + vote)
            for number, messages in enumerate(chat_messages(row, self._pixels) for row in rows)
            for vote in range(votes)
        ]
        drawn = await self._ask(requests, completion_in)
        rejected = [each for each in drawn if isinstance(each, Rejected)]
        self._has_answered |= len(rejected) < len(drawn)
        self._num_rejected += len(rejected)
        if self._num_rejected >= FEW and not self._has_answered:
            raise rejected[0]
        completions = [Completion("", 0, "rejected") if isinstance(each, Rejected) else each for each in drawn]
        return [completions[start : start + votes] for start in range(0, len(completions), votes)]

    async def _check_images(self, row: Row):
        others = tuple(ImageSource(data=png(image)) for image in inverted([open_image(source) for source in row.images]))
        variants = [*[row] * REPEATS, replace(row, images=others), replace(row, images=())]
        prompts = [chat_messages(each, self._pixels) for each in variants]
        for options in ({"logprobs": True, "top_logprobs": 5}, {}):  # not every server gives probabilities
            said = await self._ask([self._request(prompt, Sampling(1), **options) for prompt in prompts], first_token)
            if not any(isinstance(each, Rejected) for each in said[:-1]):
                break
        else:
            raise next(each for each in said if isinstance(each, Rejected))
        *own, changed, without = said
        sees = sees_images(own, changed, None if isinstance(without, Rejected) else without)
        if sees is None:
            warnings.warn(
                f"the server at {redact(str(self._base_url))} gives neither log-probabilities nor numbers of tokens: it "
                f"cannot be told whether its model {self._model!r} sees the images",
                stacklevel=2,
            )
        elif not sees:
            raise ImagesNotSeen(
                f"the server at {redact(str(self._base_url))} answers the same whatever the images show: its model "
                f"{self._model!r} does not see them. Serve one that does, with its chat template."
            )

    async def _check_connection(self):
        timeout = min(self._timeout, LONGEST_CONNECT)
        try:
            async with asyncio.timeout(timeout), make_client(self._base_url, self._key, timeout, 1) as client:
                await client.models.with_raw_response.list()
        except Exception as error:
            if failure_of(error)[0] in ("timeout", "connection"):
                said = f"{error.__cause__ or error}" or f"nothing within {timeout:g} s"
                raise ServerFailed(
                    f"no server answers at {redact(str(self._base_url))} ({redact(said)}): start it, or set backend.base_url"
                ) from None

    def _request(self, messages: list[dict], sampling: Sampling, **more) -> dict:
        request = {"model": self._model, "messages": messages, "max_tokens": sampling.max_new_tokens}
        request |= {"temperature": sampling.temperature, "top_p": sampling.top_p} | more
        return request | {"extra_body": NEUTRAL | ({"top_k": sampling.top_k} if sampling.top_k else {})}

    async def _ask(self, requests: list[dict], read: Callable[[bytes], Any]) -> list:
        """What `read` makes of each reply, or `Rejected`; all calls are under way together."""
        free = asyncio.Semaphore(self._concurrency)
        async with make_client(self._base_url, self._key, self._timeout, self._concurrency) as client:
            calls = [asyncio.create_task(self._one(client, free, request, read)) for request in requests]
            try:
                return await asyncio.gather(*calls)
            finally:
                for call in calls:  # of a batch that failed
                    call.cancel()

    async def _one(self, client, free, request: dict, read: Callable[[bytes], Any]):
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=wait,
            retry=tenacity.retry_if_exception(lambda error: failure_of(error)[0] in ASKED_AGAIN),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    async with free:
                        body = await self._post(client, request)
                    return read(body)
        except Exception as error:
            kind = failure_of(error)[0]
            why = error.__cause__ if isinstance(error.__cause__, BadReply | OtherHost) else error  # inside a connection's error
            said = redact(f"{why}".replace(self._key, "***"))[:300]
            of_the_prompt = getattr(error, "status_code", None) in OF_THE_PROMPT
            of_the_prompt &= not any(name in said for name in asked_for(request))
            if kind == "rejected" and of_the_prompt:
                return Rejected(f"the server at {redact(str(self._base_url))} rejects the prompt: {said}")
            said = said or f"nothing within {self._timeout:g} s"
            raise ServerFailed(f"the server at {redact(str(self._base_url))} gave no completion ({kind}): {said}") from None

    async def _post(self, client, request: dict) -> bytes:
        """The body of the answer; a server that does not know the neutral settings has none to be told about."""
        without_neutral = request | {"extra_body": asked_for(request)}
        if not self._takes_neutral:
            return await post(client, without_neutral, self._timeout)
        try:
            return await post(client, request, self._timeout)
        except Exception as error:
            unknown = getattr(error, "status_code", None) in OF_THE_PROMPT and any(name in str(error) for name in NEUTRAL)
            if not unknown:
                raise
        answer = await post(client, without_neutral, self._timeout)
        self._takes_neutral = False
        return answer


def asked_for(request: dict) -> dict:
    """The sampling settings of a request that are no neutral ones: what the user wished."""
    return {name: value for name, value in request["extra_body"].items() if value != NEUTRAL[name]}


@dataclass(frozen=True)
class FirstToken:
    """What a server says of the first token of a completion.

    Attributes:
        log_probs: The likeliest tokens and their log-probabilities in nats, or None where it gives none.
        prompt_tokens: How many tokens the prompt has, images included, or None.
    """

    log_probs: dict[str, float] | None
    prompt_tokens: int | None

    def distance(self, other: "FirstToken") -> float:
        """The largest difference of a token's log-probabilities; infinite where the two have no token in common. A token that
        only one of them lists is, by the other, no likelier than its last."""
        a, b = self.log_probs, other.log_probs
        if not a.keys() & b.keys():
            return math.inf
        return max(abs(a.get(token, min(a.values())) - b.get(token, min(b.values()))) for token in a | b)


def sees_images(own: list[FirstToken], changed: FirstToken, without: FirstToken | None) -> bool | None:
    """Whether a server's model sees the images of a prompt; None where nothing says.

    Args:
        own: Of the prompt, asked several times.
        changed: Of the prompt with other images.
        without: Of the prompt without images; None where the server does not take it.
    """
    if all(each.log_probs is not None for each in (*own, changed)):
        noise = max(a.distance(b) for a, b in itertools.combinations(own, 2))
        return min(each.distance(changed) for each in own) > noise
    counts = (own[0].prompt_tokens, None if without is None else without.prompt_tokens)
    return None if None in counts else counts[0] != counts[1]


def first_token(body: bytes) -> FirstToken:
    """Read a chat completion for `FirstToken`.

    Raises:
        BadReply: If it is none.
    """
    try:
        reply = json.loads(body)
        found = (reply["choices"][0].get("logprobs") or {}).get("content")
        listed = [found[0], *(found[0].get("top_logprobs") or [])] if found else []
        log_probs = {each["token"]: float(each["logprob"]) for each in listed} or None
        return FirstToken(log_probs, (reply.get("usage") or {}).get("prompt_tokens"))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise BadReply(f"not a chat completion: {body[:200]!r}") from None


def completion_in(body: bytes) -> Completion:
    """The text of a chat completion and its length as the server counts it, 0 where it does not; "refused" without a text.

    Raises:
        BadReply: If it is none.
    """
    try:
        content = reply_in(body)
    except Refused:
        content = ""
    reply = json.loads(body)
    choice = reply["choices"][0]
    is_kept_back = choice["message"].get("refusal") or choice.get("finish_reason") == "content_filter"
    # A completion that was cut off while it reasoned has a text all the same.
    text = "" if is_kept_back else with_think_opened(text_with_reasoning(body) or content)
    tokens = (reply.get("usage") or {}).get("completion_tokens")
    return Completion(text, tokens if type(tokens) is int and tokens > 0 else 0, None if text else "refused")


def chat_messages(row: Row, pixels: tuple[int | None, int | None] = (None, None)) -> list[dict]:
    """The row's prompt as a chat request, images as data URIs in their places, of at least and at most so many pixels."""
    images = iter(row.images)
    content = [
        {"type": "image_url", "image_url": {"url": data_uri(next(images), *pixels)}} if part["type"] == "image" else part
        for part in row.messages()[0]["content"]
    ]
    return [{"role": "user", "content": content}]


def data_uri(source: ImageSource, min_pixels: int | None = None, max_pixels: int | None = None) -> str:
    """An image in a URI: its file as it is where servers read that format and its size is within the limits, else as PNG,
    upright and in RGB."""
    size = upright_size(source)  # what cannot be shown is refused with its name, and what is too large before it is read
    within = size_within(size, min_pixels, max_pixels)
    if within != size:
        return f"data:image/png;base64,{base64.b64encode(png(open_image(source).resize(within))).decode()}"
    data = source.data
    if data is None:
        with open(source.path, "rb") as file:
            data = file.read()
    with Image.open(BytesIO(data)) as image:
        upright = image.getexif().get(0x0112, 1) == 1
        kind = SENT_AS_THEY_ARE.get(image.format) if upright and image.mode == "RGB" else None
    if kind is None:
        kind, data = "image/png", png(open_image(source))
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def size_within(size: tuple[int, int], min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    """The width and height of the same shape whose area keeps to the limits; the server rounds them to its patches."""
    width, height = size
    if max_pixels is not None and width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height))
        return max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    if min_pixels is not None and width * height < min_pixels:
        scale = math.sqrt(min_pixels / (width * height))
        return math.ceil(width * scale), math.ceil(height * scale)
    return size


def png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
