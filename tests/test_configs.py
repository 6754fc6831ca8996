"""Every YAML under conf/ composes, resolves and becomes settings that the trainer accepts."""

import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from r1reward.benchmarks.settings import EvaluateSettings
from r1reward.configs import CONFIG_FOLDER, arm_name, compose_settings, typed
from r1reward.parsing import parse_settings
from r1reward.settings import LoggerSettings, TrainSettings
from r1reward.tracking.config_changes import WITHOUT_EFFECT
from r1reward.trainer.arguments import trainer_arguments
from tests.reference_config import REFERENCE, composed, reference_text

GROUPS = (
    "model",
    "adapter",
    "data",
    "template",
    "algorithm",
    "clip",
    "advantage_filter",
    "reward",
    "reward/judge",
    "reward/tasks",
    "trainer",
    "logger",
)
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONFIG_FOLDER / group).glob("*.yaml"))]
EXPERIMENTS = sorted(path.stem for path in (CONFIG_FOLDER / "experiment").glob("*.yaml"))
STUDIES = [name for name in EXPERIMENTS if name.startswith("ablate_")]  # they bring a sweep; the others are one run
EVALUATION_OPTIONS = [
    (group, path.stem) for group in ("benchmark", "backend") for path in sorted((CONFIG_FOLDER / group).glob("*.yaml"))
]
COMPONENTS = sorted(path.stem for path in (CONFIG_FOLDER / "component").glob("*.yaml"))


def settings_of(*overrides: str) -> TrainSettings:
    config = composed(*overrides)
    config.arm = "test"  # names the job by Hydra's runtime, which `compose` has not
    return compose_settings(config)


def test_every_yaml_is_covered():
    known = {CONFIG_FOLDER / group / f"{name}.yaml" for group, name in OPTIONS}
    known |= {CONFIG_FOLDER / "experiment" / f"{name}.yaml" for name in EXPERIMENTS}
    known |= {CONFIG_FOLDER / "component" / f"{name}.yaml" for name in COMPONENTS}
    known |= {CONFIG_FOLDER / group / f"{name}.yaml" for group, name in EVALUATION_OPTIONS}
    known |= {
        CONFIG_FOLDER / f"{name}.yaml" for name in ("train", "evaluate", "cold_start", "cold_start_visual", "train.reference")
    }
    assert set(CONFIG_FOLDER.rglob("*.yaml")) == known


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_becomes_settings(group, name, tmp_path):
    extra = ["reward.consistency_weight=0"] if (group, name) == ("reward/judge", "none") else []
    if group == "clip" and name in ("cispo", "gspo"):  # made for the algorithm of that name alone
        extra = [f"algorithm={name}"]
    settings = settings_of(f"{group}={name}", *extra)
    if not (settings.trainer.bf16 or settings.trainer.use_vllm):  # those need a GPU to be built
        arguments = trainer_arguments(settings, tmp_path)
        assert arguments.generation_batch_size == settings.trainer.rollout_batch_size


@pytest.mark.parametrize(("group", "name"), [*EVALUATION_OPTIONS, *(o for o in OPTIONS if o[0] in ("model", "template"))])
def test_every_option_of_an_evaluation_becomes_settings(group, name):
    settings = compose_settings(composed(f"{group}={name}", name="evaluate"), EvaluateSettings)
    assert settings.sampling().temperature == 0.0
    assert (
        compose_settings(composed(f"{group}={name}", "votes=15", name="evaluate"), EvaluateSettings).sampling().temperature == 1
    )


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_becomes_settings(name, tmp_path):
    trainer_arguments(settings_of("+experiment=ablate_components", f"component={name}"), tmp_path)


@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - set(STUDIES)))
def test_a_recipe_is_one_run_under_its_own_name(name):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("train", overrides=[f"+experiment={name}"], return_hydra_config=True)
    assert config.study == name and config.hydra.mode is None and not config.hydra.sweeper.params
    settings_of(f"+experiment={name}")


