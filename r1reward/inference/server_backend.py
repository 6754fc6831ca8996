"""A reward model behind any OpenAI-compatible server: vLLM, SGLang, transformers serve, a hosted one."""

import asyncio
import base64
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import tenacity
from PIL import Image

from r1reward.data.images import open_image, upright_size
from r1reward.data.rows import ImageSource, Row
from r1reward.inference.backend import Completion, Sampling
from r1reward.models.image_check import ImagesNotSeen, inverted
from r1reward.rewards.judges.replies import BadReply, failure_of, reply_in
from r1reward.rewards.written import begun, reasoned_in

ASKED_AGAIN = ("timeout", "connection", "rate_limited", "server_error", "bad_reply")
SENT_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


class ServerFailed(RuntimeError):
    """A completion could not be had; what was judged before is kept, and the evaluation can go on later."""


class ServerBackend:
    """Completions by HTTP, a batch's all at once; images travel inside the request.

    A failing server is no wrong verdict: after `attempts` calls the evaluation stops (`ServerFailed`).

    Args:
        model: Name of the model at the server.
        base_url: Address up to the version, such as http://localhost:8000/v1.
        api_key_env: Environment variable that holds the key; a server of one's own needs none.
        concurrency: Calls under way at a time.
        timeout: Seconds that one call may take.
        attempts: Calls for one completion.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 32,
        timeout: float = 120.0,
        attempts: int = 4,
    ):
        self._model, self._base_url = model, base_url
        self._key = os.environ.get(api_key_env, "").strip() or "EMPTY"
        self._concurrency, self._timeout, self._attempts = concurrency, timeout, attempts

    def complete(self, rows: list[Row], votes: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """See `Backend`; the seed is sent along, what the server makes of it is its own affair."""
        return asyncio.run(self._complete(rows, votes, sampling, seed))

    def check_images(self, row: Row):
        """See `Backend`: other images change the first token's probabilities, or, where the server gives none, images count as
        tokens of the prompt."""
        asyncio.run(self._check_images(row))

    async def _complete(self, rows, votes, sampling, seed) -> list[list[Completion]]:
        requests = [
            self._request(messages, sampling, seed=seed * 10_007 + number * votes + vote)
            for number, messages in enumerate(map(chat_messages, rows))
            for vote in range(votes)
        ]
        drawn = await self._ask(requests, completion_in)
        return [drawn[start : start + votes] for start in range(0, len(drawn), votes)]

    async def _check_images(self, row: Row):
        others = tuple(ImageSource(data=png(image)) for image in inverted([open_image(source) for source in row.images]))
        variants = [row, replace(row, images=others), replace(row, images=())]
        options = {"logprobs": True, "top_logprobs": 5}
        requests = [self._request(chat_messages(each), Sampling(1), **options) for each in variants]
        own, changed, without = await self._ask(requests, first_token)
        blind = own.log_probs == changed.log_probs if own.log_probs is not None else own.prompt_tokens == without.prompt_tokens
        if blind:
            raise ImagesNotSeen(
                f"the server at {self._base_url} answers the same whatever the images show: its model {self._model!r} does not "
                "see them. Serve one that does, with its chat template."
            )

    def _request(self, messages: list[dict], sampling: Sampling, **more) -> dict:
        request = {"model": self._model, "messages": messages, "max_tokens": sampling.max_new_tokens}
        request |= {"temperature": sampling.temperature, "top_p": sampling.top_p} | more
        if sampling.top_k:
            request["extra_body"] = {"top_k": sampling.top_k}
        return request

    async def _ask(self, requests: list[dict], read: Callable[[bytes], Any]) -> list:
        """What `read` makes of each reply; all calls are under way together."""
        import openai

        free = asyncio.Semaphore(self._concurrency)
        async with openai.AsyncOpenAI(
            base_url=self._base_url, api_key=self._key, timeout=self._timeout, max_retries=0
        ) as client:
            calls = [asyncio.create_task(self._one(client, free, request, read)) for request in requests]
            try:
                return await asyncio.gather(*calls)
            finally:
                for call in calls:  # of a batch that failed
                    call.cancel()

    async def _one(self, client, free, request: dict, read: Callable[[bytes], Any]):
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=tenacity.wait_exponential_jitter(initial=0.5, max=30.0),
            retry=tenacity.retry_if_exception(lambda error: failure_of(error)[0] in ASKED_AGAIN),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    async with free:
                        response = await client.chat.completions.with_raw_response.create(**request)
                    return read(response.http_response.content)
        except Exception as error:
            kind = failure_of(error)[0]
            said = str(error).replace(self._key, "***")[:300]
            raise ServerFailed(f"the server at {self._base_url} gave no completion ({kind}): {said}") from None


@dataclass(frozen=True)
class FirstToken:
    """What a server says of the first token of a completion.

    Attributes:
        log_probs: The likeliest tokens and their log-probabilities, or None where it gives none.
        prompt_tokens: How many tokens the prompt has, images included, or None.
    """

    log_probs: str | None
    prompt_tokens: int | None


def first_token(body: bytes) -> FirstToken:
    """Read a chat completion for `FirstToken`.

    Raises:
        BadReply: If it is none.
    """
    try:
        reply = json.loads(body)
        found = (reply["choices"][0].get("logprobs") or {}).get("content")
        return FirstToken(json.dumps(found[0]) if found else None, (reply.get("usage") or {}).get("prompt_tokens"))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise BadReply(f"not a chat completion: {body[:200]!r}") from None


def completion_in(body: bytes) -> Completion:
    """The text of a chat completion and its length as the server counts it.

    Raises:
        BadReply: If it is none.
    """
    text = begun(reasoned_in(body) or reply_in(body))
    try:
        return Completion(text, int(json.loads(body)["usage"]["completion_tokens"]))
    except (LookupError, TypeError, ValueError):
        raise BadReply(f"a chat completion without usage.completion_tokens: {body[:200]!r}") from None


def chat_messages(row: Row) -> list[dict]:
    """The row's prompt as a chat request, images as data URIs in their places."""
    images = iter(row.images)
    content = [
        {"type": "image_url", "image_url": {"url": data_uri(next(images))}} if part["type"] == "image" else part
        for part in row.messages()[0]["content"]
    ]
    return [{"role": "user", "content": content}]


def data_uri(source: ImageSource) -> str:
    """An image in a URI: its file as it is where servers read that format, else as PNG, upright and in RGB."""
    upright_size(source)  # what cannot be shown is refused with its name, and what is too large before it is read
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


def png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
