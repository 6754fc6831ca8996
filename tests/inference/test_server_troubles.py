"""What a server does to a single prompt is counted; what it does to all of them stops the evaluation."""

import base64
import gzip
import json
import socket
import threading
import time
import zlib
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from r1reward.data.rows import ImageSource
from r1reward.data.shapes.rows import preference_row
from r1reward.inference.backend import Completion, PromptRejected, Sampling
from r1reward.inference.reward_model import RewardModel
from r1reward.inference.server_backend import FEW, ServerBackend, ServerFailed, data_uri
from r1reward.rewards.judges import client
from r1reward.rewards.judges.model import read_digit
from r1reward.rewards.judges.opinion import Opinion
from tests.inference.test_server_backend import ROW, answer, backend, encoded, seeing
from tests.rewards.judges.judge_server import Answer, JudgeServer, judge, listing


def rejected(status: int = 400, message: str = "the prompt is too long") -> Answer:
    return Answer(status=status, body=json.dumps({"error": {"message": message}}).encode())


UNREADABLE = [  # the answer, what the completion is
    (answer(""), Completion("", 7, "refused")),
    (Answer(message={"content": None, "refusal": "no"}), Completion("", 0, "refused")),
    (Answer("half a", finish_reason="content_filter"), Completion("", 0, "refused")),
    (Answer("half a", message={"reasoning_content": "so"}, finish_reason="content_filter"), Completion("", 0, "refused")),
    (Answer(message={"content": None, "reasoning_content": "so", "refusal": "no"}), Completion("", 0, "refused")),
    (Answer(content=None, finish_reason="length"), Completion("", 0, "refused")),
    (rejected(), Completion("", 0, "rejected")),
    (rejected(413), Completion("", 0, "rejected")),
    (rejected(422), Completion("", 0, "rejected")),
    (answer("x", tokens=None), Completion("x", 0)),
    (Answer(body=json.dumps({"choices": [{"message": {"content": "x"}}], "usage": None}).encode()), Completion("x", 0)),
]


@pytest.mark.parametrize(("fault", "expected"), UNREADABLE)
def test_what_is_wrong_with_one_prompt_is_counted_and_asked_once(fault, expected):
    rows = [ROW, replace(ROW, question="other", images=())]
    with JudgeServer(lambda r: fault if "image_url" in r.prompt else answer("fine")) as server:
        drawn = backend(server).complete(rows, 1, Sampling(5), seed=0)
    assert drawn == [[expected], [Completion("fine", 7)]] and len(server.requests) == 2
    ((judged,),) = RewardModel(backend(server))._judgements(rows[:1], drawn[:1])
    assert judged.verdict.choice is None and judged.failure == expected.failure


def test_a_server_that_rejects_one_prompt_after_the_other_stops_the_evaluation():
    script = lambda r: rejected(message="no such parameter")  # noqa: E731
    with JudgeServer(script) as server, pytest.raises(ServerFailed, match="no such parameter"):
        backend(server).complete([ROW] * 4, 1, Sampling(5), seed=0)


def test_rejected_prompts_are_counted_over_batches_until_one_is_answered():
    with JudgeServer(lambda r: rejected()) as server:
        asked = backend(server)
        for _ in range(FEW - 1):
            assert asked.complete([ROW], 1, Sampling(5), seed=0) == [[Completion("", 0, "rejected")]]
        with pytest.raises(ServerFailed):
            asked.complete([ROW], 1, Sampling(5), seed=0)
    with JudgeServer(lambda r: answer("x") if r.number == 1 else rejected()) as server:
        asked = backend(server)
        drawn = [asked.complete([ROW], 1, Sampling(5), seed=0)[0][0].failure for _ in range(2 * FEW)]
    assert drawn == ["rejected", None, *["rejected"] * (2 * FEW - 2)]


def test_a_server_that_is_not_there_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(ServerFailed, match=f"no server answers at {address} "):
        ServerBackend("m", address).check_connection()


