import html
import subprocess
import sys

import pytest
from PIL import Image
from rich.cells import cell_len

from r1reward import compare
from r1reward.reporting.style import wrapped
from tests.reporting.synthetic import curve, write_run


def test_report_writes_five_files_and_the_command_names_them(study, tmp_path, capsys):
    assert compare.main([str(study), "--output", str(tmp_path), "--baseline", "no_filter", "--title", "A title"]) == 0
    printed = capsys.readouterr().out
    for name in ("table.md", "table.json", "accuracy.png", "curves.png", "index.html"):
        assert (tmp_path / name).stat().st_size > 0 and str(tmp_path / name) in printed
    assert "no_pre_clip" in printed and "1 run not finished" in printed
    assert "no_filter (baseline)" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "<title>A title</title>" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_report_goes_beside_the_runs_by_default(tmp_path, capsys):
    write_run(tmp_path / "a", arm="full", seed=0)
    assert compare.main([str(tmp_path)]) == 0 and (tmp_path / "comparison" / "index.html").is_file()


@pytest.mark.parametrize("options", [[], ["--baseline", "nobody"]], ids=["no runs", "no such arm"])
def test_what_cannot_be_compared_ends_with_status_2_and_a_reason(options, tmp_path, capsys):
    if options:
        write_run(tmp_path / "a", arm="full", seed=0)
    assert compare.main([str(tmp_path), *options]) == 2
    assert "compare: " in capsys.readouterr().err and not (tmp_path / "comparison").exists()


def test_help_loads_no_heavy_library_and_a_report_no_torch(study, tmp_path):
    code = (
        "import sys\nfrom r1reward import compare\ncompare.parser().format_help()\n"
        "heavy = {'torch', 'matplotlib', 'jinja2', 'numpy'} & set(sys.modules)\nassert not heavy, heavy\n"
        f"compare.report([{str(study)!r}], {str(tmp_path)!r})\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


HOSTILE_NAMES = (
    "algorithm=stable_reinforce,advantage_filter.threshold=2.5,clip.delta_max=3.0,reward.consistency_weight=0.25",
    "anamewithoutanyplaceatwhichitcouldbecut" * 4,
    "price_$5_and_$6",
    "[bold]x[/bold] <b>",
    "剪裁=无" * 9,
    "_underscore",
    "a tab\tand\na line",
)


@pytest.mark.filterwarnings("error::UserWarning", "ignore::DeprecationWarning")  # the latter of old matplotlib
@pytest.mark.parametrize("columns", [80, 200])
def test_any_name_of_an_arm_is_shown_whole(columns, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for number, arm in enumerate(HOSTILE_NAMES):
        for seed in (0, 1):
            write_run(tmp_path / f"{number}-{seed}", arm=arm, seed=seed, metrics=curve(40, seed), out_of_distribution=0.6)
    assert compare.main([str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in lines if str(tmp_path) not in line) <= columns
    printed = "".join("".join(line[:-1].split()) for line in lines)
    names = [arm[:20] for arm in HOSTILE_NAMES]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for name in names:
        assert "".join(name.split()) in printed and html.escape(name) in page
    with Image.open(tmp_path / "out" / "accuracy.png") as picture:
        assert picture.width <= 1500


@pytest.mark.parametrize("width", [5, 12, 40])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_wrapping_loses_nothing_and_keeps_the_width(name, width):
    lines = wrapped(name, width).split("\n")
    assert max(map(cell_len, lines)) <= width and all(lines)
    assert "".join(lines).replace(" ", "") == "".join(name.split())
