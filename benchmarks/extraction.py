"""What a fingerprint costs: the published algorithm as written against ours, in turn, on the same codes.

    python -m benchmarks.extraction [--model nano] [--chunks 3] [--repeats 5]

The published algorithm takes the gradients of all weights, chunk by chunk, and six separate statistics of each tracked
tensor with `.item()`. Ratios are its median time over ours; larger is better. Writes results/extraction.json here.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from lumina_ray.fingerprint import KINDS, Fingerprinter, SongCodes, Specification, describe_environment
from lumina_ray.gradients import chunk_losses
from lumina_ray.model import TRACKED_TENSORS, MusicModel, open_model

RESULTS = Path(__file__).parent / "results"


def published(model: MusicModel, codes: SongCodes, specification: Specification) -> list[float]:
    """LUMINA v8 as written, for both channels."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    totals: dict[tuple[str, int, str], torch.Tensor] = {}
    for chunk in codes.chunks:
        for parameter in model.parameters():
            parameter.grad = None
        codes_1KT = torch.from_numpy(chunk.astype(np.int64))[None]
        prediction = model.predict(codes_1KT, [chunk.shape[1]])
        chunk_losses(prediction, codes_1KT, tuple(specification.codebook_weights)).sum().backward()
        for channel, layers in specification.layers.items():
            for layer in layers:
                for tensor in TRACKED_TENSORS:
                    gradient = torch.cat([p.grad for p in model.tracked(layer, tensor) if p.grad is not None])
                    key = (channel, layer, tensor)
                    totals[key] = totals[key] + gradient if key in totals else gradient.clone()
    values = []
    for total in totals.values():
        gradient = total / len(codes.chunks)
        mean, std = gradient.mean().item(), gradient.std().item()
        skewness = ((gradient - mean) ** 3).mean().item() / std**3
        values += [mean, std, gradient.norm().item(), gradient.max().item(), gradient.min().item(), skewness]
    return values


def median_s(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        begin_s = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin_s)
    return statistics.median(times)


def main(
    model: Annotated[str, typer.Option(help="As for `lumina fingerprint`.")] = "nano",
    chunks: Annotated[int, typer.Option(min=1, help="10 s chunks per song.")] = 3,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Measure and print ratios."""
    opened = open_model(model)
    rng = np.random.default_rng(0)
    shape = (opened.n_codebooks, 10 * opened.frame_rate_hz)
    pieces = tuple(rng.integers(0, opened.codebook_size, shape).astype(np.uint16) for _ in range(chunks))
    codes = SongCodes(pieces, tuple(10.0 * i for i in range(chunks)))
    samples = (rng.normal(size=320_000) * 0.1).astype(np.float32)

    stats = Specification.for_model(opened, "stats")
    seconds = {"published (stats)": median_s(lambda: published(opened, codes, stats), repeats) / chunks}
    for kind in KINDS:
        fingerprinter = Fingerprinter(opened, Specification.for_model(opened, kind))
        seconds[kind] = median_s(lambda made=fingerprinter: made(codes), repeats) / chunks  # type: ignore[misc]
    seconds["EnCodec"] = median_s(lambda: opened.encode(samples), repeats)

    baseline = seconds["published (stats)"]
    table = Table("", "s per 10 s chunk", "published / ours", title=f"{model}, one CPU thread")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.3f}", "" if name == "EnCodec" else f"{baseline / value:.2f}")
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    results = {
        "model": model,
        "seconds_per_chunk": seconds,
        "ratio_both_channels": baseline / seconds["stats"],
        "ratio_forward_only": baseline / seconds["influence"],
        "environment": describe_environment(opened),
    }
    (RESULTS / "extraction.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