@pytest.mark.parametrize("name", STUDIES)
def test_every_job_of_an_experiment_becomes_settings(name, tmp_path):
    """Each value that the experiment sweeps over is composed; settings it does not name stay the defaults."""
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("train", overrides=[f"+experiment={name}"], return_hydra_config=True)
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.study == name
    params = OmegaConf.to_container(config.hydra.sweeper.params)
    assert len(str(params.pop("seed")).split(",")) >= 3
    jobs = 0
    for key, values in params.items():
        override = OverridesParser.create().parse_override(f"{key}={values}")
        for value in override.sweep_string_iterator() if override.is_sweep_override() else [values]:
            trainer_arguments(settings_of(f"+experiment={name}", f"{key}={value}"), tmp_path / str(jobs))
            jobs += 1
    assert jobs >= 3


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["clip=pre_clip", "clip.delta_min=1e-2", "clip.delta_max=50", "clip.epsilon_low=0.1"],
         {"pre_clip": True, "delta_min": 1e-2, "delta_max": 50.0, "epsilon": 0.1, "epsilon_high": None}),
        (["clip=ppo"], {"pre_clip": False, "epsilon": 0.2}),
        (["clip=none"], {"pre_clip": False, "epsilon": float("inf")}),
        (["clip=clip_higher"], {"pre_clip": False, "epsilon": 0.2, "epsilon_high": 0.28}),
        (["advantage_filter=released", "advantage_filter.threshold=2.5"],
         {"advantage_filter": "released", "filter_threshold": 2.5}),
        (["advantage_filter=none"], {"advantage_filter": "none"}),
        (["algorithm.kl.coefficient=0.1"], {"kl_in_reward": 0.1, "beta": 0.0}),
        (["algorithm.kl.coefficient=0.1", "algorithm.kl.placement=loss"], {"kl_in_reward": 0.0, "beta": 0.1}),
        (["algorithm.statistics_over=tokens"], {"statistics_over": "tokens"}),
        (["trainer=released", "reward=released", "advantage_filter=released", "algorithm.statistics_over=tokens",
          "algorithm.kl.coefficient=1e-3", "trainer.use_vllm=false"],
         {"advantage_estimator": "batch", "advantage_filter": "released", "statistics_over": "tokens", "kl_in_reward": 1e-3,
          "beta": 0.0, "learning_rate": 3e-7}),
        (["algorithm=dr_grpo"], {"scale_advantages": False, "loss_type": "dr_grpo", "advantage_estimator": "group"}),
        (["trainer.train_batch_size=32", "trainer.micro_batch_size=16"],
         {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2, "steps_per_generation": 8}),
        (["seed=5"], {"seed": 5, "data_seed": 5}),
        (["+trainer.extra.top_entropy_quantile=0.5"], {"top_entropy_quantile": 0.5}),
    ],
)  # fmt: skip
def test_settings_reach_the_trainer(overrides, expected, tmp_path):
    arguments = trainer_arguments(settings_of(*overrides), tmp_path)
    assert {name: getattr(arguments, name) for name in expected} == expected


def test_components_change_what_they_name():
    """A component wins over the experiment that brings it; each differs from `full` in its part alone."""
    arms = {name: settings_of("+experiment=ablate_components", f"component={name}") for name in COMPONENTS}
    changed = {
        name: {f.name for f in fields(TrainSettings) if getattr(arm, f.name) != getattr(arms["full"], f.name)}
        for name, arm in arms.items()
    }
    assert changed == {
        "full": set(),
        "no_filter": {"advantage_filter"},
        "no_pre_clip": {"clip"},
        "no_consistency": {"reward"},
        "cold_start_only": {"trainer"},
        "reinforce_plus_plus": {"algorithm", "clip", "advantage_filter", "reward"},
    }
    assert arms["cold_start_only"].trainer.max_steps == 0
    assert arms["full"].trainer.max_steps == 48


def test_the_papers_epochs():
    """17,261 rows, one rollout each: max_steps x train batch covers 5 epochs (paper) and 1 (released code)."""
    for name, epochs in (("paper", 5), ("released", 1)):
        trainer = settings_of(f"trainer={name}").trainer
        assert abs(trainer.max_steps * trainer.train_batch_size / 17_261 - epochs) < 0.02


def test_the_arms_of_ablate_clip_differ_in_the_clip_alone():
    arms = [settings_of("+experiment=ablate_clip", f"clip={name}") for name in ("pre_clip", "ppo", "none")]
    for field in fields(TrainSettings):
        different = len({repr(getattr(arm, field.name)) for arm in arms}) > 1
        assert different == (field.name == "clip"), field.name


@pytest.mark.parametrize("name", ["stable_reinforce", "reinforce_plus_plus", "grpo"])
def test_a_baseline_sets_clip_and_filter_but_the_command_line_wins(name):
    stable = name == "stable_reinforce"
    settings = settings_of(f"algorithm={name}")
    assert settings.clip.pre_clip is stable
    assert settings.advantage_filter.kind == ("paper" if stable else "none")
    settings = settings_of(f"algorithm={name}", "clip=none", "advantage_filter=released")
    assert settings.clip.epsilon_low is None
    assert settings.advantage_filter.kind == "released"


def test_reference_config_is_current():
    assert REFERENCE.read_text(encoding="utf-8") == reference_text(), "run `make configs`"


