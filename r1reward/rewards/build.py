"""From settings to the reward of a run."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from r1reward.data.rows import PREFERENCE, Row
from r1reward.messages import listed
from r1reward.rewards import plugin, registry
from r1reward.rewards.judges.local import LocalModel
from r1reward.rewards.judges.model import ModelJudge
from r1reward.rewards.judges.opinion import ConsistencyJudge, FailureLimit, TextModel
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.judges.server import Server, ServerSettings
from r1reward.rewards.preference import PreferenceReward
from r1reward.rewards.registry import Context
from r1reward.rewards.tasks import CompositeReward, RoutedReward, TaskReward, Term
from r1reward.settings import JudgeSettings, RewardSettings, TaskSettings, TermSettings


def build_reward(settings: RewardSettings, rows: Sequence[Row], context: Context | None = None) -> CompositeReward:
    """The reward of a run over `rows`.

    With preference rows alone it is the preference reward; else a `RoutedReward` over the tasks of the rows.

    Args:
        settings: The config group `reward`.
        rows: The training rows.
        context: How the policy writes boxes; its text model is filled in from `settings.judge`.

    Raises:
        ValueError: For a task without a reward, a solution that its reward cannot read, or wrong settings.
    """
    tasks = {row.task for row in rows}
    unknown = sorted(task for task in tasks if task != PREFERENCE and not _terms(settings, task))
    if unknown:
        known = sorted({PREFERENCE, *(name for name in settings.tasks if _terms(settings, name))})
        raise ValueError(
            f"rows name the task {unknown[0]!r}, which has no reward: reward.tasks has {', '.join(known)}; set "
            f"reward.tasks.{unknown[0]}.terms, or name another task in the rows"
        )
    _check_solutions(settings, rows)
    text_model = build_text_model(settings.judge)
    context = replace(context or Context(), text_model=text_model, max_failure_rate=settings.max_failure_rate)
    rewards = {}
    for task in sorted(tasks):
        base = _preference(settings, text_model) if task == PREFERENCE else None
        terms = [_term(task, name, term, context) for name, term in _terms(settings, task).items()]
        rewards[task] = TaskReward(terms, base, settings.max_failure_rate) if terms else base
    weights = {task: settings.tasks[task].weight for task in rewards if task in settings.tasks}
    if set(rewards) == {PREFERENCE} and weights.get(PREFERENCE, 1.0) == 1.0:
        return rewards[PREFERENCE]
    return RoutedReward(rewards, weights)


def build_text_model(settings: JudgeSettings) -> TextModel | None:
    """The language model that the judge asks; None for judges that ask none."""
    if settings.kind == "openai":
        return Server(
            ServerSettings(
                base_url=settings.base_url,
                model=settings.model,
                api_key_env=settings.api_key_env,
                concurrency=settings.concurrency,
                timeout=settings.timeout,
                batch_timeout=settings.batch_timeout,
                attempts=settings.attempts,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                cache=None if settings.cache is None else Path(settings.cache).expanduser(),
                max_calls=settings.max_calls,
            )
        )
    if settings.kind == "transformers":
        if settings.model is None:
            raise ValueError("reward.judge.model is not set: give the folder or hub id of the judge's model")
        try:
            return LocalModel(settings.model, batch_size=settings.batch_size, max_tokens=settings.max_tokens)
        except OSError as error:  # no such model on the hub, or no network
            first = str(error).splitlines()[0]
            raise ValueError(f"reward.judge.model={settings.model}: the model cannot be loaded: {first}") from error
    return None


def _preference(settings: RewardSettings, text_model: TextModel | None) -> PreferenceReward:
    judge: ConsistencyJudge | None = None
    if settings.judge.kind == "rule":
        judge = RuleJudge()
    elif text_model is not None:
        judge = ModelJudge(text_model, settings.judge.sent)
    return PreferenceReward(
        consistency_weight=settings.consistency_weight,
        format_weight=settings.format_weight,
        semantics=settings.semantics,
        judge=judge,
        failure_limit=FailureLimit(settings.max_failure_rate),
    )


def _terms(settings: RewardSettings, task: str) -> dict[str, TermSettings]:
    return settings.tasks.get(task, TaskSettings()).terms


def _term(task: str, name: str, settings: TermSettings, context: Context) -> Term:
    function = settings.function or name
    with _placed(task, name):
        if "." not in function:
            made = registry.make(function, settings.semantics, settings.options, context)
        elif settings.semantics == "strict":
            made = plugin.load(function, settings.options)
        else:
            raise ValueError("semantics has no effect on a function of one's own")
        return Term(name, made, settings.weight, start=made.start if isinstance(made, registry.Judged) else None)


def _check_solutions(settings: RewardSettings, rows: Sequence[Row]):
    """One ValueError that lists the first ten solutions that the first terms, if they are ours, cannot read."""
    checks: dict[str, Callable[[str], None]] = {}
    for task in {row.task for row in rows} - {PREFERENCE}:
        name, term = next(iter(_terms(settings, task).items()))
        function = term.function or name
        with _placed(task, name):
            if "." not in function:
                checks[task] = registry.solution_check(function, term.semantics, term.options)
    problems = []
    for row in rows:
        if row.task in checks:
            try:
                checks[row.task](row.solution)
            except ValueError as error:
                problems.append(f"row {row.id!r}, task {row.task}: {error}")
    if problems:
        raise ValueError(f"{len(problems)} of {len(rows)} solutions cannot be read:\n  {listed(problems)}")


@contextmanager
def _placed(task: str, name: str):
    """Errors say in which term they are."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"reward.tasks.{task}.terms.{name}: {error}") from None
