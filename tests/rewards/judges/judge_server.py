"""An OpenAI-compatible server on the loopback that answers by script, and misbehaves by script.

with JudgeServer(lambda request: Answer("1", delay=0.2)) as server:
    Server(ServerSettings(base_url=server.url, model="judge"))
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from r1reward.rewards.judges.server import Server, ServerSettings


@dataclass(frozen=True)
class Request:
    """One request for a chat completion; `number` counts from 0 over the server's life, `attempt` over the equal prompts."""

    number: int
    attempt: int
    prompt: str
    body: dict
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What is answered, after `delay` seconds: a chat completion with this content, or `body` as it is.

    `broken`: "drop" (the connection is closed without a byte), "half" (a length is announced, half of it comes), "chunked" (cut
    off between two chunks), "trickle" (a byte each 20 ms, without end), "hang" (nothing, until the client leaves).
    """

    content: str | None = "1"
    delay: float = 0.0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    message: dict = field(default_factory=dict)
    finish_reason: str = "stop"
    broken: str | None = None

    def payload(self) -> bytes:
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": f"scripted status {self.status}"}}).encode()
        message = {"role": "assistant", "content": self.content, **self.message}
        choice = {"index": 0, "finish_reason": self.finish_reason, "message": message}
        return json.dumps(
            {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}
        ).encode()


def listing(*names: str) -> Answer:
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "test"} for name in names]
    return Answer(body=json.dumps({"object": "list", "data": models}).encode())


class JudgeServer:
    """The server, on its own thread.

    Attributes:
        url: For `ServerSettings.base_url`.
        requests: The requests for completions so far, in order.
        listings, listing_headers: How often the models were listed, and the headers, in lower case, of those requests.
        open, connections: Connections that are open now, and all that ever were.
        under_way, peak: Completions being answered now, and at most.
        left: Requests whose client went away before the answer.
    """

    def __init__(
        self,
        script: Callable[[Request], Answer],
        models: Callable[[int], Answer] = lambda number: listing("judge"),
        port: int = 0,
    ):
        self.script, self.models, self._port = script, models, port
        self.requests: list[Request] = []
        self.listing_headers: list[dict[str, str]] = []
        self.listings = self.open = self.connections = self.under_way = self.peak = self.left = 0
        self._attempts: dict[str, int] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "JudgeServer":
        self._thread.start()
        listening = asyncio.start_server(self._connection, "127.0.0.1", self._port, backlog=1024, limit=2**24)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *error):
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kill(self):
        """Close the port and reset every connection."""

        async def close():
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.open += 1
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader, writer) -> bool:
        """Answer one request; False where the connection ends."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if head[0].startswith("GET /v1/models"):
            self.listings += 1
            self.listing_headers.append(headers)
            return await self._send(self.models(self.listings - 1), reader, writer)
        body = json.loads(raw)
        content = body["messages"][0]["content"]
        prompt = content if isinstance(content, str) else json.dumps(content)
        request = Request(len(self.requests), self._attempts.get(prompt, 0), prompt, body, headers)
        self._attempts[prompt] = request.attempt + 1
        self.requests.append(request)
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            return await self._send(self.script(request), reader, writer)
        finally:
            self.under_way -= 1

    async def _send(self, answer: Answer, reader, writer) -> bool:
        if answer.delay or answer.broken == "hang":
            leaving = asyncio.ensure_future(reader.read(1))  # the client says nothing more unless it leaves
            await asyncio.wait({leaving}, timeout=None if answer.broken == "hang" else answer.delay)
            if leaving.done():
                self.left += 1
                return False
            leaving.cancel()
            await asyncio.wait({leaving})  # the reader allows one at a time
        if answer.broken == "drop":
            return False
        payload = answer.payload()
        lines = [f"HTTP/1.1 {answer.status} Scripted", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        chunked = answer.broken == "chunked"
        lines += ["transfer-encoding: chunked" if chunked else f"content-length: {len(payload)}", "", ""]
        writer.write("\r\n".join(lines).encode())
        if answer.broken is None:
            writer.write(payload)
            await writer.drain()
            return True
        half = payload[: len(payload) // 2]
        if answer.broken == "trickle":
            for byte in payload:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
            return True
        writer.write(f"{len(half):x}\r\n".encode() + half + b"\r\n" if chunked else half)
        await writer.drain()
        return False


def judge(server: JudgeServer | None, **settings) -> Server:
    """A client of the server, or of the address in the settings."""
    return Server(ServerSettings(**{"base_url": server.url if server else None, "model": "judge"} | settings))


def tasks(client: Server) -> set[asyncio.Task]:
    """The tasks on the client's loop."""
    return asyncio.all_tasks(client._loop)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0):
    """Wait until the condition holds; fail if it does not come to."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()
