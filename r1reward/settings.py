"""The settings of a training job: what a resolved config becomes (`r1reward.parsing`).

Nothing below this module sees an OmegaConf object. Each dataclass mirrors one group under `conf/`; its docstring is the
reference of the group's settings.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from r1reward.models.adapters import AdapterSettings
from r1reward.models.loading import ModelSettings


@dataclass(frozen=True)
class DataSettings:
    """Which rows are trained and evaluated on. `reader` decides which of the other fields are used; setting others is an error.

    Attributes:
        reader: `shapes` (generated), `r1_reward_jsonl` (preferences, as the R1-Reward authors released them), `vlm_r1_jsonl`
            (questions with known answers, as VLM-R1 reads them) or `mixed` (several of these in one run).
        sources: By name, the settings of what is mixed (mixed); a name stands before the ids of its rows. Each source reads,
            generates and holds out by its own settings, and the splits are joined; the last four settings below are those of
            the mix, which hold for the images of all sources.
        prompt: Name of the judge prompt (`r1reward.data.prompts`); jsonl rows carry their own.
        num_train: Training rows to generate (shapes).
        num_eval: Rows per evaluation split: generated (shapes) or at most taken, evenly spaced (jsonl). Each
            preference row is judged in both orders.
        seed: Seed of the generated world, or of the split into training and held-out rows. Independent of the run's seed, so
            that all seeds of a study are evaluated on the same rows.
        levels: Difficulty levels of the shapes world, of 1, 2, 3.
        tasks: Tasks of the shapes world, in turn: `preference`, `rec`, `ovd`, `multiple_choice`, `yes_no`, `number` (shapes).
        path: File of the rows, or a folder or hub id (jsonl; `r1reward.data.records`).
        image_root: Folder that relative image paths start from, and that no image path may leave; null: the folder of `path`.
        held_out_fraction: Part of the images held out for evaluation, at least 0 and below 1 (jsonl).
        limit: Read only that many rows; null: all (jsonl).
        task: Task of the rows that name none, one of `reward.tasks`; null: by the form of the answer, boxes with labels are
            `ovd`, one box `rec`, anything else `answer` (vlm_r1_jsonl).
        num_frames: Frames shown of a video, which is a folder of them (vlm_r1_jsonl).
        box_space: The space of the true boxes: `unit` (0 to 1), `thousand` (0 to 1000), `thousand_y_first`, or `pixels`, taken
            as they are; null: pixels, and boxes that do not look like pixels are an error (vlm_r1_jsonl).
        max_image_pixels: Images of more pixels are refused before they are decoded (jsonl, mixed).
        max_image_bytes: Image files of more bytes are refused (jsonl, mixed).
        on_bad_image: What happens where an image that was readable at the start is not any more: `stop` the run, or `skip` the
            prompt, whose rollouts then take no part in the update (jsonl, mixed).
        max_bad_images: Prompts that `skip` may skip in the whole run before it stops all the same (jsonl, mixed).
    """

    reader: Literal["shapes", "r1_reward_jsonl", "vlm_r1_jsonl", "mixed"]
    sources: dict[str, "DataSettings"] = field(default_factory=dict)
    prompt: str = "short"
    num_train: int = 4096
    num_eval: int = 600
    seed: int = 0
    levels: list[int] = field(default_factory=lambda: [1, 2, 3])
    tasks: list[str] = field(default_factory=lambda: ["preference"])
    path: str | None = None
    image_root: str | None = None
    held_out_fraction: float = 0.1
    limit: int | None = None
    task: str | None = None
    num_frames: int = 8
    box_space: Literal["pixels", "thousand", "thousand_y_first", "unit"] | None = None
    max_image_pixels: int = 100_000_000
    max_image_bytes: int = 50_000_000
    on_bad_image: Literal["stop", "skip"] = "stop"
    max_bad_images: int = 10


@dataclass(frozen=True)
class KlSettings:
    """Penalty for leaving the reference model.

    Attributes:
        coefficient: Its weight; 0 switches it off and no reference model is loaded.
        placement: `reward` (k1 per token inside the reward, as Reinforce++) or `loss` (k3 in the loss, as GRPO).
        sync_steps: The reference model moves towards the policy every that many optimiser steps; null: it stays.
        sync_mixup: Weight of the policy in that move, above 0 and at most 1.
    """

    coefficient: float = 0.0
    placement: Literal["reward", "loss"] = "loss"
    sync_steps: int | None = None
    sync_mixup: float = 0.6


@dataclass(frozen=True)
class AlgorithmSettings:
    """How rewards become advantages and a loss; the fields are those of `StableReinforceConfig`.

    Attributes:
        name: Name of the algorithm, for records.
        estimator: `batch`, `group`, `leave_one_out` or `reinforce_plus_plus_baseline`.
        num_generations: Rollouts per prompt; 1 is allowed with the estimator `batch`.
        scale_advantages: Whether `group` divides by the group's deviation.
        statistics_over: What `batch` and `reinforce_plus_plus_baseline` standardise over: `rows`, which all count the same (the
            paper), or `tokens`, so that a row counts as often as its completion has tokens (the released code).
        loss_type: How token losses are averaged: `grpo` (per-sequence mean, then batch mean), `dr_grpo`, `dapo`, ...
        importance_sampling_level: `token`, or `sequence` (GSPO).
        mask_truncated_completions: Whether completions cut at the length limit are left out of the loss.
        kl: The KL penalty.
    """

    name: str
    estimator: str = "batch"
    num_generations: int = 1
    scale_advantages: bool = True
    statistics_over: Literal["rows", "tokens"] = "rows"
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "grpo"
    importance_sampling_level: Literal["token", "sequence"] = "token"
    mask_truncated_completions: bool = False
    kl: KlSettings = field(default_factory=KlSettings)


@dataclass(frozen=True)
class ClipSettings:
    """How the ratio of policy to old policy is bounded.

    Attributes:
        pre_clip: Whether the log-ratio is clamped to [ln delta_min, ln delta_max] before it is exponentiated.
        delta_min: Lower bound of the ratio for Pre-CLIP.
        delta_max: Upper bound of the ratio for Pre-CLIP.
        epsilon_low: PPO clip: the ratio is clipped at 1 - epsilon_low; null: no PPO clip (then epsilon_high is null too).
        epsilon_high: PPO clip: the ratio is clipped at 1 + epsilon_high; null: the same as epsilon_low. For `cispo` it is the
            cap of the ratio itself.
        loss_type: The `algorithm.loss_type` that these bounds are for, where another would make something else of them; null:
            any.
        importance_sampling_level: The same of `algorithm.importance_sampling_level`.
    """

    pre_clip: bool
    delta_min: float = 1e-3
    delta_max: float = 1e3
    epsilon_low: float | None = 0.2
    epsilon_high: float | None = None
    loss_type: str | None = None
    importance_sampling_level: str | None = None


@dataclass(frozen=True)
class AdvantageFilterSettings:
    """Which advantages are zeroed.

    Attributes:
        kind: `paper` (|z| > threshold, z over what `algorithm.statistics_over` says), `released` (the released code's bounds,
            always over tokens) or `none`.
        threshold: In standard deviations.
    """

    kind: Literal["paper", "released", "none"]
    threshold: float = 3.0


@dataclass(frozen=True)
class JudgeSettings:
    """The consistency judge, which says whether a reasoning supports its verdict.

    Attributes:
        kind: `rule` (embedded, no model), `openai` (a language model behind any OpenAI-compatible server), `transformers`
            (one in this process) or `none`. What follows is for the two that ask a model.
        sent: What the model is shown: `paper` (the reasoning, and the choice) or `released` (its last three lines instead).
        model: Name at the server (null: the first that it lists), or folder or hub id (transformers).
        max_tokens: Longest reply in tokens.
        base_url: Address of the server, such as http://localhost:8000/v1; null: OpenAI's (openai).
        api_key_env: Environment variable that holds the key; a server of one's own needs none (openai).
        temperature: Of the replies (openai).
        concurrency: Calls under way at a time (openai).
        timeout: Seconds that one call may take (openai).
        batch_timeout: Seconds that all calls of a rollout batch may take together (openai).
        attempts: Calls for one text before it counts as a failure (openai).
        max_calls: Calls in the whole run of one process; null: no limit (openai).
        cache: File that keeps the replies, shared by runs; null: none (openai).
        batch_size: Texts per generated batch (transformers).
    """

    kind: Literal["rule", "openai", "transformers", "none"]
    sent: Literal["paper", "released"] = "paper"
    model: str | None = None
    max_tokens: int = 64
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    concurrency: int = 64
    timeout: float = 30.0
    batch_timeout: float = 300.0
    attempts: int = 3
    max_calls: int | None = None
    cache: str | None = None
    batch_size: int = 32


@dataclass(frozen=True)
class TermSettings:
    """One term of a task's reward.

    Attributes:
        function: Name of a reward function of ours (`r1reward.rewards.registry`) or the dotted path of one's own; null: the
            term's name.
        weight: Its factor in the sum.
        semantics: `strict`, or `released` (as the published code computes it), for functions of ours.
        options: Further keyword arguments of the function.
    """

    function: str | None = None
    weight: float = 1.0
    semantics: Literal["strict", "released"] = "strict"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskSettings:
    """The reward of the rows that name a task: the weighted sum of its terms.

    Attributes:
        terms: By name; the first says whether the answer is right. Of the task `preference`: added to the preference reward.
        weight: Factor of the sum, against other tasks in the same run.
    """

    terms: dict[str, TermSettings] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True)
class RewardSettings:
    """The reward: of preference pairs `result * (1 + consistency_weight * consistency) + format_weight * format`, of other
    tasks as `tasks` says.

    Attributes:
        semantics: `paper` (consistency 0 or 1, strict verdicts) or `released` (consistency -1, 0 or 1, released pattern).
        consistency_weight: Weight of the consistency term, 0 or more.
        format_weight: Weight of the format term, 0 or more.
        judge: The consistency judge.
        max_failure_rate: Largest share of failures of a judge, or of a reward function, before the run stops.
        tasks: The rewards by task.
    """

    semantics: Literal["paper", "released"]
    judge: JudgeSettings
    consistency_weight: float = 0.5
    format_weight: float = 0.5
    max_failure_rate: float = 0.2
    tasks: dict[str, TaskSettings] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainerSettings:
    """Sizes and schedule of a run. Batch sizes count completions over all processes.

    Attributes:
        max_steps: Optimiser steps; 0 evaluates the model as it is.
        rollout_batch_size: Completions sampled at a time.
        train_batch_size: Completions per optimiser step; rollout_batch_size / train_batch_size updates per pass.
        micro_batch_size: Completions per forward pass on one process.
        num_iterations: Passes over each rollout batch.
        learning_rate: Peak learning rate.
        lr_scheduler_type: Schedule by its transformers name.
        warmup_steps: Optimiser steps until the peak.
        weight_decay: Decoupled weight decay.
        adam_beta1: Adam's decay of the mean.
        adam_beta2: Adam's decay of the squares.
        max_grad_norm: Gradients are scaled down to this norm; 0: never.
        max_skipped_steps: So many optimiser steps in a row without a finite loss and gradient, each skipped, are too many.
        on_collapse: What happens then: `stop` the run with a diagnosis, or `record` the collapse as the run's result.
        max_completion_length: Longest completion in tokens.
        temperature: Of sampling.
        top_p: Nucleus of sampling; 1: all.
        top_k: Sample among that many tokens; 0: all.
        bf16: Whether forward passes run in bfloat16 autocast.
        gradient_checkpointing: Trade time for memory.
        share_prefix: Whether each prompt, with its images, is encoded once per group; a family that cannot warns.
        skip_zero_advantage: Whether rows whose advantages are all zero get no forward and backward pass; same gradients.
        use_vllm: Whether vLLM samples the rollouts.
        save_steps: Checkpoint every that many optimiser steps and after the last; 0: only when a signal stops the run.
        keep_last: So many of the latest checkpoints stay.
        keep_best: So many of the checkpoints with the highest held-out accuracy stay besides; needs eval_steps.
        resume: What the command does where the run folder holds a run: `auto` goes on with an unfinished one, shows a finished
            one, and refuses where settings or data changed; `force` goes on all the same; `restart` moves it aside.
        save_model: Whether the final model is written to the run folder.
        samples_every: Rollout batches between two that are written to samples.jsonl.
        samples_per_batch: Rows written of each such batch.
        evaluate: Whether accuracy is measured before and after.
        eval_steps: Measure it every that many optimiser steps too; 0: never.
        eval_batch_size: Rows per generated batch in evaluation.
        extra: Any further argument of TRL's GRPOConfig, by its name there.
    """

    max_steps: int
    rollout_batch_size: int
    train_batch_size: int
    micro_batch_size: int
    num_iterations: int = 1
    learning_rate: float = 1e-6
    lr_scheduler_type: str = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    max_grad_norm: float = 1.0
    max_skipped_steps: int = 3
    on_collapse: Literal["stop", "record"] = "stop"
    max_completion_length: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    bf16: bool = False
    gradient_checkpointing: bool = False
    share_prefix: bool = True
    skip_zero_advantage: bool = False
    use_vllm: bool = False
    save_steps: int = 0
    keep_last: int = 2
    keep_best: int = 0
    resume: Literal["auto", "force", "restart"] = "auto"
    save_model: bool = True
    samples_every: int = 5
    samples_per_batch: int = 16
    evaluate: bool = True
    eval_steps: int = 0
    eval_batch_size: int = 64
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoggerSettings:
    """Where metrics are shown besides the run folder.

    Attributes:
        kind: `wandb` (offline unless WANDB_MODE=online), `trackio` (a local page) or `none`.
        project: Project in W&B or trackio.
        tags: Further tags of the run.
    """

    kind: Literal["wandb", "trackio", "none"]
    project: str = "r1reward"
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TrainSettings:
    """A whole training job.

    Attributes:
        study: Name of the study: groups run folders and W&B runs.
        arm: Name of the variant within the study; runs of one arm differ in the seed alone.
        seed: Seed of everything that training draws: row order, sampling, initialisation of adapters.
        stage: `rl`, or `sft`: supervised training on the solutions of the same rows, as many prompts per step in the same order
            (`r1reward.trainer.supervised`). One command serves both stages, so settings that act in RL alone are left unused in
            `sft`: the groups algorithm, clip and advantage_filter but for `algorithm.num_generations`, by which batch sizes are
            divided; the consistency judge; and of the trainer `temperature`, `top_p`, `top_k`, `use_vllm` and
            `skip_zero_advantage`.
        model: The policy.
        adapter: What is trained of it.
        template: By task, the text around the question, with `{question}` in it; other tasks show the question as it is.
    """

    study: str
    arm: str
    seed: int
    model: ModelSettings
    data: DataSettings
    algorithm: AlgorithmSettings
    clip: ClipSettings
    advantage_filter: AdvantageFilterSettings
    reward: RewardSettings
    trainer: TrainerSettings
    logger: LoggerSettings
    stage: Literal["rl", "sft"] = "rl"
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    template: dict[str, str] = field(default_factory=dict)
