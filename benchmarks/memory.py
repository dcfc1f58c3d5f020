"""Predicts the memory that MusicGen-large takes on a GPU, on tensors without data, so that no GPU is needed.

    uv run --no-sync python -m benchmarks.memory

Weights have the dtypes of a job in float16: linear layers in float16, all else in float32, with EnCodec and T5. CUDA's
own memory, the allocator's fragments and libraries' workspaces come on top. `stats` takes the plain path, which needs a
few MB more than the Triton kernel. Writes results/memory.json.
"""

import json
from pathlib import Path

import torch
from torch import nn
from transformers import T5Config, T5EncoderModel

from lumina_ray.fingerprint import Specification
from lumina_ray.fingerprint.batching import predicted_peak
from lumina_ray.gradients.memory import MAX_CHUNKS_IN_FLIGHT
from lumina_ray.model import MusicModel
from lumina_ray.training.codec import codec_config
from lumina_ray.training.export import as_music_model, new_musicgen
from lumina_ray.vocabulary import Channel, Dtype, Kind

RESULTS = Path(__file__).parent / "results"
VARIANTS: dict[str, tuple[Kind, tuple[Channel, ...], Dtype]] = {
    "stats, both channels": ("stats", ("P", "M"), "float16"),
    "stats, P alone": ("stats", ("P",), "float16"),
    "jl, both channels": ("jl", ("P", "M"), "float16"),
    "influence": ("influence", ("P", "M"), "float16"),
    # The spot check of a job in float16 computes this.
    "stats, both channels, in float32": ("stats", ("P", "M"), "float32"),
}
# Number of chunks in flight, and whether songs may have more chunks than that.
BATCHES = {
    "one chunk, songs of one chunk": (1, False),
    "one chunk, any songs": (1, True),
    f"{MAX_CHUNKS_IN_FLIGHT} chunks, any songs": (MAX_CHUNKS_IN_FLIGHT, True),
}


def large_model() -> tuple[MusicModel, int]:
    """Make MusicGen-large in its published shape, with weights that take no memory.

    Returns:
        The model, and the bytes that real weights would take.
    """
    codec = codec_config()
    codec.update({"num_filters": 64, "hidden_size": 128, "codebook_dim": 128, "codebook_size": 2048})
    with torch.device("meta"):
        model = new_musicgen(codec, n_layers=48, dim=2048, heads=32)
        text_encoder = T5EncoderModel(T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12))
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            # The tensor is a single zero, expanded with strides of zero.
            setattr(module, name, nn.Parameter(torch.zeros(()).expand(parameter.shape), requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.zeros((), dtype=buffer.dtype).expand(buffer.shape))
    for layer in model.decoder.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data = torch.zeros((), dtype=torch.float16).expand(layer.weight.shape)
    held = [*model.decoder.parameters(), *model.audio_encoder.parameters(), *text_encoder.parameters()]
    return as_music_model(model), sum(p.numel() * p.element_size() for p in held)


def main() -> None:
    """Predict memory and print it, in GB of 10⁹ bytes."""
    model, weights = large_model()
    print(f"weights: {weights / 1e9:.2f} GB; with them and the predicted peak:")
    results: dict[str, dict[str, float]] = {}
    for name, (kind, channels, dtype) in VARIANTS.items():
        specification = Specification.for_model(model, kind, channels, dtype)
        results[name] = {
            batch: (weights + predicted_peak(model, specification, chunks, long_songs=long_songs)) / 1e9
            for batch, (chunks, long_songs) in BATCHES.items()
        }
        print(f"{name}: " + ", ".join(f"{batch} {gb:.2f} GB" for batch, gb in results[name].items()), flush=True)
    RESULTS.mkdir(exist_ok=True)
    summary = {"weights_gb": weights / 1e9, "peak_gb": results}
    (RESULTS / "memory.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
