"""Templates: what is put around a question, and what each shipped one asks for can be read by the reward of its task."""

import json
import re

import pytest
from hydra import compose, initialize_config_dir

from r1reward.benchmarks.detection import asked_labels
from r1reward.benchmarks.settings import EvaluateSettings
from r1reward.configs import CONFIG_FOLDER, compose_settings
from r1reward.data.build import build_splits
from r1reward.data.rows import PreferenceRow, TaskRow
from r1reward.data.templates import apply_templates, check_templates, fill_in
from r1reward.rewards.boxes import read_box, read_detections
from r1reward.settings import DataSettings, TrainSettings
from tests.reference_config import composed

SHIPPED = sorted(path.stem for path in (CONFIG_FOLDER / "template").glob("*.yaml"))


def templates_of(name: str) -> dict[str, str]:
    config = composed(f"template={name}")
    config.arm = "test"
    return compose_settings(config, TrainSettings).template


def test_questions_stand_in_the_template_of_their_task():
    pair = PreferenceRow("p", (), "Which?", ("a", "b"), 1, ("", "", ""))
    rows = [TaskRow("a", (), "Where?", "None", "rec"), TaskRow("b", (), "Sure?", "yes", "yes_no"), pair]
    changed = apply_templates(rows, {"rec": "Find: {question} Go."})
    assert [row.text() for row in changed] == ["Find: Where? Go.", "Sure?", "ab"]
    assert changed[1:] == rows[1:] and changed[0].solution == "None"


def test_braces_of_json_latex_and_questions_survive():
    template = 'Write {"a": {"b": [1, 2]}} or \\frac{a}{b} or \\boxed{answer} or {} for {question}'
    check_templates({"rec": template})
    asked = 'What is {question} in {x} and "{0}"?'
    assert fill_in(template, asked) == template.replace("{question}", "") + asked


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Think.", "template.rec: does not say where the question goes; write {question} there"),
        ("Think: {Question}", "template.rec: {Question} is not filled in; {question} alone is"),
        ("{question} {label}", "template.rec: {label} is not filled in"),
        ("({question}) ({image})", "{image} is not filled in"),
        ("{{question}}", "{{question}} is not filled in"),
        ("{ question }", "{ question } is not filled in"),
        ("{question} {row.id}", "{row.id} is not filled in"),
        ("<image>{question}", "template.rec: holds <image>"),
        ("{question}<video>", "template.rec: holds <video>"),
        ("<|image_pad|>{question}", "field template.rec: holds <|image_pad|>"),
        ("{question}<|im_end|>", "field template.rec: holds <|im_end|>, a control token"),
        ("<start_of_turn>user {question}", "field template.rec: holds <start_of_turn>"),
        ("[INST] {question} [/INST]", "field template.rec: holds [INST]"),
        ("", "field template.rec: must be a text"),
        (3, "field template.rec: must be a text, got 3"),
    ],
)
def test_a_wrong_template_names_its_task_and_a_remedy(template, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_templates({"rec": template})


def test_preference_rows_have_no_template():
    with pytest.raises(ValueError, match="template.preference: preference rows bring the judge prompt"):
        check_templates({"preference": "{question}"})


def test_templates_reach_every_split_or_are_refused(tmp_path):
    lines = [
        {"task": task, "conversations": [{"value": f"Is it {n}?"}, {"value": "yes"}]}
        for n in range(9)
        for task in ("yes_no", "exact")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = DataSettings("vlm_r1_jsonl", path=str(tmp_path / "rows.jsonl"), held_out_fraction=0.4)
    splits = build_splits(settings, {"yes_no": "Q: {question}", "rec": "{question}!"})
    plain = build_splits(settings)
    for rows, bare in ((splits.train, plain.train), (splits.evaluation["held_out"], plain.evaluation["held_out"])):
        assert [row.id for row in rows] == [row.id for row in bare] and {row.task for row in rows} == {"yes_no", "exact"}
        for row, unchanged in zip(rows, bare, strict=True):
            assert row.prompt == ("Q: " if row.task == "yes_no" else "") + unchanged.prompt
    with pytest.raises(ValueError, match="template has no effect on rows of the tasks exact, yes_no; set template=none"):
        build_splits(settings, {"rec": "{question}"})
    with pytest.raises(ValueError, match="template has no effect on rows of the tasks preference"):
        build_splits(DataSettings("shapes", num_train=1, num_eval=1), {"rec": "{question}"})
    with pytest.raises(ValueError, match="does not say where the question goes"):
        build_splits(settings, {"rec": "Where?"})


@pytest.mark.parametrize("name", SHIPPED)
def test_every_template_composes_for_training_and_evaluation(name):
    templates = templates_of(name)
    check_templates(templates)
    assert compose_settings(composed(f"template={name}", name="evaluate"), EvaluateSettings).template == templates
    assert templates.keys() == (set() if name == "none" else set(composed().reward.tasks))
    for task, template in templates.items():
        prompt = fill_in(template, "Detect every instance of: cat, traffic light.")
        assert asked_labels(prompt) == ("cat", "traffic light"), task
        assert ("<think>" in template) == (name == "vlm_r1") and "<answer>" in template


@pytest.mark.parametrize("name", ["vlm_r1", "answer_only"])
def test_the_form_that_a_template_shows_is_one_that_the_reward_reads(name):
    """The example in the prompt, with numbers for its letters, is a proper answer."""
    templates = templates_of(name)
    for task in ("rec", "ovd"):
        (example, *_) = re.findall(r"<answer>(\s*[`{\[].*?)</answer>", templates[task], re.DOTALL)
        for corner, number in {"x1": "1", "y1": "2", "x2": "3", "y2": "4"}.items():
            example = example.replace(corner, number)
        reading = (read_box if task == "rec" else read_detections)(example)
        assert reading.rejection is None and reading.boxes[0].box == (1, 2, 3, 4)


def test_a_template_of_ones_own_on_the_command_line():
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("train", overrides=['+template.rec="{question} Answer {\\"bbox_2d\\": [x1, y1, x2, y2]}."', "arm=a"])
    assert compose_settings(config, TrainSettings).template == {"rec": '{question} Answer {"bbox_2d": [x1, y1, x2, y2]}.'}
