"""The README's commands work as typed."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from r1reward import train
from r1reward.benchmarks.settings import EvaluateSettings
from r1reward.configs import CONFIG_FOLDER, compose_settings
from tests.reference_config import composed

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.strip().splitlines() if line and not line.startswith("#")]
TRAIN = [shlex.split(c)[3:] for c in COMMANDS if c.startswith("python -m r1reward.train") and "--help" not in c]
TABLE = [  # what stands between two backticks is typed together
    code
    for row in re.findall(r"^\|.*\|$", README, re.MULTILINE)
    for cell in row.split(" | ")[1:2]
    for code in re.findall(r"`([^`]+)`", cell)
    if all("=" in override for override in code.split())
]


def test_the_readme_has_the_commands_of_the_project():
    assert len(TRAIN) >= 5
    assert len(TABLE) >= 20
    assert ["+experiment=ablate_clip"] in TRAIN


EVALUATE = [shlex.split(c)[3:] for c in COMMANDS if c.startswith("python -m r1reward.evaluate")]


@pytest.mark.parametrize("arguments", EVALUATE, ids=" ".join)
def test_every_evaluation_command_composes(arguments):
    compose_settings(composed(*arguments, name="evaluate"), EvaluateSettings)


@pytest.mark.parametrize("arguments", TRAIN, ids=" ".join)
def test_every_training_command_composes(arguments):
    """Sweeps are composed with the first and with the last value of each setting."""
    overrides = [argument for argument in arguments if argument != "-m"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    for pick in (0, -1):
        chosen = [
            f"{o.key_or_group}={list(o.sweep_string_iterator())[pick]}" if o.is_sweep_override() else o.input_line
            for o in parsed
        ]
        config = composed(*chosen)
        config.arm = "test"
        compose_settings(config)


@pytest.mark.parametrize("code", sorted(set(TABLE)))
def test_every_override_of_the_tables_exists(code):
    config = composed(*code.split())
    for override in code.split():
        key, value = override.split("=")
        if (CONFIG_FOLDER / key).is_dir():
            assert (CONFIG_FOLDER / key / f"{value}.yaml").is_file()
        else:
            assert OmegaConf.select(config, key) == OmegaConf.create(f"value: {value}").value


def test_every_function_of_the_paper_index_exists():
    import importlib

    last_cells = [row.split(" | ")[-1] for row in re.findall(r"^\|.*\|$", README, re.MULTILINE)]
    names = {
        name for cell in last_cells for name in re.findall(r"`((?:algorithm|rewards|trainer)\.[a-zA-Z0-9_.]+)(?=[`(])", cell)
    }
    assert len(names) >= 8
    for name in names:
        parts = name.split(".")
        module = importlib.import_module("r1reward." + ".".join(parts[:2]) if len(parts) > 2 else f"r1reward.{name}")
        for part in parts[2:]:
            module = getattr(module, part)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {c.split()[1] for c in COMMANDS if c.startswith("make ")} | set(re.findall(r"`make ([a-z-]+)`", README))
    assert {"train", "test"} <= named <= targets


def test_linked_files_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_reward_function_of_the_readme_works_as_described(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n# my_rewards.py\n(.*?)```", README, re.DOTALL)
    (tmp_path / "my_rewards.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (arguments,) = [a for a in TRAIN if any("my_rewards" in argument for argument in a)]
    config = composed(*arguments)
    config.arm = "test"
    settings = compose_settings(config).reward

    from r1reward.data.shapes.rows import preference_row
    from r1reward.rewards.build import build_reward

    reward = build_reward(settings, [preference_row(0, "train", 0)])
    texts = ["<think>So response 1 is better.</think><answer>1</answer>", "x" * 201]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {"task": ["preference"] * 2, "label": [1, 1], "prompts": ["", ""]}
    terms = {f.__name__: f(completions=completions, **columns) for f in reward.reward_functions()}
    assert terms["brevity"] == [1.0, 0.0]
    assert reward.total(*(torch.tensor([torch.nan if v is None else v for v in t]) for t in terms.values())).tolist() == [
        pytest.approx(2.1),
        0.0,
    ]


WHEN_WRONG = README.split("### When something goes wrong")[1].split("\n### ")[0]
FAULTS = re.findall(r"^\| (.+) \| (.+) \| `([\w/]+\.py)::(test_\w+)` \|$", README, re.MULTILINE)


def test_every_fault_has_its_test():
    rows = WHEN_WRONG.split("| Fault | What happens | Test |")[1].count("\n| ")
    assert len(FAULTS) == rows >= 30


@pytest.mark.parametrize(("file", "name"), [fault[2:] for fault in FAULTS], ids=[fault[3] for fault in FAULTS])
def test_the_test_of_a_fault_exists_and_runs_in_make_test(file, name):
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    marks = [ast.unparse(decorator) for decorator in found.decorator_list]
    assert not any(mark.startswith(("pytest.mark.slow", "pytest.mark.gpu", "pytest.mark.skip")) for mark in marks)
    assert any(isinstance(node, ast.Assert) or "pytest.raises" in ast.unparse(node) for node in ast.walk(found))


def test_the_exit_codes_are_those_of_the_command():
    codes = {int(code) for line in re.findall(r"^\| ([\d, ]+) \| .+ \|$", WHEN_WRONG, re.MULTILINE) for code in line.split(",")}
    named = {train.WRONG_INPUT, train.UNRELIABLE, train.DIVERGED, train.DISK, train.BAD_IMAGE, train.BLIND, train.STOPPED}
    assert codes == {0, 1, 130, 143} | named
