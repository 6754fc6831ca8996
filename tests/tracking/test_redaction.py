"""Secrets are recognised, hidden and refused; what only looks a little like one is left alone."""

import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from r1reward.configs import arm_name, command_line, compose_settings, slug
from r1reward.reporting.study import StudyReport
from r1reward.tracking.redaction import find_secrets, redact, redact_tree, refuse_secrets
from r1reward.tracking.run_folder import RunFolder

# In the forms of real keys, and of nobody.
KEYS = [
    "sk-0123456789abcdefghijABCDEFGHIJ",
    "sk-ant-api03-0123456789-abcdef_ghij",
    "hf_" + "aB3" * 11 + "x",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2" * 9,
    "glpat-" + "a1B2" * 5,
    "AKIA" + "ABCD2345" * 2,
    "AIza" + "a1B2_" * 7,
    "wandb_v1_" + "a1B2" * 9,
]


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_known_forms_are_hidden(key):
    assert redact(f"wrong key: '{key}', see https://x.y") == "wrong key: '***', see https://x.y"
    assert find_secrets({"a": {"b": ["fine", {"c": key}]}}) == ["a.b[1].c"]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://me:pass@host:8000/v1", "http://me:***@host:8000/v1"),
        ("postgres+psycopg://:pass@host/db", "postgres+psycopg://:***@host/db"),
        ("https://h/v1?api_key=abc&page=2", "https://h/v1?api_key=***&page=2"),
        ("https://h/f?X=1&token=abc", "https://h/f?X=1&token=***"),
        ("+trainer.extra.hub_token=abc clip=ppo", "+trainer.extra.hub_token=*** clip=ppo"),
        ("hydra.job.env_set.MY_PASSWORD=abc", "hydra.job.env_set.MY_PASSWORD=***"),
        ("Authorization: Bearer abcdefgh1", "Authorization: Bearer ***"),
    ],
)
def test_secrets_by_their_place_are_hidden_once(text, hidden):
    assert redact(text) == hidden
    assert redact(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8000/v1", "https://user@host/x", "me@host", "http://a:8000/b@c", "task-0123456789-abcdefghijkl",
        "sk-learn-and-other-libraries", "trainer.max_tokens=5", "pad_token=<pad>", "reward.judge.api_key_env=OPENAI_API_KEY",
        "0123456789abcdef0123456789abcdef01234567", "Qwen/Qwen2.5-VL-3B-Instruct", "hf_hub", "the bearer of news",
    ],
)  # fmt: skip
def test_ordinary_texts_stay(text):
    assert redact(text) == text and find_secrets({"setting": text}) == []


def test_values_of_the_environment_are_hidden_longest_first(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "abcdefgh")
    monkeypatch.setenv("OTHER_secret", "abcdefgh-and-more")
    monkeypatch.setenv("SHORT_KEY", "EMPTY")
    monkeypatch.setenv("PLACE", "somewhere-else")
    assert redact("abcdefgh-and-more abcdefgh EMPTY somewhere-else") == "*** *** EMPTY somewhere-else"


def test_a_tree_is_copied_with_its_shape():
    tree = {"a": [KEYS[0], 1, None, ("x",)], "api_key": "short", "pad_token": "<pad>", "n": 1.5, "password": None, 1: True}
    assert redact_tree(tree) == {
        "a": ["***", 1, None, ["x"]], "api_key": "***", "pad_token": "<pad>", "n": 1.5, "password": None, 1: True,
    }  # fmt: skip
    assert tree["a"][0] == KEYS[0]
    assert find_secrets(redact_tree(tree)) == []


def test_names_of_settings_tell_secrets():
    values = {"hub_token": "abc", "eos_token": "abc", "job": {"env_set": {"MY_KEY": "abc", "HOME": "abc"}}, "key": "abc"}
    assert find_secrets(values) == ["hub_token", "job.env_set.MY_KEY"]
    assert find_secrets({"API_KEY": "${oc.env:API_KEY}"}) == []
    assert find_secrets({"judge": {"api_key_env": "my-own-secret"}}) == ["judge.api_key_env"]
    assert find_secrets({"judge": {"api_key_env": "MY_VARIABLE"}}) == []


def test_the_refusal_names_the_setting_and_not_the_value():
    with pytest.raises(ValueError, match="^judge.base_url, tags.0.: the config holds a key") as caught:
        refuse_secrets({"judge": {"base_url": f"http://h?api_key={KEYS[0]}"}, "tags": [KEYS[1]]})
    assert "reward.judge.api_key_env=NAME" in str(caught.value)
    assert not any(key in str(caught.value) for key in KEYS)


