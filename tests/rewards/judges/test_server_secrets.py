"""A password in the judge's address, or a key in what a server says, is shown nowhere."""

import logging
import socket
from base64 import b64encode

import pytest

from r1reward.rewards.judges.model import read_digit
from r1reward.rewards.judges.server import Server, ServerDown, ServerSettings, check_server
from tests.rewards.judges.judge_server import Answer, JudgeServer


def test_no_password_of_the_address_and_no_key_of_an_answer_is_shown(caplog, monkeypatch):
    monkeypatch.setenv("OTHER_API_KEY", "correct-horse-battery")
    said = "the keys sk-0123456789abcdefghijk and correct-horse-battery are both wrong"
    with JudgeServer(lambda r: Answer(said, status=401)) as server:
        url = server.url.replace("http://", "http://me:my-password@")
        asked = Server(ServerSettings(base_url=url, model="m", attempts=1))
        with caplog.at_level(logging.WARNING):
            assert asked(["a"], read_digit)[0].failure == "rejected"
    shown = caplog.text + repr(asked)
    assert "me:***@" in shown and "1 of 1 prompts failed" in shown
    for secret in ("my-password", "sk-0123", "correct-horse"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("login", "sent"),
    [("me:my-password", "me:my-password"), ("me", "me:"), ("a%40b:p%3Aw%2F", "a@b:p:w/"), ("", None)],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_check_of_a_server_asks_with_the_addresss_login(login, sent, slash):
    with JudgeServer(lambda r: Answer(), models=lambda n: Answer(status=200 if sent else 401)) as server:
        check_server(server.url.replace("http://", f"http://{login}@" if login else "http://") + slash, timeout=5)
    expected = {} if sent is None else {"authorization": f"Basic {b64encode(sent.encode()).decode()}".lower()}
    assert {name: value for name, value in server.listing_headers[0].items() if name == "authorization"} == expected


def test_a_login_is_not_sent_on_to_another_host():
    with JudgeServer(lambda r: Answer()) as other:
        answer = Answer(status=302, headers={"location": f"{other.url}/models"})
        with JudgeServer(lambda r: Answer(), models=lambda n: answer) as server:
            check_server(server.url.replace("http://", "http://me:my-password@"), timeout=5)
    assert "authorization" in server.listing_headers[0] and "authorization" not in other.listing_headers[0]


def test_a_server_with_a_login_that_is_not_there_is_named_without_it():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerDown, match=f"no judge answers at http://me:.*@127.0.0.1:{port}/v1") as caught:
        check_server(f"http://me:my-password@127.0.0.1:{port}/v1", timeout=5)
    assert "my-password" not in str(caught.value)


def test_an_address_that_is_none_is_refused_without_its_password():
    with pytest.raises(ValueError, match="must look like http://localhost:8000/v1, got 'ftp://me:...@host'") as caught:
        ServerSettings(base_url="ftp://me:my-password@host")
    assert "my-password" not in str(caught.value)
