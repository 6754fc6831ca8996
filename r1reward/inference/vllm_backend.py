"""A reward model in vLLM, in this process: each prompt and its images are sent once for all their completions."""

from r1reward.data.images import open_image
from r1reward.data.rows import Row
from r1reward.inference.backend import Completion, Sampling
from r1reward.models.loading import ModelSettings, load_processor, pixel_limits, resolve


class VllmBackend:
    """vLLM with `n` completions per request.

    Args:
        settings: The model.
        gpu_memory: Share of the GPU's memory that it may take.
        tensor_parallel: GPUs that share the model.
        max_images: Images in one prompt, at most.
    """

    def __init__(self, settings: ModelSettings, gpu_memory: float = 0.9, tensor_parallel: int = 1, max_images: int = 1):
        import vllm

        self._vllm = vllm
        self._processor = load_processor(settings)
        self._engine = vllm.LLM(
            model=resolve(settings.path),
            # weights of 32 bits are for training; evaluation samples from what generation computes with
            dtype="bfloat16" if settings.dtype == "float32" else settings.dtype,
            trust_remote_code=settings.trust_remote_code,
            gpu_memory_utilization=gpu_memory,
            tensor_parallel_size=tensor_parallel,
            limit_mm_per_prompt={"image": max_images},
            mm_processor_kwargs=pixel_limits(settings, self._processor) or None,
        )

    def complete(self, rows: list[Row], votes: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """See `Backend`."""
        texts = [
            self._processor.apply_chat_template(row.messages(), tokenize=False, add_generation_prompt=True) for row in rows
        ]
        prompts = [
            {"prompt": text}
            | ({"multi_modal_data": {"image": [open_image(image) for image in row.images]}} if row.images else {})
            for row, text in zip(rows, texts, strict=True)
        ]
        parameters = self._vllm.SamplingParams(
            n=votes,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_new_tokens,
            seed=seed,
        )
        answers = self._engine.generate(prompts, parameters, use_tqdm=False)
        return [[Completion(output.text, len(output.token_ids)) for output in answer.outputs] for answer in answers]