@pytest.mark.parametrize("models", [listing("m"), Answer(status=401), Answer(status=404), Answer(body=b"{")])
def test_one_that_answers_anything_is_there(models):
    with JudgeServer(lambda r: answer("x"), models=lambda number: models) as server:
        backend(server).check_connection()
    assert server.listings == 1 and not server.requests


def test_images_are_checked_on_a_prompt_that_the_server_takes():
    rows = [preference_row(0, "held_out", n) for n in range(3)]
    with JudgeServer(
        lambda r: rejected() if rows[0].text() in r.prompt.encode().decode("unicode_escape") else seeing(r)
    ) as server:
        RewardModel(backend(server)).check_images(rows)
    with JudgeServer(lambda r: rejected()) as server, pytest.raises(PromptRejected):
        RewardModel(backend(server)).check_images(rows)


def test_a_server_without_probabilities_is_checked_by_its_count_of_tokens():
    script = lambda r: rejected(message="logprobs are not supported") if "logprobs" in r.body else seeing(r, False)  # noqa: E731
    with JudgeServer(script) as server:
        backend(server).check_images(ROW)


def test_retry_after_is_obeyed_and_a_trickle_ends_with_the_timeout():
    times = []

    def script(request):
        times.append(time.monotonic())
        return Answer(status=429, headers={"retry-after": "1"}) if request.number == 0 else answer("x")

    with JudgeServer(script) as server:
        backend(server).complete([ROW], 1, Sampling(5), seed=0)
    assert 1.0 <= times[1] - times[0] < 2.5
    began = time.monotonic()
    with JudgeServer(lambda r: Answer("x" * 3000, broken="trickle")) as server, pytest.raises(ServerFailed, match="timeout"):
        backend(server, timeout=0.5, attempts=1).complete([ROW], 1, Sampling(5), seed=0)
    assert time.monotonic() - began < 3


def test_what_a_checkpoint_would_bring_is_sent_where_the_server_knows_it():
    with JudgeServer(lambda r: answer("x")) as server:
        backend(server).complete([ROW], 1, Sampling(5), seed=0)
    assert {name: server.requests[0].body[name] for name in ("top_k", "min_p", "repetition_penalty")} == {
        "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
    }  # fmt: skip
    script = lambda r: rejected(message="Unrecognized request argument: min_p") if "min_p" in r.body else answer("x")  # noqa: E731
    with JudgeServer(script) as server:
        asked = backend(server, concurrency=1)
        assert asked.complete([ROW] * 5, 1, Sampling(5), seed=0) == [[Completion("x", 7)]] * 5
        assert len(server.requests) == 6  # it is told once
    script = lambda r: rejected(message="unknown: top_k") if "top_k" in r.body else answer("x")  # noqa: E731
    with JudgeServer(script) as server, pytest.raises(ServerFailed, match="top_k"):  # the user's wish, no prompt's fault
        backend(server).complete([ROW], 1, Sampling(5, 1.0, 1.0, 20), seed=0)


@pytest.mark.parametrize(
    ("limits", "size"), [((None, 2400), (60, 40)), ((None, 6000), (60, 40)), ((None, 600), (30, 20)), ((9600, None), (120, 80))]
)
def test_images_are_sent_within_the_pixel_limits(limits, size):
    source = ImageSource(data=encoded(Image.new("RGB", (60, 40), "red"), "JPEG"))
    data = base64.b64decode(data_uri(source, *limits).partition("base64,")[2])
    assert Image.open(BytesIO(data)).size == size
    assert (data == source.data) == (size == (60, 40))


def test_pixel_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="model.min_pixels=9"):
        ServerBackend("m", "http://h/v1", min_pixels=9, max_pixels=8)


