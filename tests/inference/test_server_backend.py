"""A reward model over real HTTP on the loopback."""

import base64
import json
import math
import time
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from r1reward.data.rows import ImageSource
from r1reward.data.shapes.rows import preference_row
from r1reward.inference.backend import Sampling
from r1reward.inference.server_backend import REPEATS, FirstToken, ServerBackend, ServerFailed, data_uri
from r1reward.models.image_check import ImagesNotSeen
from tests.rewards.judges.judge_server import Answer, JudgeServer

ROW = preference_row(0, "held_out", 0)


def answer(text: str, tokens: int | None = 7, **options) -> Answer:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {} if tokens is None else {"usage": {"completion_tokens": tokens, "prompt_tokens": 1, "total_tokens": 8}}
    return Answer(body=json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]} | usage).encode(), **options)


def backend(server: JudgeServer, **options) -> ServerBackend:
    return ServerBackend("m", server.url, **options)


def test_each_row_gets_its_votes_with_image_and_text():
    rows = [ROW, ROW.swapped(), replace(ROW, images=())]
    with JudgeServer(lambda request: answer(str(request.body["seed"]), delay=0.02)) as server:
        drawn = backend(server).complete(rows, 3, Sampling(50, 0.7, 0.9, 20), seed=2)
    assert [[completion.text for completion in of_row] for of_row in drawn] == [
        [str(2 * 10_007 + 3 * row + vote) for vote in range(3)] for row in range(3)
    ]
    assert drawn[0][0].tokens == 7
    request = next(r for r in server.requests if r.body["seed"] == 2 * 10_007 + 3)
    assert {key: request.body[key] for key in ("model", "max_tokens", "temperature", "top_p", "top_k")} == {
        "model": "m", "max_tokens": 50, "temperature": 0.7, "top_p": 0.9, "top_k": 20,
    }  # fmt: skip
    image, text = request.body["messages"][0]["content"]
    assert text == {"type": "text", "text": ROW.swapped().text()}
    data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(BytesIO(data)).size == (84, 84)
    without = next(r for r in server.requests if r.body["seed"] == 2 * 10_007 + 6)
    assert [part["type"] for part in without.body["messages"][0]["content"]] == ["text"]


def test_calls_run_together():
    with JudgeServer(lambda request: answer("x", delay=0.2)) as server:
        started = time.monotonic()
        backend(server, concurrency=16).complete([ROW], 32, Sampling(5, 1.0), seed=0)
    assert server.peak == 16 and time.monotonic() - started < 5


def test_passing_troubles_are_asked_again():
    troubles = [Answer(status=500), Answer(status=429), Answer(broken="drop"), Answer(body=b"{")]

    def script(request):
        return troubles[request.number] if request.number < len(troubles) else answer("at last")

    with JudgeServer(script) as server:
        drawn = backend(server, attempts=5).complete([ROW], 1, Sampling(5), seed=0)
    assert drawn[0][0].text == "at last" and len(server.requests) == 5


@pytest.mark.parametrize(
    ("script", "kind", "calls"),
    [
        (lambda request: Answer(status=404), "rejected", 1),
        (lambda request: Answer(status=503), "server_error", 2),
        (lambda request: Answer(broken="hang"), "timeout", 2),
    ],
)
def test_a_server_that_fails_stops_the_evaluation(script, kind, calls):
    """No failure of a server counts as a wrong verdict."""
    with JudgeServer(script) as server, pytest.raises(ServerFailed, match=f"gave no completion .{kind}"):
        backend(server, attempts=2, timeout=0.5).complete([ROW], 1, Sampling(5), seed=0)
    assert len(server.requests) == calls


def test_the_key_is_not_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    script = lambda request: Answer(status=401, body=f"wrong key {request.headers['authorization']}".encode())  # noqa: E731
    with JudgeServer(script) as server, pytest.raises(ServerFailed) as caught:
        backend(server, api_key_env="MY_KEY").complete([ROW], 1, Sampling(5), seed=0)
    assert "sk-secret" not in str(caught.value)
    assert server.requests[0].headers["authorization"].endswith("sk-secret")


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def test_images_go_as_they_are_where_servers_read_them(tmp_path):
    image = Image.new("RGB", (6, 4), "red")
    jpeg = encoded(image, "JPEG")
    (tmp_path / "a.bin").write_bytes(jpeg)
    assert data_uri(ImageSource(path=str(tmp_path / "a.bin"))) == f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


