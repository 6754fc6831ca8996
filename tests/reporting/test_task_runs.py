"""Reports of runs on visual tasks, and on tasks and preference pairs together."""

import io
import json
import re

import pytest
from rich.console import Console

from r1reward.reporting import write_report
from r1reward.reporting.plots import learning_curve, panels
from r1reward.reporting.runs import load_runs
from r1reward.reporting.study import print_run
from r1reward.reporting.summary import summarise
from r1reward.reporting.table import columns, footnotes, print_table, rows, task_rows
from tests.reporting.synthetic import task_evaluation, write_run


def metrics_of(tasks) -> list[dict]:
    """Six steps; of every two rollout batches the first lacks the first task, whose terms the trainer then does not log."""
    found = []
    for step in range(1, 7):
        row = {"step": step, "loss": 0.1, "reward": 0.1 * step}
        for number, task in enumerate(tasks):
            if number or step % 2 == 0:
                row |= {f"rewards/{task}/{task}/mean": 0.1 * step, f"rewards/{task}/format/mean": 0.9}
        found.append(row)
    return found


SAMPLES = [
    {
        "step": 1, "id": f"r{right}", "images": ["images/count-0.png"], "prompt": "Where is the <red> circle?",
        "completion": "<think>There.</think><answer>[1, 2, 3, 4]</answer>", "task": "rec", "verdict": None, "rejection": None,
        "label": None, "solution": "[1, 2, 3, 4]", "right": right, "terms": {"rec/iou": 0.7, "rec/format": 1.0}, "reward": 1.7,
        "advantage": 0.5, "kept": True,
    }
    for right in (True, False)
]  # fmt: skip


@pytest.fixture
def referring(tmp_path):
    """Two arms of referring expressions alone, two seeds each."""
    for arm, gain in (("full", 0.2), ("frozen", 0.1)):
        for seed in (0, 1):
            before = 0.4 + 0.1 * seed
            write_run(
                tmp_path / "runs" / f"{arm}{seed}", arm=arm, seed=seed, metrics=metrics_of(["rec"]), samples=SAMPLES,
                evaluations=(task_evaluation(rec=before), task_evaluation(rec=before + gain)),
            )  # fmt: skip
    return summarise(load_runs(tmp_path / "runs"))


@pytest.fixture
def mixed_folder(tmp_path):
    evaluations = task_evaluation(pairs=0.5, rec=0.4, number=0.6), task_evaluation(pairs=0.7, rec=0.5, number=0.9)
    metrics = metrics_of(["rec", "number"])
    return write_run(tmp_path / "mixed", arm="mixed", seed=0, metrics=metrics, evaluations=evaluations, samples=SAMPLES)


def test_terms_are_averaged_over_seeds(referring):
    full = referring.arms[0].by_task["rec"]
    assert full.before.mean == pytest.approx(0.45) and full.after.mean == pytest.approx(0.65) and full.after.over == "seeds"
    assert list(full.terms) == ["iou", "format"]  # the first one first
    before, after = full.terms["iou"]
    assert before.mean == pytest.approx(0.35) and after.mean == pytest.approx(0.55)
    assert referring.arms[1].difference.mean == pytest.approx(-0.1)


def test_boxes_have_an_accuracy_at_an_iou_and_no_orders(referring):
    assert referring.tasks == ["rec"] and referring.items == [100]
    titles = columns(referring)
    assert "accuracy at IoU 0.5 after, %" in titles
    assert not [title for title in titles if "orders" in title or "flip" in title or "position" in title]
    assert {len(row) for row in rows(referring)} == {len(titles)}
    notes = " ".join(footnotes(referring))
    assert "on 100 held-out rows of the task rec, each answered once" in notes and "guessing" not in notes


def test_the_page_and_the_tables_of_tasks(referring, tmp_path):
    paths = write_report(referring, tmp_path / "out")
    page = paths["page"].read_text(encoding="utf-8")
    assert "how accurately do frozen answer held-out rows, next to full?" in page
    assert re.search(r"<h3>By task</h3>.*<td>rec</td><td>45\.0.*iou 0\.350 → 0\.550, format 0\.900 → 0\.900", page, re.DOTALL)
    assert "by category" not in page  # the rows have none
    assert "solution <b>[1, 2, 3, 4]</b>" in page and "Where is the &lt;red&gt; circle?" in page
    assert 'class="badge right"' in page and 'class="badge wrong"' in page and "no verdict" not in page
    table = paths["table"].read_text(encoding="utf-8")
    assert "| frozen | rec | 45.0" in table and "both orders" not in table
    document = json.loads(paths["json"].read_text(encoding="utf-8"))
    assert document["tasks"] == ["rec"]
    assert document["arms"][0]["by_task"]["rec"]["terms"]["iou"][1]["mean"] == pytest.approx(0.55)


