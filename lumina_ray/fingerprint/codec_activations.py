"""Statistics of a codec's activations: a reading of the channel that LUMINA had before its gradients.

Its guide contradicts itself: it takes statistics of attention and feed-forward layers of EnCodec, which has neither,
with gradient hooks, and counts 216 of them, which no number of EnCodec's modules gives. What is left is made here:
six statistics of each top-level module's output, encoder for P and decoder for M, forward only. No language model runs.

Shape legend: C = channels, L = steps of a module's output, T = frames.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lumina_ray.errors import ModelError
from lumina_ray.fingerprint.embeddings import VectorsOfChunks
from lumina_ray.fingerprint.gradient_statistics import six_statistics
from lumina_ray.fingerprint.kinds import CODEC_MODULES
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients import moments
from lumina_ray.model.interface import MusicModel
from lumina_ray.vocabulary import Channel


class CodecActivations(VectorsOfChunks):
    """Mean, standard deviation, length, largest, smallest and skewness of each module's output where there is sound.

    The decoder hears a chunk's codes, and the encoder what the decoder makes of them, as stores keep no audio.
    """

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        """
        Raises:
            ModelError: the codec has another number of modules.
        """
        super().__init__(specification)
        self._model = model
        encoder, decoder = model.codec_modules()
        self._modules: dict[Channel, list[nn.Module]] = {"P": encoder, "M": decoder}
        for modules in (encoder, decoder):
            if len(modules) != CODEC_MODULES:
                raise ModelError(
                    f"model {model.name!r}: an encoder or decoder of its codec has {len(modules)} modules; "
                    f"codec-activations are of {CODEC_MODULES}, as EnCodec at 32 kHz has them"
                )

    def of_chunk(self, codes_KT: Tensor, heard_T: np.ndarray) -> dict[Channel, Tensor]:
        with _outputs(self._modules["M"]) as decoded:
            samples = self._model.decode(codes_KT)
        outputs = {"M": decoded}
        if "P" in self._channels:
            with _outputs(self._modules["P"]) as outputs["P"]:
                self._model.encode(samples)
        heard = torch.from_numpy(heard_T).to(codes_KT.device)
        return {channel: _statistics(outputs[channel], heard) for channel in self._channels}


@contextmanager
def _outputs(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what modules put out within the block, in the order in which they run, float32 `[C, L]` each."""
    caught: list[Tensor] = []
    hooks = [module.register_forward_hook(lambda _module, _inputs, out: caught.append(out[0])) for module in modules]
    try:
        yield caught
    finally:
        for hook in hooks:
            hook.remove()


def _statistics(outputs: list[Tensor], heard_T: Tensor) -> Tensor:
    """Six statistics of each output, float32 `[6 · modules]`, over the steps of frames that hold sound."""
    numbers: list[float] = []
    for output_CL in outputs:
        L, T = output_CL.shape[-1], len(heard_T)
        # The frame that each step belongs to; the codec has more steps a frame the closer a module is to the audio.
        frames_L = (torch.arange(L, device=heard_T.device) * T) // L
        kept = output_CL[:, heard_T[frames_L]] if heard_T.any() else output_CL
        numbers += six_statistics(moments(kept).tolist(), kept.numel(), zero_mean=False)
    return torch.tensor(numbers, dtype=torch.float32)