@pytest.mark.parametrize(("module", "count"), [("settings.py", 10), ("benchmarks/settings.py", 3), ("models/loading.py", 1)])
def test_every_setting_is_documented(module, count):
    source = Path(CONFIG_FOLDER.parent / "r1reward" / module).read_text(encoding="utf-8")
    classes = re.findall(r"class (\w+Settings):\n    \"\"\"(.*?)\"\"\"\n(.*?)(?=\n\n\n|\Z)", source, re.DOTALL)
    assert len(classes) >= count
    for name, docstring, body in classes:
        nested = {
            "benchmark",
            "backend",
            "model",
            "data",
            "algorithm",
            "clip",
            "advantage_filter",
            "reward",
            "trainer",
            "logger",
        }
        for setting in re.findall(r"^    (\w+):", body, re.MULTILINE):
            assert f"{setting}:" in docstring or f"{setting}," in docstring or setting in nested, f"{name}.{setting}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": {"pre_clip": True, "epsilonn": 1}}, r"clip.epsilonn: unknown setting; clip has pre_clip, delta_min"),
        ({"clip": {}}, "clip.pre_clip: missing"),
        ({"clip": {"pre_clip": "yes"}}, "clip.pre_clip=yes: expected true or false, got str"),
        ({"advantage_filter": {"kind": "sigma"}}, "advantage_filter.kind=sigma: choose one of paper, released, none"),
        ({"data": {"reader": "shapes", "levels": 3}}, "data.levels=3: expected a list"),
        ({"data": {"reader": "shapes", "num_eval": True}}, "data.num_eval=True: expected a whole number"),
        ({"trainer": 3}, "trainer: expected settings, got 3"),
    ],
)
def test_wrong_settings_name_themselves(change, message):
    config = composed()
    config.arm = "test"
    values = OmegaConf.to_container(config, resolve=True) | change
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_settings(TrainSettings, values)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.micro_batch_size=48"], "micro_batch_size x processes must divide train_batch_size"),
        (["algorithm=grpo", "algorithm.num_generations=7"], "must be a multiple of algorithm.num_generations=7"),
        (["clip=none", "clip.epsilon_high=0.3"], "clip.epsilon_high has no effect without clip.epsilon_low"),
        (["+trainer.extra.beta=0.1"], "trainer.extra.beta: set algorithm.kl.coefficient instead"),
        (["+trainer.extra.learning_rate=0.1"], "trainer.extra.learning_rate: set trainer.learning_rate instead"),
        (["+trainer.extra.num_train_epochs=3"], "trainer.extra.num_train_epochs has no effect: trainer.max_steps decides"),
        (["+trainer.extra.pre_clip=true"], "trainer.extra.pre_clip: set clip.pre_clip instead"),
        (["trainer.samples_every=0"], "trainer.samples_every must be at least 1"),
        (["trainer.max_steps=-5"], "must not be negative"),
        (["algorithm=cispo", "clip=ppo"], "epsilon_high caps the ratio itself"),
        (["advantage_filter.threshold=nan"], "must be a positive number"),
        (["+trainer.extra.save_only_model=true"], "save_only_model has no effect: checkpoints restore everything"),
        (["+trainer.extra.ignore_data_skip=true"], "ignore_data_skip has no effect: checkpoints restore everything"),
        (["+trainer.extra.enable_jit_checkpoint=true"], "enable_jit_checkpoint has no effect: checkpoints restore"),
        (["+trainer.extra.eval_strategy=steps"], "eval_strategy has no effect: trainer.eval_steps"),
        (["+trainer.extra.logging_steps=5"], "logging_steps has no effect: every step is recorded"),
        (["+trainer.extra.push_to_hub=true"], "push_to_hub has no effect"),
        (["+trainer.extra.bogus=1"], "trainer.extra.bogus: GRPOConfig of TRL has no such argument"),
    ],
)
def test_contradictory_settings_are_refused(overrides, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        trainer_arguments(settings_of(*overrides), tmp_path)


def test_what_may_change_on_resume_names_no_arm():
    """The run folder follows from the arm: these settings must find the run that they are to go on with."""
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    excluded = set(config.hydra.job.config.override_dirname.exclude_keys)
    without_effect = {name for name in WITHOUT_EFFECT if name != "logger"}
    assert without_effect <= excluded
    assert {f"logger.{field.name}" for field in fields(LoggerSettings)} | {"logger"} <= excluded


def test_data_tell_arms_apart_by_the_name_of_their_file():
    names = [arm_name(f"data=vlm_r1_jsonl,data.path=../shared/{name}.jsonl,seed_free=1", "train") for name in ("rec", "ovd")]
    assert names == [f"data=vlm_r1_jsonl,data.path={name}.jsonl,seed_free=1" for name in ("rec", "ovd")]
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    assert "data.path" not in config.hydra.job.config.override_dirname.exclude_keys


@pytest.mark.parametrize(
    "value",
    [
        "plain-1.5/x",
        "clip=ppo,seed_free=0",
        "it's",
        "a b",
        "$HOME",
        'say "x"',
        "back\\slash",
        "end\\",
        "ü",
        "!x",
        "a'\\",
        "`id`",
    ],
)
def test_what_is_printed_can_be_typed(value):
    """A POSIX shell hands Hydra the very value."""
    command = f"printf '%s' {typed('arm', value)}"
    given = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    (override,) = OverridesParser.create().parse_overrides([given])
    assert (override.key_or_group, override.value()) == ("arm", value)
