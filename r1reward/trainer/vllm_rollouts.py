"""Rollouts from vLLM, given what it asks for: a layer around TRL's `VLLMGeneration`.

TRL 1.16 hands the engine prompts in which each image's tokens are written out already, and the engine writes them out again; it
leaves the engine's cache of encoded images alone when weights change; and it lets the engine sample image tokens, which no
forward pass can read back. Here the engine gets the prompt as the chat template writes it, one mark per image, and what it made
of it is compared with the trainer's own tokens.
"""

from collections.abc import Sequence
from contextlib import contextmanager, nullcontext

from r1reward.inference.vllm_backend import NEVER
from r1reward.models.image_check import ImagesNotSeen


class VllmRollouts:
    """`VLLMGeneration` as the trainer calls it. What is not defined here is the engine's own.

    Args:
        generation: TRL's.
        image_tokens: Token ids that stand for images, which must not be sampled.
    """

    def __init__(self, generation, image_tokens: Sequence[int]):
        self._generation = generation
        self._image_tokens = list(image_tokens)
        self._written: list[list[int]] | None = None  # of the rows to come: the prompts with one mark per image

    def __getattr__(self, name):
        return getattr(self._generation, name)

    @property
    def _colocated(self) -> bool:
        return self._generation.mode == "colocate"

    def sync_weights(self):
        """Give the engine the policy's weights, and have it forget what it encoded with others."""
        if not self._colocated:
            self._generation.sync_weights()
            return
        engine = self._generation.llm.llm_engine
        if engine.vllm_config.device_config.device_type == "cpu":
            _reload(engine.model_executor.driver_worker, self._generation._iter_named_params())
            self._generation.llm.reset_prefix_cache()
        else:
            self._generation.sync_weights()
        engine.reset_encoder_cache()

    def expect(self, written: list[list[int]]):
        """Take the prompts of the next call as the chat template writes them: tokens with one mark per image."""
        self._written = written

    def generate(self, prompts: list[list[int]], images, num_generations: int, profiler=None):
        """As `VLLMGeneration.generate`; `prompts` are the trainer's, images written out.

        Raises:
            ImagesNotSeen: What the engine made of a prompt and its images are not the trainer's tokens.
        """
        written, self._written = self._written, None
        if not self._colocated:  # the server takes the trainer's tokens and places the images itself
            with self._kwargs(bad_words=self._marks()) if self._image_tokens else nullcontext():
                return self._generation.generate(prompts, images, num_generations, profiler)
        first = range(0, len(prompts), self._repeats(prompts, images, num_generations))
        every = len(prompts) // len(first)
        with self._kwargs(n=every, logit_bias=dict.fromkeys(self._image_tokens, NEVER)):
            seen, *drawn = self._generation.generate(
                [(written or prompts)[row] for row in first],
                None if images is None else [images[row] for row in first],
                num_generations,
                profiler,
            )
        for row, ids in zip(first, seen, strict=True):
            if list(ids) != list(prompts[row]):
                raise ImagesNotSeen(
                    f"vLLM made {len(ids)} tokens of a prompt of which the trainer made {len(prompts[row])} "
                    f"({self._count(ids)} and {self._count(prompts[row])} of them for its images): it samples from another "
                    "prompt than the one that is trained on. Set use_vllm=false, or install versions of vllm and transformers "
                    "whose processors agree."
                )
        return prompts, *drawn

    def _repeats(self, prompts, images, num_generations: int) -> int:
        """How many rows in a row are one prompt, which the engine then gets once; processes that share an engine count rows."""
        if self._generation.tensor_parallel_size > 1 or len(prompts) % num_generations:
            return 1
        for start in range(0, len(prompts), num_generations):
            for row in range(start + 1, start + num_generations):
                if prompts[row] != prompts[start] or (images is not None and not _same_images(images[row], images[start])):
                    return 1
        return num_generations

    def _marks(self) -> list[str]:
        processor = self._generation.processing_class
        return getattr(processor, "tokenizer", processor).batch_decode([[token] for token in self._image_tokens])

    def _count(self, ids) -> int:
        return sum(token in self._image_tokens for token in ids)

    @contextmanager
    def _kwargs(self, **more):
        """While it lasts, the engine samples with these arguments besides the user's."""
        plain = self._generation.generation_kwargs
        if "logit_bias" in more:
            more["logit_bias"] = plain.get("logit_bias", {}) | more["logit_bias"]
        if "bad_words" in more:
            more["bad_words"] = [*plain.get("bad_words", ()), *more["bad_words"]]
        self._generation.generation_kwargs = {**plain, **more}
        try:
            yield
        finally:
            self._generation.generation_kwargs = plain


def _reload(worker, weights):
    """Give an engine on a CPU new weights: it packs them and keeps no others, so that TRL's way, one by one, finds no place.

    vLLM's own way packs all anew but a head that is tied to the embeddings (0.31), which went on with its old weights.
    """
    worker.reload_weights(weights_iterator=weights)
    for module in worker.model_runner.model.modules():
        if hasattr(module, "cpu_linear") and module.weight.numel():
            module.quant_method.process_weights_after_loading(module)


def _same_images(images, others) -> bool:
    images, others = images or (), others or ()
    return len(images) == len(others) and all(a is b or a == b for a, b in zip(images, others, strict=True))


@contextmanager
def engine_arguments(**arguments):
    """While it lasts, TRL's `VLLMGeneration` makes its engine with these arguments too: it passes a fixed list of its own.

    Args:
        arguments: Of `vllm.LLM`, such as `dtype` or `mm_processor_kwargs`; they go before TRL's.
    """
    from trl.generation import vllm_generation

    plain = getattr(vllm_generation, "LLM", None)
    if plain is None:  # vLLM is not installed, which TRL says
        yield
        return
    vllm_generation.LLM = lambda **given: plain(**(given | arguments))
    try:
        yield
    finally:
        vllm_generation.LLM = plain
