"""A language model behind any OpenAI-compatible server: vLLM, SGLang, transformers serve, a hosted one.

The calls run on an event loop of their own, on one background thread: `start` begins them and returns, a later `__call__` with
the same prompts waits for them only. Whatever the server does, or does not, becomes an `Opinion`:

    asked again, `attempts` times in all     no answer in time, a connection that broke, status 429 or 5xx, an answer that is no
                                             chat completion, a reply that means nothing
    asked again until `batch_timeout` ends   no connection could be made: nobody was asked
    not asked again                          other statuses (a wrong key stays wrong), a refusal, a redirect to another host, no
                                             calls left
    given up with the batch                  what is not answered `batch_timeout` seconds after it was first asked for

The failure of an opinion is that of its last attempt.
"""

import asyncio
import logging
import math
import os
import threading
import urllib.error
import urllib.request
import weakref
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

import tenacity

from r1reward.messages import short_repr
from r1reward.rewards.judges.cache import ReplyCache
from r1reward.rewards.judges.client import make_client, post, wait
from r1reward.rewards.judges.opinion import Opinion, TooManyFailures
from r1reward.rewards.judges.replies import Nonsense, connected, failure_of, first_model_in, reply_in
from r1reward.tracking.redaction import redact

logger = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
ASKED_AGAIN = ("timeout", "connection", "rate_limited", "server_error", "bad_reply", "nonsense")

Read = Callable[[str], float | None]


class ServerDown(TooManyFailures):
    """Nobody answers at the judge's address; the message names it."""


@dataclass(frozen=True)
class ServerSettings:
    """Which server is asked, and how patiently.

    Attributes:
        base_url: Address up to the version, such as http://localhost:8000/v1; None: OpenAI's.
        model: Name of the model; None: the first that the server lists, asked for until it answers.
        api_key_env: Name of the environment variable that holds the key. A server of one's own needs none.
        concurrency: Calls under way at a time, >= 1.
        timeout: Seconds that one call may take, > 0.
        batch_timeout: Seconds that all calls and waits for one prompt may take, from when it was first asked for, > 0.
        attempts: Calls for one prompt before its failure counts, >= 1; one that finds no server does not count, and is
            made anew until `batch_timeout` ends.
        temperature: Of the replies, >= 0.
        max_tokens: Longest reply in tokens, >= 1. A model that thinks before it answers needs hundreds or thousands.
        cache: File that keeps the replies (`ReplyCache`); None: none.
        max_calls: HTTP requests for replies that reach a server, in the whole life of the client, >= 0; None: no limit.
    """

    base_url: str | None = None
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 64
    timeout: float = 30.0
    batch_timeout: float = 300.0
    attempts: int = 3
    temperature: float = 0.0
    max_tokens: int = 64
    cache: str | Path | None = None
    max_calls: int | None = None

    def __post_init__(self):
        url = urlsplit(self.base_url or OPENAI)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"the judge's base_url must look like http://localhost:8000/v1, got {redact(repr(self.base_url))}")
        for name, least in {"concurrency": 1, "attempts": 1, "max_tokens": 1, "temperature": 0, "max_calls": 0}.items():
            value = getattr(self, name)
            if not (value is None and name == "max_calls") and not (math.isfinite(value) and value >= least):
                raise ValueError(f"the judge's {name} must be a number >= {least}, got {value!r}")
        for name in ("timeout", "batch_timeout"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"the judge's {name} must be a number of seconds > 0, got {getattr(self, name)!r}")


def check_server(base_url: str | None, timeout: float) -> None:
    """See that somebody answers at the judge's address: one request for its list of models, whatever the answer is.

    Raises:
        ServerDown: There is no connection, or no answer within `timeout` seconds.
    """
    url = urlsplit(base_url or OPENAI)
    request = urllib.request.Request(url._replace(netloc=url.netloc.rpartition("@")[2]).geturl().rstrip("/") + "/models")
    if url.username is not None:  # urllib takes it for a part of the host's name
        login = f"{unquote(url.username)}:{unquote(url.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    try:
        urllib.request.urlopen(request, timeout=timeout).close()
    except urllib.error.HTTPError as error:  # no such list, or a key is wanted: it is there
        error.close()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ServerDown(
            redact(f"no judge answers at {base_url or OPENAI} ({reason}): start its server, or set reward.judge.base_url")
        ) from None


@dataclass(frozen=True)
class _Answer:
    """What one attempt, or all attempts for one prompt, came to.

    Attributes:
        opinion: What is handed out.
        detail: What happened, for the log; empty if nothing did.
        retry_after: Seconds that the server asked us to wait; None if it did not.
        connected: Whether a server was there to be asked.
    """

    opinion: Opinion
    detail: str = ""
    retry_after: float | None = None
    connected: bool = True


@dataclass
class _Job:
    """The work for one prompt: its task, and how many rows wait for it or have its answer."""

    task: asyncio.Task
    rows: int = 0