@pytest.mark.parametrize("kind", ["rotated", "BMP", "grey"])
def test_other_images_go_upright_as_png(kind):
    image = Image.new("RGB", (6, 4), "red")
    if kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        data, size = encoded(image, "JPEG", exif=exif), (4, 6)
    else:
        data, size = (encoded(image, "BMP") if kind == "BMP" else encoded(image.convert("L"), "PNG")), (6, 4)
    uri = data_uri(ImageSource(data=data))
    sent = Image.open(BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert (sent.format, sent.size, sent.mode) == ("PNG", size, "RGB")


def seeing(request, log_probs: bool = True, sees: bool = True, counts: str = "seen", noise: float = 0.0) -> Answer:
    """A server whose first token's probability follows the image, and which counts the tokens of the images that it has "seen",
    was "sent", or says "nothing" of them. `noise`: how much the probability moves from request to request."""
    content = request.body["messages"][0]["content"]
    sent = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    seen = sent if sees else []
    choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "x"}}
    if log_probs:
        value = -1.0 - (sum(map(len, seen)) % 97) - noise * (request.number % 2)
        choice["logprobs"] = {"content": [{"token": "x", "logprob": value, "top_logprobs": []}]}
    reply = {"id": "1", "object": "chat.completion", "choices": [choice]}
    if counts != "nothing":
        prompt_tokens = 20 + 9 * len(seen if counts == "seen" else sent)
        reply["usage"] = {"completion_tokens": 1, "prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens + 1}
    return Answer(body=json.dumps(reply).encode())


@pytest.mark.parametrize("log_probs", [True, False])
@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_a_server_that_sees_its_images(log_probs, noise):
    with JudgeServer(lambda request: seeing(request, log_probs, noise=noise)) as server:
        backend(server).check_images(ROW)
    *own, changed, without = sorted(server.requests, key=lambda request: -len(str(request.body)))
    assert [len(request.body["messages"][0]["content"]) for request in (*own, changed, without)] == [2] * (REPEATS + 1) + [1]
    assert all(request.body["max_tokens"] == 1 and request.body["logprobs"] is True for request in server.requests)


def test_a_server_that_gives_probabilities_alone_is_seen_to_see():
    with JudgeServer(lambda request: seeing(request, counts="nothing")) as server:
        backend(server).check_images(ROW)


@pytest.mark.parametrize(
    "server_does",
    [
        {},
        {"log_probs": False},
        {"noise": 1e-4},  # of requests in one batch
        {"counts": "sent"},  # and drops them afterwards
        {"counts": "sent", "noise": 1e-4},
        {"counts": "nothing"},
    ],
)
def test_a_server_that_drops_its_images_is_refused(server_does):
    with (
        JudgeServer(lambda request: seeing(request, sees=False, **server_does)) as server,
        pytest.raises(ImagesNotSeen),
    ):
        backend(server, concurrency=1).check_images(ROW)  # in order, so that the noise is the same each time


def test_a_server_that_says_nothing_of_its_images_is_warned_of():
    with (
        JudgeServer(lambda request: seeing(request, log_probs=False, counts="nothing")) as server,
        pytest.warns(UserWarning, match="cannot be told whether its model 'm' sees"),
    ):
        backend(server).check_images(ROW)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"x": -1.0, "y": -2.0}, {"x": -1.5, "y": -2.1}, 0.5),
        ({"x": -1.0, "y": -5.0}, {"x": -1.0, "z": -5.25}, 0.25),  # y and z are each at most as likely as the other's last
        ({"x": -1.0}, {"y": -1.0}, math.inf),
    ],
)
def test_the_distance_of_two_first_tokens(a, b, expected):
    assert FirstToken(a, None).distance(FirstToken(b, None)) == FirstToken(b, None).distance(FirstToken(a, None)) == expected
