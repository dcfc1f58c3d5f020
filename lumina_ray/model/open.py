"""One name → one model behind the common interface."""

import torch

from lumina_ray.model.determinism import pin_numerics
from lumina_ray.model.files import AUDIOCRAFT_PREFIX, find_model
from lumina_ray.model.interface import MusicModel
from lumina_ray.model.lean import import_transformers


def open_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> MusicModel:
    """Load a MusicGen for gradients, and pin this process's numerics so that they repeat to the last bit.

    Args:
        name: "nano" or "nano-early" (bundled), a hub name ("facebook/musicgen-large"), or a local folder, all through
            transformers; "audiocraft:" before any of them loads it through audiocraft instead.
        device: "cpu", "cuda" or "cuda:N".
        dtype: of the products that it is for. Anything but float32 halves the memory of weights that are float16 in
            the file, and changes no bit of what is made in that dtype, nor, through `capture`, in float32.

    Raises:
        ModelError: not at hand, or not a MusicGen this software can fingerprint (mono, delay pattern, pre-norm).
    """
    pin_numerics()
    # Each adapter imports a large library, audiocraft's takes 15 s: only the one that is asked for is paid for.
    if name.startswith(AUDIOCRAFT_PREFIX):
        from lumina_ray.model.audiocraft_adapter import AudiocraftMusicGen

        bare_name = name.removeprefix(AUDIOCRAFT_PREFIX)
        return AudiocraftMusicGen.load(find_model(bare_name), name=bare_name, device=device, dtype=dtype)
    import_transformers()
    from lumina_ray.model.transformers_adapter import TransformersMusicGen

    return TransformersMusicGen.load(find_model(name), name=name, device=device, dtype=dtype)
