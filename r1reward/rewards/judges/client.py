"""The one HTTP client for OpenAI-compatible servers, the judge's and the evaluation's, and how it waits.

Servers are strangers: nothing is sent on to another host that they name, and of their answers no more is read than
`LARGEST_REPLY`, counted as it arrives and again as it is unpacked.
"""

import asyncio
import logging
import random
import sys
import zlib
from collections.abc import Callable
from contextvars import ContextVar

import tenacity

from r1reward.rewards.judges.replies import BadReply, OtherHost, failure_of

LARGEST_REPLY = 4 * 2**20  # bytes; a verdict of 32,000 tokens with its reasoning has a few hundred thousand
KEEP_ALIVE = 4.0  # seconds that an idle connection is kept; vLLM and others (uvicorn) close it after 5
FIRST_WAIT, LONGEST_WAIT, JITTER = 0.25, 8.0, 0.25  # seconds before another attempt: doubled each time, plus up to JITTER

_ON_SENT: ContextVar[Callable[[], None] | None] = ContextVar("what is called when a request goes out", default=None)

_backoff = tenacity.wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT) + tenacity.wait_random(0, JITTER)


def make_client(base_url: str, key: str, timeout: float, concurrency: int):
    """An `openai.AsyncOpenAI` without retries of its own.

    Args:
        base_url: Given in any case, or the client takes OPENAI_BASE_URL.
        key: Sent to that host alone.
        timeout: Seconds for connecting and for each read; `post` bounds the whole call.
        concurrency: Connections that are kept.
    """
    import openai

    http = sys.modules[openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0]]  # httpx, from openai 3 on httpx2
    client_log = logging.getLogger(http.__name__)
    if client_log.level == logging.NOTSET:
        client_log.setLevel(logging.WARNING)  # it reports every request as news, and Hydra shows news
    # How many connections there are is bounded by the caller's semaphore; the pool need not queue a second time.
    limits = http.Limits(max_connections=None, max_keepalive_connections=concurrency, keepalive_expiry=KEEP_ALIVE)

    async def announce(request):
        on_sent = _ON_SENT.get()

        async def trace(event, info):
            if event.endswith("send_request_headers.started"):
                on_sent()

        if on_sent is not None:
            request.extensions["trace"] = trace

    async def guard(response):
        _refuse_other_host(response)
        encoding = response.headers.pop("content-encoding", "identity").strip().lower()
        response.stream = _limited_stream(http, response.stream, encoding)

    client = openai.AsyncOpenAI(
        base_url=base_url,
        api_key=key,
        timeout=timeout,
        max_retries=0,
        default_headers={"Accept-Encoding": "gzip, deflate"},
        http_client=openai.DefaultAsyncHttpxClient(limits=limits, event_hooks={"request": [announce], "response": [guard]}),
    )
    _ = client.chat.completions, client.models  # modules that are imported on first use
    return client


async def post(client, request: dict, timeout: float, on_sent: Callable[[], None] | None = None) -> bytes:
    """The body of the answer to a request for a chat completion; in a task of its own.

    Args:
        client: Of `make_client`.
        request: Arguments of the completion.
        timeout: Seconds for the whole call.
        on_sent: Called once there is a connection and the request goes out: from then on a server may have been asked.

    Raises:
        TimeoutError: It is not there after `timeout` seconds; the client's own limit is per read, and a trickle never ends.
        Exception: Whatever `replies.failure_of` names.
    """
    _ON_SENT.set(on_sent)
    async with asyncio.timeout(timeout):
        response = await client.chat.completions.with_raw_response.create(**request)
        return response.http_response.content


def wait(state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt: what the server asked for, else longer each time; never all at the same moment.

    The latest attempt raised an exception, or returned something with `retry_after`.
    """
    error = state.outcome.exception()
    retry_after = state.outcome.result().retry_after if error is None else failure_of(error)[1]
    return _backoff(state) if retry_after is None else retry_after + random.uniform(0, JITTER)


def _refuse_other_host(response):
    """Raise `OtherHost` for a redirect to another host or port, or from https to http: it would carry the prompt there."""
    if not response.has_redirect_location:
        return
    here, there = response.request.url, response.request.url.join(response.headers["location"])
    upgraded = here.scheme == "http" and there.scheme == "https" and here.host == there.host
    if not upgraded and (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
        raise OtherHost(f"status {response.status_code} sends us to another host, {there.scheme}://{there.host}; not followed")


def _limited_stream(http, stream, encoding: str):
    """The unpacked bytes of a body, as long as they and those that arrive keep within `LARGEST_REPLY`."""
    windows = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
    if encoding not in windows and encoding not in ("identity", ""):
        raise BadReply(f"a body encoded as {encoding[:40]!r}, which was not asked for")

    class Limited(http.AsyncByteStream):
        async def __aiter__(self):
            unpack = zlib.decompressobj(windows[encoding]) if encoding in windows else None
            arrived = unpacked = 0
            async for chunk in stream:
                arrived += len(chunk)
                if unpack is not None:
                    try:
                        chunk = unpack.decompress(chunk, LARGEST_REPLY + 1 - unpacked)
                    except zlib.error as error:
                        raise BadReply(f"a body that is not {encoding}: {error}") from None
                unpacked += len(chunk)
                if max(arrived, unpacked) > LARGEST_REPLY:
                    raise BadReply(f"a reply of more than {LARGEST_REPLY:,} bytes, of which no more is read")
                yield chunk

        async def aclose(self):
            await stream.aclose()

    return Limited()
