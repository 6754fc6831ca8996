"""One evaluation at a time in a folder."""

import pytest
from hydra import compose, initialize_config_dir

from r1reward.benchmarks.job import evaluate
from r1reward.benchmarks.settings import EvaluateSettings
from r1reward.configs import CONFIG_FOLDER, compose_settings
from r1reward.tracking.lock import FolderLock


def settings(*overrides: str) -> EvaluateSettings:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("evaluate", overrides=["benchmark.num=2", "batch_size=2", "max_new_tokens=4", *overrides])
    return compose_settings(config, EvaluateSettings)


def test_a_second_evaluation_in_the_folder_is_refused_and_changes_nothing(tmp_path):
    with FolderLock(tmp_path):
        for overrides in ([], ["overwrite=true"]):
            with pytest.raises(ValueError, match="is in use by process .* hydra.run.dir"):
                evaluate(settings(*overrides), tmp_path, "evaluate")
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_folder_is_free_again_after_the_evaluation_and_after_a_refusal(tmp_path):
    assert evaluate(settings(), tmp_path, "evaluate")["overall"]["n"] == 2
    with pytest.raises(ValueError, match="other settings"):
        evaluate(settings("seed=1"), tmp_path, "evaluate")
    with FolderLock(tmp_path):
        pass


def test_further_processes_share_the_first_ones_folder(tmp_path, monkeypatch):
    evaluate(settings(), tmp_path, "evaluate")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with FolderLock(tmp_path):  # held by the first process
        assert evaluate(settings(), tmp_path, "evaluate") == {}
