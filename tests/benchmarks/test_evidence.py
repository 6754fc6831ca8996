"""A finished folder answers for its own rows and weights only; what decides no verdict does not cost one."""

import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from r1reward.benchmarks.evidence import evidence, weights
from r1reward.benchmarks.job import evaluate
from r1reward.benchmarks.settings import EvaluateSettings
from r1reward.configs import CONFIG_FOLDER, compose_settings, slug
from r1reward.data.prompts import prompt_parts
from r1reward.models.loading import embedded_checkpoint


def settings(*overrides: str) -> EvaluateSettings:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("evaluate", overrides=["batch_size=4", "max_new_tokens=4", "mistakes=0", *overrides])
    return compose_settings(config, EvaluateSettings)


def write_rows(folder: Path, label: int = 1, question: str = "Which?", colour: str = "red", num: int = 2) -> Path:
    Image.new("RGB", (56, 56), colour).save(folder / "a.png")
    before, between, after = prompt_parts("r1_reward", question)
    text = f"{before}yes{between}no{after}"
    content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": text}]
    row = {"question": question, "message": json.dumps([{"role": "user", "content": content}]), "answer": str(label)}
    (folder / "rows.jsonl").write_text("".join(json.dumps(row | {"id": f"r{n}"}) + "\n" for n in range(num)))
    return folder / "rows.jsonl"


def verdicts_made(folder: Path) -> int:
    return json.loads((folder / "run.json").read_text())["verdicts_made"]


CHANGES = [{"label": 2}, {"question": "What?"}, {"colour": "blue"}, {"num": 3}, {"num": 1}]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_edited_data_is_refused_and_judged_anew_on_request(tmp_path, change):
    data = f"benchmark.path={write_rows(tmp_path)}"
    folder = tmp_path / "evaluation"
    evaluate(settings("benchmark=preferences", data), folder, "")
    write_rows(tmp_path, **change)
    report = (folder / "results.json").read_bytes()
    with pytest.raises(ValueError, match="(?s)other data or weights.*data: .*r[012].*overwrite=true"):
        evaluate(settings("benchmark=preferences", data), folder, "")
    assert (folder / "results.json").read_bytes() == report
    evaluate(settings("benchmark=preferences", data, "overwrite=true"), folder, "")
    assert verdicts_made(folder) == 2 * change.get("num", 2)
    evaluate(settings("benchmark=preferences", data), folder, "")
    assert verdicts_made(folder) == 0


def test_replaced_weights_are_refused_and_a_touched_file_is_not(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(embedded_checkpoint(), model)
    of_model = settings("benchmark.num=2", f"model.path={model}")
    evaluate(of_model, tmp_path / "e", "")
    (model / "model.safetensors").touch()
    evaluate(of_model, tmp_path / "e", "")
    assert verdicts_made(tmp_path / "e") == 0
    name = "model.safetensors"
    data = bytearray((model / name).read_bytes())
    data[-4] ^= 1  # one bit, as another training might
    (model / name).write_bytes(data)
    with pytest.raises(ValueError, match="weights: model.safetensors changed"):
        evaluate(of_model, tmp_path / "e", "")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(ValueError, match="weights: chat_template.jinja, model.safetensors changed"):
        evaluate(of_model, tmp_path / "e", "")


def test_a_folder_that_does_not_say_what_it_judged_is_refused(tmp_path):
    evaluate(settings("benchmark.num=2"), tmp_path, "")
    for damage in ("{", None):
        (tmp_path / "evidence.json").unlink() if damage is None else (tmp_path / "evidence.json").write_text(damage)
        with pytest.raises(ValueError, match="evidence.json is missing or damaged"):
            evaluate(settings("benchmark.num=2"), tmp_path, "")


def test_untouched_files_are_not_read_again(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    of_folder = settings(f"model.path={tmp_path}")
    known = weights(of_folder)
    known["config.json"]["digest"] = "as it was"
    assert weights(of_folder, known)["config.json"]["digest"] == "as it was"
    (tmp_path / "config.json").write_text("{ }")
    assert weights(of_folder, known)["config.json"]["digest"] != "as it was"


def test_of_a_servers_weights_nothing_is_known():
    assert evidence(settings("backend=openai", "model.path=m"), [])["weights"] == {}


def test_patience_and_the_way_of_reading_make_no_new_verdicts(tmp_path):
    evaluate(settings("benchmark.num=2"), tmp_path, "")
    for change in ("buckets=released", "pattern=released", "protocol=released", "pattern=strict", "protocol=both_orders"):
        results = evaluate(settings("benchmark.num=2", change), tmp_path, "")
        assert verdicts_made(tmp_path) == 0, change
    assert results["protocol"] == "both_orders"
    with pytest.raises(ValueError, match="max_new_tokens: 4 there, 5 now"):
        evaluate(settings("benchmark.num=2", "max_new_tokens=5"), tmp_path, "")


def test_another_pattern_reads_the_stored_texts_anew(tmp_path):
    """The format of the first two is wrong for strict; the scripts' float() does not read the second."""
    texts = ["1</think><answer>1</answer>", "<think>x</think><answer>Response 1</answer>", "<think>x</think><answer>2</answer>"]
    evaluate(settings("benchmark.num=2"), tmp_path, "")
    path = tmp_path / "verdicts.jsonl"
    lines = [json.loads(line) | {"text": texts[n % 3], "choice": None} for n, line in enumerate(path.read_text().splitlines())]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for pattern, expected in (("released", [1, 1, 2, 1]), ("scripts", [1, None, 2, 1])):
        evaluate(settings("benchmark.num=2", f"pattern={pattern}"), tmp_path, "")
        assert [json.loads(line)["choice"] for line in path.read_text().splitlines()] == expected
        assert verdicts_made(tmp_path) == 0


def test_another_protocol_beside_takes_the_verdicts_over(tmp_path):
    evaluate(settings("benchmark.num=3"), tmp_path / "both", "")
    results = evaluate(settings("benchmark.num=3", "protocol=released"), tmp_path / "released", "")
    assert verdicts_made(tmp_path / "released") == 0 and results["protocol"] == "released"
    evaluate(settings("benchmark.num=3", "protocol=released", "seed=1"), tmp_path / "seed", "")
    evaluate(settings("benchmark.num=4", "protocol=released"), tmp_path / "rows", "")
    assert [verdicts_made(tmp_path / name) for name in ("seed", "rows")] == [3, 4]


def test_a_protocol_that_asks_for_more_orders_is_judged(tmp_path):
    evaluate(settings("benchmark.num=3", "protocol=released"), tmp_path, "")
    results = evaluate(settings("benchmark.num=3"), tmp_path, "")
    assert verdicts_made(tmp_path) == 6
    undisturbed = evaluate(settings("benchmark.num=3"), tmp_path.with_name("undisturbed"), "")
    assert results == undisturbed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("runs/a/train-s0/model", "runs/b/train-s0/model"),
        ("/x/org/name", "org/name"),
        ("a/b_c", "a_b/c"),
        ("runs/a/train s0/model", "runs/a/train_s0/model"),
    ],
)
def test_two_models_have_two_names(one, other):
    assert slug(one) != slug(other)


def test_a_hub_id_and_the_embedded_model_keep_their_names():
    assert slug("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen_Qwen2.5-VL-7B-Instruct" and slug("embedded_visual") == "embedded_visual"
