"""The settings of an evaluation; each dataclass mirrors one group under `conf/`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from r1reward.inference.backend import Sampling
from r1reward.inference.readings import reading_of
from r1reward.models.loading import ModelSettings


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is judged.

    Attributes:
        name: `vl_rewardbench`, `multimodal_rewardbench`, `mm_rlhf_rewardbench`, `shapes` (generated), `preferences` (a file
            in the R1-Reward training format), `referring` or `detection` (a file in VLM-R1's format, or of COCO annotations).
        path: Folder, file or hub id of the data; not for shapes.
        image_root: Folder that image paths start from; null: the folder of the rows.
        prompt: The judge prompt, by name or from a file (`r1reward.data.prompts`); a preference file has its own.
        missing: `stop` where images are missing, or `skip` their items and count them.
        check_sizes: Whether the rows must have the official sizes.
        num_frames: Frames sampled from a video.
        limit: Judge only that many items, from the top; null: all. Scores of a part are no benchmark scores.
        split: Split of the shapes world: `train`, `held_out` or `out_of_distribution`.
        num: Items to generate (shapes).
        seed: Of the generated world (shapes).
        levels: Difficulty levels of the shapes world.
        reading: How boxes are read: `strict`, or as published evaluations do: `last_box`, `first_box` (referring), `last_fence`
            (detection).
        box_space: The space of the true boxes, as `data.box_space` (files in VLM-R1's format).
        num_absent: Absent categories that each image is asked for; null: all (COCO files, detection).
        max_boxes_per_category: Categories with more boxes in an image are not asked for; null: no limit (COCO files).
    """

    name: Literal[
        "vl_rewardbench", "multimodal_rewardbench", "mm_rlhf_rewardbench", "shapes", "preferences", "referring", "detection"
    ]
    path: str | None = None
    image_root: str | None = None
    prompt: str = "r1_reward"
    missing: Literal["stop", "skip"] = "stop"
    check_sizes: bool = True
    num_frames: int = 32
    limit: int | None = None
    split: Literal["train", "held_out", "out_of_distribution"] = "held_out"
    num: int = 600
    seed: int = 0
    levels: list[int] = field(default_factory=lambda: [1, 2, 3])
    reading: Literal["strict", "last_box", "first_box", "last_fence"] = "strict"
    box_space: Literal["pixels", "thousand", "thousand_y_first", "unit"] | None = None
    num_absent: int | None = 3
    max_boxes_per_category: int | None = None


@dataclass(frozen=True)
class BackendSettings:
    """What runs the reward model.

    Attributes:
        kind: `transformers` (in this process), `vllm` (in this process) or `openai` (any OpenAI-compatible server).
        base_url: Address of the server, such as http://localhost:8000/v1 (openai).
        api_key_env: Environment variable that holds the key (openai).
        concurrency: Calls under way at a time (openai).
        timeout: Seconds that one call may take (openai).
        attempts: Calls for one completion before the evaluation stops (openai).
        gpu_memory: Share of the GPU's memory that vLLM may take (vllm).
        tensor_parallel: GPUs that share one model (vllm).
        engine_kwargs: Further arguments of `vllm.LLM`, such as `max_model_len` (vllm).
    """

    kind: Literal["transformers", "vllm", "openai"]
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 32
    timeout: float = 120.0
    attempts: int = 4
    gpu_memory: float = 0.9
    tensor_parallel: int = 1
    engine_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluateSettings:
    """A whole evaluation.

    Attributes:
        template: By task, the text around the question, with `{question}` in it (referring, detection); empty: as it is.
        protocol: Which orders are judged, and when a verdict is right (`r1reward.benchmarks.protocols`).
        buckets: `official` categories, or `released` as R1-Reward's scorer counts them.
        votes: Verdicts per item and order; more than one are sampled, and the majority counts.
        temperature: Of sampling; null: 0 (greedy) for one vote, 1 for more.
        top_p: Nucleus of sampling; 1: all.
        top_k: Sample among that many tokens; 0: all.
        max_new_tokens: Longest verdict in tokens.
        batch_size: Completions generated at a time.
        pattern: How verdicts are read: `strict`, `released`, or `scripts` as R1-Reward's evaluation scripts do
            (`r1reward.inference.readings`); null: `scripts` under protocol=released, else `strict`. Stored verdicts are read
            anew.
        seed: Of sampling, and of the orders of the official protocol of VL-RewardBench.
        mistakes: Items on the page of mistakes, at most; 0: no page.
        overwrite: Whether a folder that holds an evaluation with other settings is started anew.
    """

    benchmark: BenchmarkSettings
    model: ModelSettings
    backend: BackendSettings
    template: dict[str, str] = field(default_factory=dict)
    protocol: Literal["both_orders", "official", "released"] = "both_orders"
    buckets: Literal["official", "released"] = "official"
    votes: int = 1
    temperature: float | None = None
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 1024
    batch_size: int = 64
    pattern: Literal["strict", "released", "scripts"] | None = None
    seed: int = 0
    mistakes: int = 50
    overwrite: bool = False

    def reading(self) -> str:
        """How verdicts are read (`r1reward.inference.readings`)."""
        return reading_of(self.pattern, self.protocol, self.benchmark.name)

    def sampling(self) -> Sampling:
        """How verdicts are drawn.

        Raises:
            ValueError: For settings that contradict each other.
        """
        temperature = self.temperature if self.temperature is not None else float(self.votes > 1)
        for name, least in {"votes": 1, "batch_size": 1, "mistakes": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.votes > 1 and temperature == 0:
            raise ValueError(f"votes={self.votes} at temperature 0 are the same verdict {self.votes} times; raise temperature")
        return Sampling(self.max_new_tokens, temperature, self.top_p, self.top_k)