class Server:
    """A `TextModel` (r1reward.rewards.judges.opinion) behind a server.

    `read` must be hashable, and the same object (or bound method) in `start` and `__call__`.

    Raises:
        ValueError: If OpenAI's server is meant and the environment variable holds no key, or if the key cannot be sent.
    """

    def __init__(self, settings: ServerSettings):
        self.settings = settings
        key = os.environ.get(settings.api_key_env, "").strip()
        if settings.base_url is None and not key:
            raise ValueError(
                f"the judge asks OpenAI's server, but the environment variable {settings.api_key_env} holds no key: set it, or "
                "base_url to the address of another server"
            )
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"the key in the environment variable {settings.api_key_env} has characters that no key has")
        self._key = key or "EMPTY"
        self._cache = None if settings.cache is None else ReplyCache(settings.cache)
        self._counts = Counter(calls=0, cached=0, retries=0, shared=0)
        # From here on, all is read and written on the loop's thread only.
        self._model = settings.model
        self._listing: asyncio.Task | None = None
        self._jobs: dict[tuple[str, Read], _Job] = {}
        self._calls: set[asyncio.Task] = set()  # under way
        self._collected = False  # something, since the latest `start`
        self._free = asyncio.Semaphore(settings.concurrency)
        self._loop = asyncio.new_event_loop()
        self._client = self._loop.create_future()
        self._thread = threading.Thread(
            target=_run, args=(self._loop, self._client, settings, self._key), name="judge client", daemon=True
        )
        self._thread.start()
        weakref.finalize(self, _stop, self._loop, self._thread)  # also at the interpreter's exit

    def __repr__(self) -> str:
        return redact(f"Server({self.settings!r})")

    def __call__(self, prompts: list[str], read: Read) -> list[Opinion]:
        """One opinion per prompt; equal prompts, and those under way, are asked once. Interrupting it ends its calls."""
        if not self._thread.is_alive():  # after a fork
            return [Opinion(None, "exception")] * len(prompts)
        future = asyncio.run_coroutine_threadsafe(self._collect(list(prompts), read), self._loop)
        try:
            return future.result()
        except CancelledError:
            return [Opinion(None, "exception")] * len(prompts)
        except BaseException:
            future.cancel()
            raise

    def start(self, prompts: list[str], read: Read) -> None:
        """Begin with prompts without waiting.

        Their answers are kept until a `__call__` collects them. What nobody collected is forgotten at the first `start` after a
        `__call__`: with the next rollout batch.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._begin, list(prompts), read)

    def statistics(self) -> dict[str, int]:
        """Counts since the beginning.

        calls       HTTP requests for replies that reached a server, also those that failed
        cached      prompts answered from the cache
        retries     attempts after the first for one prompt
        shared      rows answered with the work for another row, of the same batch or of one under way
        """
        return dict(self._counts)

    # ---- on the loop's thread: jobs ------------------------------------------------------------------------------------

    def _begin(self, prompts: list[str], read: Read):
        if self._collected:
            self._jobs = {key: job for key, job in self._jobs.items() if not job.task.done()}
            self._collected = False
        self._all_jobs(prompts, read)

    def _all_jobs(self, prompts: list[str], read: Read) -> list[_Job]:
        """The job of each prompt, begun where there is none."""
        # One moment for all, or the end of the first would let others begin a call just before their own end.
        deadline = self._loop.time() + self.settings.batch_timeout
        jobs = []
        for prompt in prompts:
            job = self._jobs.get((prompt, read))
            if job is None:
                job = self._jobs[prompt, read] = _Job(self._loop.create_task(self._answer(prompt, read, deadline)))
            jobs.append(job)
        return jobs

    async def _collect(self, prompts: list[str], read: Read) -> list[Opinion]:
        jobs = self._all_jobs(prompts, read)
        for job in jobs:
            self._counts["shared"] += job.rows > 0
            job.rows += 1
        try:
            if jobs:
                await asyncio.wait({job.task for job in jobs})
        except asyncio.CancelledError:
            for job in jobs:
                job.task.cancel()
            raise
        finally:
            self._collected = True
            for prompt, job in zip(prompts, jobs, strict=True):
                if self._jobs.get((prompt, read)) is job:
                    del self._jobs[prompt, read]
        interrupted = _Answer(Opinion(None, "exception"), "interrupted")  # by the end of another call that shared it
        answers = [interrupted if job.task.cancelled() else job.task.result() for job in jobs]
        self._report(answers)
        return [answer.opinion for answer in answers]

    def _report(self, answers: list[_Answer]):
        """One line in the log for all failures of a batch."""
        failed = [answer for answer in answers if answer.opinion.failure is not None]
        if failed:
            kinds = Counter(answer.opinion.failure for answer in failed)
            logger.warning(
                "judge %s at %s: %d of %d prompts failed (%s); the first: %s",
                self._model or "(model not known yet)",
                redact(self.settings.base_url or OPENAI),
                len(failed),
                len(answers),
                ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()),
                failed[0].detail,
            )

    # ---- on the loop's thread: one prompt ------------------------------------------------------------------------------

    async def _answer(self, prompt: str, read: Read, deadline: float) -> _Answer:
        """The answer to one prompt, from the cache or after as many attempts as it takes."""
        latest, asked = _Answer(Opinion(None)), 0

        async def attempt() -> _Answer:
            nonlocal latest, asked
            latest = await self._attempt(prompt, read)
            asked += latest.connected
            return latest

        def count(state: tenacity.RetryCallState):
            self._counts["retries"] += state.attempt_number > 1

        try:
            async with asyncio.timeout_at(deadline):
                return await tenacity.AsyncRetrying(
                    sleep=asyncio.sleep,
                    stop=lambda state: asked >= self.settings.attempts,
                    wait=wait,
                    retry=tenacity.retry_if_result(lambda answer: answer.opinion.failure in ASKED_AGAIN),
                    before=count,
                    retry_error_callback=lambda state: state.outcome.result(),
                )(attempt)
        except TimeoutError:
            before = f"; before that {latest.detail}" if latest.detail else ""
            detail = f"no answer within the {self.settings.batch_timeout:g} s of batch_timeout{before}"
            return _Answer(Opinion(None, "deadline" if latest.connected else "connection"), detail)

    async def _attempt(self, prompt: str, read: Read) -> _Answer:
        settings = self.settings
        try:
            if self._model is None:
                await self._ask_for_model()
            request = {"model": self._model, "temperature": settings.temperature, "max_tokens": settings.max_tokens}
            address = settings.base_url or OPENAI
            kept = self._cache.get(address=address, prompt=prompt, **request) if self._cache else None
            value = None if kept is None else read(kept)
            if value is not None:
                self._counts["cached"] += 1
                return _Answer(Opinion(value))
            client = await asyncio.shield(self._client)
            async with self._free:
                body = await self._post(client, request | {"messages": [{"role": "user", "content": prompt}]})
            if body is None:
                return _Answer(Opinion(None, "budget"), f"all {settings.max_calls} calls (max_calls) are spent")
            reply = reply_in(body)
            value = read(reply)
            if value is None:
                raise Nonsense(f"none of the replies asked for: {short_repr(reply)}")
        except Exception as error:
            return self._failed(error)
        if self._cache:
            self._cache.put(address=address, prompt=prompt, reply=reply, **request)
        return _Answer(Opinion(value))

    async def _post(self, client, request: dict) -> bytes | None:
        """The body of the answer; None where no call is left. Those under way may find no server, and are then given back."""
        most = math.inf if self.settings.max_calls is None else self.settings.max_calls
        while self._counts["calls"] >= most:
            if not self._calls:
                return None
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        self._counts["calls"] += 1
        sent = []
        call = self._loop.create_task(post(client, request, self.settings.timeout, lambda: sent.append(True)))
        self._calls.add(call)
        try:
            return await call
        finally:
            self._counts["calls"] -= not sent
            self._calls.discard(call)

    async def _ask_for_model(self):
        """Set the model to the first that the server lists; everybody who needs it waits for the same request."""
        if self._listing is None or self._listing.done():
            self._listing = self._loop.create_task(self._first_model())
            self._listing.add_done_callback(lambda task: task.cancelled() or task.exception())  # or asyncio complains
        self._model = await asyncio.shield(self._listing)

    async def _first_model(self) -> str:
        client = await asyncio.shield(self._client)
        async with asyncio.timeout(self.settings.timeout):
            response = await client.models.with_raw_response.list()
        return first_model_in(response.http_response.content)

    def _failed(self, error: Exception) -> _Answer:
        """What an error while asking means."""
        failure, retry_after = failure_of(error)
        if failure == "rejected" and self.settings.model is None:
            self._model = None  # perhaps the server was started anew with another model
        if failure == "timeout":
            detail = f"no answer within the {self.settings.timeout:g} s of timeout"
        else:
            cause = "" if error.__cause__ is None else f" ({error.__cause__!r})"
            detail = f"{type(error).__name__}: {error}{cause}".replace(self._key, "***")  # servers like to quote a wrong key
        return _Answer(Opinion(None, failure), redact(detail)[:500], retry_after, connected(error))


# ---- the background thread: nothing here holds the Server, so that it can be collected ---------------------------------


def _run(loop: asyncio.AbstractEventLoop, made: asyncio.Future, settings: ServerSettings, key: str):
    """The thread: makes the client (the import takes most of a second), runs the loop, cleans up."""
    asyncio.set_event_loop(loop)
    try:
        made.set_result(make_client(settings.base_url or OPENAI, key, settings.timeout, settings.concurrency))
    except Exception as error:
        made.set_exception(error)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    if made.exception() is None:
        loop.run_until_complete(made.result().close())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread):
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(timeout=5)
