"""Process-wide settings under which the same input gives the same bits."""

import os

import torch
import torch.utils.deterministic


def pin_numerics() -> None:
    """Ask for one thread, deterministic kernels and full float32 everywhere in this process.

    One CPU thread because matrix products change in their last bits with the number of threads; many songs run in many
    processes instead. Codes flip at a relative noise of 1e-3 in the codec's latents, which TF32 is of the order of.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    # `torch.use_deterministic_algorithms(True)` does this too, but imports the compiler: seconds in every worker.
    torch.set_deterministic_debug_mode("error")
    # A debugging aid that comes with it: NaN written into every new tensor, a sixth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
