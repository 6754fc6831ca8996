"""What every small training in the tests wants: nothing written or shown, on the CPU in float32, one thread."""

import torch

QUIET = {
    "top_k": 0,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
}


def one_thread():
    """A fixture's body. Tensors here are tiny: threads would wait for each other, for minutes where other processes want the
    processor too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
