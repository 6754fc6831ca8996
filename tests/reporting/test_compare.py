import subprocess
import sys

import pytest

from r1reward import compare
from tests.reporting.synthetic import write_run


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
