from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "compare_runs.ipynb"


def test_the_notebook_is_committed_without_outputs():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_the_notebook_runs_on_a_study(study, monkeypatch):
    monkeypatch.setenv("R1REWARD_RUNS", str(study))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = "".join(output.get("text", "") + str(output.get("data", {}).get("text/markdown", "")) for output in outputs)
    assert "10 finished runs in 4 arms, 1 not finished" in shown and "| full (baseline) | n=3 (0, 1, 2) |" in shown
    assert "wrong verdicts that chose 1 / 2" in shown
    # Two figures, two samples for each of four arms and three mistakes, each sample with its one image.
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2 + 2 * 4 + 3