def test_a_config_with_a_secret_is_refused_before_anything_else_is_said(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "correct-horse")
    with pytest.raises(ValueError, match="^seed: the config holds a key or a password") as caught:
        compose_settings(OmegaConf.create({"seed": "${oc.env:SOME_API_KEY}"}))
    assert "correct-horse" not in str(caught.value)


def test_no_name_or_command_holds_a_secret(monkeypatch):
    assert arm_name(f"clip=ppo,x={KEYS[0]}", "study") == "clip=ppo,x="
    assert slug(f"org/{KEYS[0]}") == "org__"
    monkeypatch.setattr(sys, "argv", ["r1reward/train.py", "clip=ppo", f"a={KEYS[0]}", "data.path=my file"])
    assert command_line() == "python -m r1reward.train clip=ppo 'a=***' 'data.path=my file'"


def test_no_file_of_a_run_folder_holds_a_secret(tmp_path):
    folder = RunFolder(tmp_path).open_run({"a": KEYS[0], "judge": {"url": "http://a:pass@b"}}, f"train a={KEYS[0]}")
    folder.write_summary({"run": {"command": f"a={KEYS[0]}"}})
    folder.unlock()
    assert folder.read_config() == {"a": "***", "judge": {"url": "http://a:***@b"}}
    assert folder.read_summary()["run"]["command"] == "a=***"
    assert not any(KEYS[0].encode() in path.read_bytes() for path in tmp_path.iterdir())
    # The same config again is no other config.
    RunFolder(tmp_path).open_run({"a": KEYS[0], "judge": {"url": "http://a:pass@b"}}, "train")


@pytest.mark.parametrize("setting", ["study={}", "arm={}", "study=a/{}", "hydra.run.dir={}", "+new={}"])
def test_a_refused_key_names_no_folder(tmp_path, setting):
    command = [sys.executable, "-m", "r1reward.train", "trainer.max_steps=0", setting.format(KEYS[0])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "the config holds a key" in done.stderr and KEYS[0] not in done.stderr + done.stdout
    assert list(tmp_path.rglob("*")) == []


def test_a_key_of_the_environment_names_no_folder(tmp_path):
    command = [sys.executable, "-m", "r1reward.evaluate", "hydra.run.dir=runs/${oc.env:MY_API_KEY}"]
    environment = os.environ | {"MY_API_KEY": "correct-horse-battery"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "hydra.run.dir: the config holds a key" in done.stderr
    assert list(tmp_path.rglob("*")) == []


def sweep_config(task: list[str], hydra: list[str] = (), **settings):
    return OmegaConf.create({"hydra": {"overrides": {"task": task, "hydra": list(hydra)}}} | settings)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (sweep_config([f"+trainer.extra.x={KEYS[0]}", "seed=0,1"]), "trainer.extra.x"),
        (sweep_config([], ["hydra.job.env_set.MY_API_KEY=short"]), "hydra.job.env_set.MY_API_KEY"),
        (sweep_config([], reward={"judge": {"base_url": "http://a:pass@b"}}), "reward.judge.base_url"),
    ],
)
def test_a_sweep_with_a_secret_ends_before_hydra_writes_it(config, name, capsys):
    with pytest.raises(SystemExit) as caught:
        StudyReport().on_multirun_start(config)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {name}: the config holds a key")


def test_a_sweep_without_secrets_goes_on(monkeypatch):
    StudyReport().on_multirun_start(sweep_config(["clip=ppo,none", "~x"], path="${oc.env:NO_SUCH_API_KEY}"))


@pytest.mark.parametrize("how", [["seed=0"], ["-m", "seed=0,1"]])
def test_the_command_leaves_no_trace_of_a_secret(tmp_path, how):
    command = [sys.executable, "-m", "r1reward.train", *how, "trainer.max_steps=0", f"model.path={KEYS[0]}/{KEYS[0]}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip().startswith("error: model.path: the config holds a key"), done.stderr
    assert KEYS[0] not in done.stderr + done.stdout
    paths = list(tmp_path.rglob("*"))
    assert not any(KEYS[0] in str(path) for path in paths)
    assert not any(KEYS[0].encode() in path.read_bytes() for path in paths if path.is_file())
