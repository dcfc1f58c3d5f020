"""One name → one model behind the common interface."""

from typing import cast

import torch

from lumina_ray.errors import ModelError
from lumina_ray.model.determinism import pin_numerics
from lumina_ray.model.files import AUDIOCRAFT_PREFIX, find_model, representation_in
from lumina_ray.model.interface import AttributableModel, MusicModel
from lumina_ray.model.lean import import_transformers


def open_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> AttributableModel:
    """Load a model for gradients, and pin this process's numerics so that they repeat to the last bit.

    Args:
        name: "nano", "nano-early", "nano-reference" or "nano-dit" (bundled), a hub name ("facebook/musicgen-large"), or
            a local folder. A folder's files say whether it is a MusicGen of transformers, or a latent diffusion
            transformer of diffusers or stable-audio-tools; "audiocraft:" before any name loads a MusicGen through
            audiocraft instead.
        device: "cpu", "cuda" or "cuda:N".
        dtype: of the products that it is for. Anything but float32 halves the memory of weights that are float16 in
            the file, and changes no bit of what is made in that dtype, nor, through `capture`, in float32.

    Raises:
        ModelError: not at hand, or not a model this software can fingerprint: a MusicGen (mono, delay pattern,
            pre-norm), or a diffusion transformer in the form of Stable Audio.
    """
    pin_numerics()
    # Each adapter imports a large library, audiocraft's takes 15 s: only the one that is asked for is paid for.
    if name.startswith(AUDIOCRAFT_PREFIX):
        from lumina_ray.model.audiocraft_adapter import AudiocraftMusicGen

        bare_name = name.removeprefix(AUDIOCRAFT_PREFIX)
        return AudiocraftMusicGen.load(find_model(bare_name), name=bare_name, device=device, dtype=dtype)
    folder = find_model(name)
    if representation_in(folder) == "latents":
        from lumina_ray.model.diffusion.load import load

        return load(folder, name=name, device=device, dtype=dtype)
    import_transformers()
    from lumina_ray.model.transformers_adapter import TransformersMusicGen

    return TransformersMusicGen.load(folder, name=name, device=device, dtype=dtype)


def open_music_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> MusicModel:
    """Load a model that predicts codes, for what only those have; see `open_model`.

    Raises:
        ModelError: as `open_model`, or a model that predicts latents.
    """
    model = open_model(name, device, dtype)
    if model.representation.name != "codes":
        raise ModelError(
            f"model {name!r} predicts {model.representation.name}; what was asked for needs a model that predicts "
            "codes: a MusicGen"
        )
    return cast(MusicModel, model)
