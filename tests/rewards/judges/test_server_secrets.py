"""A password in the judge's address, or a key in what a server says, is shown nowhere."""

import logging

import pytest

from r1reward.rewards.judges.model import read_digit
from r1reward.rewards.judges.server import Server, ServerSettings
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


def test_an_address_that_is_none_is_refused_without_its_password():
    with pytest.raises(ValueError, match="must look like http://localhost:8000/v1, got 'ftp://me:...@host'") as caught:
        ServerSettings(base_url="ftp://me:my-password@host")
    assert "my-password" not in str(caught.value)
