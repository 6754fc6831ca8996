"""An installed wheel works in any folder: the configs and the checkpoint travel in it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_brings_configs_and_checkpoint(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert not (site / "conf").exists()
    code = (
        "import r1reward.configs as c, r1reward.models.loading as m\n"
        f"assert str(c.CONFIG_FOLDER).startswith({str(site)!r}), c.CONFIG_FOLDER\n"
        "assert m.resolve('embedded')"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    for command in (["-c", code], ["-m", "r1reward.train", "--cfg", "job", "+experiment=ablate_filter"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
    assert "study: ablate_filter" in done.stdout