def test_a_mixture_has_both(mixed_folder, tmp_path):
    comparison = summarise(load_runs(mixed_folder))
    titles = columns(comparison)
    assert "accuracy after, %" in titles and "both orders correct, %" in titles
    cells = dict(zip(titles, rows(comparison)[0], strict=True))
    assert cells["accuracy after, %"].text == "70.0†" and cells["both orders correct, %"].text == "40.0†"
    assert "300 held-out rows: pairs, each judged in both orders" in footnotes(comparison)[0]
    assert [(row[1].text, row[3].text) for row in task_rows(comparison)] == [
        ("number", "90.0†"),
        ("preference", "70.0†"),
        ("rec", "50.0†"),
    ]
    stream = io.StringIO()
    print_table(comparison, Console(file=stream, width=120))
    assert "iou 0.300 → 0.400, format 0.900 → 0.900" in stream.getvalue()
    assert write_report(comparison, tmp_path / "out")["accuracy"].stat().st_size > 10_000


def test_pairs_alone_have_no_table_of_tasks(tmp_path):
    comparison = summarise(load_runs(write_run(tmp_path / "run", arm="full", seed=0)))
    assert comparison.tasks == ["preference"] and task_rows(comparison) == []
    assert "By task" not in write_report(comparison, tmp_path / "out")["page"].read_text(encoding="utf-8")
    (tmp_path / "run" / "summary.json").write_text("{}")  # as a run with trainer.evaluate=false leaves it: no rows at all
    assert summarise(load_runs(tmp_path / "run")).tasks == ["preference"]


def test_curves_of_the_terms_of_every_task(mixed_folder):
    (run,) = load_runs(mixed_folder)
    titles = [panel.title for panel in panels(run.metrics)]
    assert titles[:5] == ["Reward", "number: number", "number: format", "rec: rec", "rec: format"]
    assert titles[5:] == [panel.title for panel in panels([])][1:]
    assert learning_curve(mixed_folder).stat().st_size > 10_000


def test_the_end_of_a_run_says_how_each_task_did(mixed_folder, capsys):
    print_run(json.loads((mixed_folder / "summary.json").read_text()), mixed_folder)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "held out: 300 items, 100 of them pairs, judged in both orders, the others answered once" in lines
    assert "accuracy 50.0 % [45.0, 55.0] -> 70.0 % [65.0, 75.0]" in lines
    assert "right in both orders 0.0 % [0.0, 5.0] -> 40.0 % [35.0, 45.0]" in lines
    assert "rec: accuracy 40.0 % [35.0, 45.0] -> 50.0 % [45.0, 55.0]" in lines
    assert "rec: iou 0.300 [0.250, 0.350] -> 0.400 [0.350, 0.450]" in lines
    assert "preference: format 0.900 [0.850, 0.950] -> 0.900 [0.850, 0.950]" in lines


def test_the_end_of_a_run_with_rows_that_could_not_be_scored(tmp_path, capsys):
    after = task_evaluation(number=0.5) | {"unscored": 100, "accuracy": None}
    after["by_task"]["number"] |= {"accuracy": None, "terms": {"number": None, "format": None}}
    folder = write_run(tmp_path / "run", arm="a", seed=0, evaluations=(task_evaluation(number=0.5), after), metrics=[])
    print_run(json.loads((folder / "summary.json").read_text()), folder)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "held out: 100 items, each answered once" in lines and "100 of them in no accuracy: their reward failed" in lines
    assert "accuracy 50.0 % [45.0, 55.0] -> –" in lines and "number: number 0.400 [0.350, 0.450] -> –" in lines
    assert "number: accuracy" not in " ".join(lines)  # of one task it is the accuracy
    assert write_report(summarise(load_runs(folder)), tmp_path / "out")["page"].is_file()
