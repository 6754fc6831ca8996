"""A reward model in vLLM, in this process: each prompt and its images are sent once for all their completions."""

import os

import torch

from r1reward.data.images import open_image
from r1reward.data.rows import Row
from r1reward.inference.backend import Completion, Sampling
from r1reward.models.image_check import ImagesNotSeen, image_tokens, inverted, processed
from r1reward.models.loading import ModelSettings, load_processor, pixel_limits, resolve
from r1reward.rewards.written import opening

INSTALL_VLLM = "pip install 'trl[vllm]==1.16.*'"  # in messages: what brings a version of vLLM that fits
NEVER = -100.0  # added to a logit, the least that vLLM allows


class VllmBackend:
    """vLLM with `n` completions per request.

    Args:
        settings: The model.
        gpu_memory: Share of the GPU's memory that it may take.
        tensor_parallel: GPUs that share the model.
        max_images: Images in one prompt, at most.
        engine_kwargs: Further arguments of `vllm.LLM`.
    """

    def __init__(
        self,
        settings: ModelSettings,
        gpu_memory: float = 0.9,
        tensor_parallel: int = 1,
        max_images: int = 1,
        engine_kwargs: dict | None = None,
    ):
        # In this process the engine's random numbers are torch's own; on a CPU they are the only ones that can be seeded.
        if not torch.cuda.is_available():
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        import vllm

        self._vllm = vllm
        self._processor = load_processor(settings)
        self._opening = opening(self._processor)
        options = {
            # weights of 32 bits are for training; evaluation samples from what generation computes with
            "dtype": "bfloat16" if settings.dtype == "float32" else settings.dtype,
            "trust_remote_code": settings.trust_remote_code,
            "gpu_memory_utilization": gpu_memory,
            "tensor_parallel_size": tensor_parallel,
            "limit_mm_per_prompt": {"image": max_images},
            "mm_processor_kwargs": pixel_limits(settings, self._processor) or None,
        }
        self._engine = vllm.LLM(model=resolve(settings.path), **(options | (engine_kwargs or {})))
        engine = self._engine.llm_engine
        self._seeds_requests = engine.vllm_config.device_config.device_type != "cpu"
        self._never = dict.fromkeys(image_tokens(engine.model_config.hf_config), NEVER)

    def complete(self, rows: list[Row], votes: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """See `Backend`."""
        answers = self._ask(
            [self._prompt(row) for row in rows],
            seed,
            n=votes,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_new_tokens,
        )
        return [
            [Completion(self._opening + output.text, len(output.token_ids)) for output in answer.outputs] for answer in answers
        ]

    def check_images(self, row: Row):
        """See `Backend`: the engine makes the processor's tokens of the prompt, and other images change what it says."""
        images = [open_image(image) for image in row.images]
        prompts = [self._prompt(row, images), self._prompt(row, inverted(images))]
        own, changed = self._ask(prompts, 0, max_tokens=1, temperature=0.0, logprobs=5)
        expected = processed(self._processor, row.messages(), images)["input_ids"][0].tolist()
        if list(own.prompt_token_ids) != expected:
            raise ImagesNotSeen(
                f"vLLM made {len(own.prompt_token_ids)} tokens of a prompt of which the model's processor makes "
                f"{len(expected)}: it does not see its images as the model was trained to. Use backend=transformers, or the "
                "project's lock of vllm and transformers."
            )
        first, second = (
            {token: entry.logprob for token, entry in answer.outputs[0].logprobs[0].items()} for answer in (own, changed)
        )
        if first == second:
            raise ImagesNotSeen("vLLM says the same whatever the images show: it does not see them. Use backend=transformers.")

    def _prompt(self, row: Row, images: list | None = None) -> dict:
        text = self._processor.apply_chat_template(row.messages(), tokenize=False, add_generation_prompt=True)
        images = [open_image(image) for image in row.images] if images is None else images
        return {"prompt": text} | ({"multi_modal_data": {"image": images}} if images else {})

    def _ask(self, prompts: list[dict], seed: int, **sampling) -> list:
        # A CPU engine dies of a seeded request that it splits over two batches ("CPU Generator does not use offset").
        own_seed = {"seed": seed} if self._seeds_requests else {}
        parameters = self._vllm.SamplingParams(logit_bias=self._never, **own_seed, **sampling)
        with torch.random.fork_rng([], enabled=not self._seeds_requests):
            if not self._seeds_requests:
                torch.manual_seed(seed)
            return self._engine.generate(prompts, parameters, use_tqdm=False)