# ---- the one client --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nothing_is_sent_on_to_another_host(status):
    with JudgeServer(lambda r: answer("1")) as other:
        for target in (other.url, other.url.replace("127.0.0.1", "localhost"), "//127.0.0.1:1/v1"):
            away = Answer(status=status, headers={"location": f"{target}/chat/completions"}, body=b"")
            with JudgeServer(lambda r, away=away: away) as server:
                assert judge(server)(["secret"], read_digit) == [Opinion(None, "rejected")]
                with pytest.raises(ServerFailed, match="another host"):
                    backend(server).complete([ROW], 1, Sampling(5), seed=0)
                assert len(server.requests) == 2
        assert not other.requests and other.connections == 0


def test_a_redirect_on_the_same_host_is_followed():
    there = Answer(status=307, headers={"location": "/v1/elsewhere"}, body=b"")
    with JudgeServer(lambda r: there if r.number == 0 else answer("1")) as server:
        assert judge(server)(["a"], read_digit) == [Opinion(1.0)]


BOMB = {"gzip": gzip.compress(b" " * 50_000_000), "deflate": zlib.compress(b" " * 50_000_000), "identity": b" " * 5_000_000}


@pytest.mark.parametrize("encoding", [*BOMB, "br"])
def test_no_more_of_a_reply_is_read_than_is_sensible(encoding, monkeypatch):
    read = []
    unpack = zlib.decompressobj
    monkeypatch.setattr(client.zlib, "decompressobj", lambda bits: Counting(unpack(bits), read))
    bomb = Answer(body=BOMB.get(encoding, b"{}"), headers={"content-encoding": encoding})
    with JudgeServer(lambda r: bomb) as server:
        assert judge(server, attempts=1)(["a"], read_digit) == [Opinion(None, "bad_reply")]
    with JudgeServer(lambda r: replace(bomb, status=400)) as server:  # an error's body is read too
        assert judge(server, attempts=1)(["a"], read_digit)[0].failure in ("bad_reply", "rejected")
    assert sum(read) <= 2 * (client.LARGEST_REPLY + 1)


class Counting:
    def __init__(self, inner, read):
        self._inner, self._read = inner, read

    def decompress(self, data, limit):
        chunk = self._inner.decompress(data, limit)
        self._read.append(len(chunk))
        return chunk


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda body: body])
def test_compressed_replies_are_read(pack):
    encoding = {gzip.compress: "gzip", zlib.compress: "deflate"}.get(pack, "identity")
    packed = Answer(body=pack(answer("1").body), headers={"content-encoding": encoding})
    with JudgeServer(lambda r: packed) as server:
        assert judge(server)(["a"], read_digit) == [Opinion(1.0)]


def test_a_judge_that_is_not_there_yet_is_waited_for():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    asked, opinions = judge(None, base_url=f"http://127.0.0.1:{port}/v1", attempts=1), []
    waiting = threading.Thread(target=lambda: opinions.extend(asked(["a", "b"], read_digit)))
    waiting.start()
    time.sleep(2)
    with JudgeServer(lambda r: answer("1"), port=port):
        waiting.join(timeout=30)
    assert opinions == [Opinion(1.0)] * 2


def test_another_server_under_the_same_model_name_is_asked(tmp_path):
    settings = {"cache": tmp_path / "replies.sqlite"}
    with JudgeServer(lambda r: answer("1")) as one, JudgeServer(lambda r: answer("0")) as other:
        assert judge(one, **settings)(["a"], read_digit) == [Opinion(1.0)]
        assert judge(other, **settings)(["a"], read_digit) == [Opinion(0.0)]
        assert judge(one, base_url=f"{one.url}/", **settings)(["a"], read_digit) == [Opinion(1.0)]
    assert len(one.requests) == len(other.requests) == 1


HOSTILE = ("a", "sk-", "://", "://a:", "Bearer ", "?key", "hf_", "github_pat_", "api_key=***", " ", "glpat-", "a.b+", "x://y:z")


@pytest.mark.parametrize("part", HOSTILE)
def test_redaction_takes_time_linear_in_the_text(part):
    from r1reward.tracking.redaction import redact

    began = time.perf_counter()
    redact(part * (400_000 // len(part)))
    assert time.perf_counter() - began < 3  # quadratic: minutes
