"""Times fingerprints: the published algorithm as it was written, and ours, in turn on the same codes.

    make bench-extraction

The published algorithm computes the gradients of all weights, chunk by chunk, and six separate statistics of each
tracked tensor with `.item()`. Other variants add one of our optimisations each. A ratio is the published median time
over the variant's, so that larger is better. Cost does not depend on the values of weights, so that all models but nano
have random ones. Where TRAK's library is installed, its collector makes equal projected gradients for comparison.
Writes results/extraction.json.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from lumina_ray.fingerprint import Fingerprinter, Specification, choose_chunks_in_flight, describe_environment
from lumina_ray.gradients import chunk_losses, freeze, merge, moments
from lumina_ray.gradients.memory import MAX_CHUNKS_IN_FLIGHT
from lumina_ray.model import TRACKED_TENSORS, MusicModel, open_music_model
from lumina_ray.model.determinism import pin_numerics
from lumina_ray.training.export import as_music_model, new_musicgen
from lumina_ray.vocabulary import Channel, Dtype, Kind, SongCodes

RESULTS = Path(__file__).parent / "results"
CHUNK_S = 10.0
# Layers, width and heads. The summary quotes the last shape: on a GPU it is MusicGen-large but for the vocabulary, on a
# CPU it has MusicGen-large's depth with a width that a CPU can manage.
SHAPES: dict[str, dict[str, tuple[int, int, int] | None]] = {
    "cpu": {"nano": None, "24 x 192": (24, 192, 6), "48 x 256": (48, 256, 8)},
    "cuda": {"nano": None, "24 x 1024": (24, 1024, 16), "48 x 2048": (48, 2048, 32)},
}


@dataclass(frozen=True)
class Measured:
    """One variant on one model; seconds and GFLOP are per chunk of 10 s.

    Attributes:
        ratio: the published algorithm's time over this variant's.
        utilisation: operations per second as a fraction of the measured rate of matrix products in the variant's dtype.
        peak_mb: most memory held at once.
    """

    seconds: float
    chunks_in_flight: int
    gflop: float
    ratio: float
    utilisation: float
    peak_mb: float

    @property
    def audio_s_per_s(self) -> float:
        """Seconds of audio that are fingerprinted per second."""
        return CHUNK_S / self.seconds


def published(
    model: MusicModel,
    codes: SongCodes,
    specification: Specification,
    *,
    only_tracked: bool = False,
    one_pass: bool = False,
    one_batch: bool = False,
) -> list[float]:
    """LUMINA v8 as it was written, for both channels; each keyword argument switches one optimisation on."""
    tensors = [(layer, t) for layers in specification.layers.values() for layer in layers for t in TRACKED_TENSORS]
    freeze(model)
    tracked = [p for layer, t in tensors for p in model.tracked(layer, t)]
    for parameter in tracked if only_tracked else model.parameters():
        parameter.requires_grad_(True)
    totals: dict[tuple[int, str], torch.Tensor] = {}
    chunks = torch.from_numpy(np.stack(codes.chunks).astype(np.int64)).to(model.device)
    for batch_BKT in chunks[None] if one_batch else chunks[:, None]:
        for parameter in model.parameters():
            parameter.grad = None
        prediction = model.predict(batch_BKT, [batch_BKT.shape[2]] * len(batch_BKT))
        chunk_losses(prediction, batch_BKT, tuple(specification.codebook_weights)).sum().backward()
        for key in tensors:
            gradient = torch.cat([p.grad for p in model.tracked(*key) if p.grad is not None])
            totals[key] = totals[key] + gradient if key in totals else gradient.clone()
    for parameter in model.parameters():
        parameter.grad = None
    freeze(model)
    values = []
    for total in totals.values():
        gradient = total / len(codes.chunks)
        if one_pass:
            values += merge([moments(gradient)]).tolist()
            continue
        mean, std = gradient.mean().item(), gradient.std().item()
        skewness = ((gradient - mean) ** 3).mean().item() / std**3
        values += [mean, std, gradient.norm().item(), gradient.max().item(), gradient.min().item(), skewness]
    return values


def _random_model(n_layers: int, dim: int, heads: int, device: str) -> MusicModel:
    return as_music_model(new_musicgen(n_layers=n_layers, dim=dim, heads=heads).to(torch.device(device)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Variant:
    """One way to make a fingerprint, to be measured."""

    run: Callable[[], object]
    dtype: Dtype
    chunks_in_flight: int


def variants(model: MusicModel, codes: SongCodes) -> dict[str, Variant]:
    """All variants that are measured on a model; the others are compared with the first."""
    stats = Specification.for_model(model, "stats")

    def theirs(**optimisation: bool) -> Variant:
        in_flight = len(codes.chunks) if optimisation.get("one_batch") else 1
        return Variant(lambda: published(model, codes, stats, **optimisation), "float32", in_flight)

    def ours(kind: Kind, channels: tuple[Channel, ...] = ("P", "M"), dtype: Dtype = "float32") -> Variant:
        specification = Specification.for_model(model, kind, channels, dtype)
        fingerprinter = Fingerprinter(model, specification, choose_chunks_in_flight(model, specification))
        return Variant(lambda: fingerprinter(codes), dtype, fingerprinter.chunks_in_flight)

    measured = {
        "published": theirs(),
        "published + only tracked weights": theirs(only_tracked=True),
        "published + one pass over each gradient": theirs(one_pass=True),
        "published + all chunks in one batch": theirs(one_batch=True),
        "stats, both channels": ours("stats"),
        "stats, P alone": ours("stats", ("P",)),
        "stats, both channels, bfloat16": ours("stats", dtype="bfloat16"),
        "jl, both channels": ours("jl"),
        "influence, forward only": ours("influence"),
    }
    if model.device.type == "cuda":
        measured["stats, both channels, float16"] = ours("stats", dtype="float16")
    return measured


def measure(model: MusicModel, n_chunks: int, repeats: int, rates: dict[Dtype, float]) -> dict[str, Measured]:
    """Measure all variants, in turn in each round, after a round to warm up."""
    rng = np.random.default_rng(0)
    shape = (model.n_codebooks, round(CHUNK_S * model.frame_rate_hz))
    pieces = tuple(rng.integers(0, model.codebook_size, shape).astype(np.uint16) for _ in range(n_chunks))
    codes = SongCodes(pieces, tuple(CHUNK_S * i for i in range(n_chunks)))
    measured = variants(model, codes)
    gflop, peak_mb = {}, {}
    for name, variant in measured.items():
        with FlopCounterMode(display=False) as counter:
            variant.run()
        gflop[name] = counter.get_total_flops() / 1e9 / n_chunks
        peak_mb[name] = _peak_mb(variant.run, model.device)
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(repeats):
        for name, variant in measured.items():
            times[name].append(_seconds(variant.run, model.device) / n_chunks)
    seconds = {name: statistics.median(of_run) for name, of_run in times.items()}
    baseline = next(iter(seconds.values()))
    return {
        name: Measured(
            seconds=s,
            chunks_in_flight=measured[name].chunks_in_flight,
            gflop=gflop[name],
            ratio=baseline / s,
            utilisation=gflop[name] / s / rates[measured[name].dtype],
            peak_mb=peak_mb[name],
        )
        for name, s in seconds.items()
    }


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    begin_s = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin_s


def _peak_mb(run: Callable[[], object], device: torch.device) -> float:
    """Most memory held at once, in MB; on a GPU with the model, on a CPU without it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    assert profiled.profiler is not None
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def matrix_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """The measured rate of large matrix products, in GFLOP/s; float32 is without TF32 (`pin_numerics`)."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device).to(dtype)
    times = [_seconds(lambda: a @ a, device) for _ in range(6)]
    return 2 * n**3 / 1e9 / min(times[1:])


def gpu_bars(of_model: dict[str, Measured]) -> dict[str, tuple[str, bool]]:
    """Requirements for an H100 or H200 on MusicGen-large's shape: the measurement, and whether it meets each one.

    The measurement is that of the fastest of our variants that makes the statistics of both channels.
    """
    ours = [m for name, m in of_model.items() if name.startswith("stats, both channels")]
    best = min(ours, key=lambda m: m.seconds)
    return {
        "≥ 3 × the published algorithm": (f"{best.ratio:.2f} ×", best.ratio >= 3),
        "≤ 14 ms a chunk": (f"{1000 * best.seconds:.1f} ms", best.seconds <= 0.014),
        "≥ 45 % model FLOPs utilisation": (f"{best.utilisation:.0%}", best.utilisation >= 0.45),
    }


class _WithLoss(torch.nn.Module):
    """A language model whose output is its loss, which TRAK's library needs."""

    def __init__(self, model: MusicModel, codebook_weights: tuple[float, ...]) -> None:
        super().__init__()
        self.decoder = model.model.decoder  # type: ignore[attr-defined]
        self._predict, self._weights = model.predict, codebook_weights

    def forward(self, codes_BKT: torch.Tensor) -> torch.Tensor:
        prediction = self._predict(codes_BKT, [codes_BKT.shape[2]] * len(codes_BKT))
        return chunk_losses(prediction, codes_BKT, self._weights).sum()


def against_trak(model: MusicModel, repeats: int) -> dict[str, float] | None:
    """Time projected gradients of the self-attention weights per example: by TRAK's collector, and by our `jl` (P).

    Returns:
        None where TRAK's library is not installed.
    """
    try:
        from trak import TRAKer
        from trak.modelout_functions import AbstractModelOutput
    except ImportError:
        return None
    specification = Specification.for_model(model, "jl", ("P",))
    fingerprinter = Fingerprinter(model, specification)
    wrapped = _WithLoss(model, tuple(specification.codebook_weights))
    tracked = {id(p) for p in fingerprinter.weights}
    names = [name for name, p in wrapped.named_parameters() if id(p) in tracked]
    codes_BKT = torch.randint(model.codebook_size, (2, 4, 500), generator=torch.Generator().manual_seed(0))

    class Loss(AbstractModelOutput):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

        def get_output(self, module, weights, buffers, codes_KT):  # type: ignore[no-untyped-def]
            return torch.func.functional_call(module, (weights, buffers), (codes_KT[None],))

        def get_out_to_loss_grad(self, _model, _weights, _buffers, batch):  # type: ignore[no-untyped-def]
            return torch.ones(len(batch[0]), 1)

    songs = [SongCodes((chunk.numpy().astype(np.uint16),), (0.0,)) for chunk in codes_BKT]
    seconds: dict[str, list[float]] = {"trak": [], "ours": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            collector = TRAKer(
                wrapped, Loss(), len(codes_BKT), folder, device="cpu", proj_dim=specification.dims["P"],
                use_half_precision=False, grad_wrt=names, logging_level=40,
            )  # fmt: skip
            collector.load_checkpoint(wrapped.state_dict(), model_id=0)
            begin_s = time.perf_counter()
            collector.featurize(batch=[codes_BKT], num_samples=len(codes_BKT))
            seconds["trak"].append((time.perf_counter() - begin_s) / len(codes_BKT))
        begin_s = time.perf_counter()
        list(fingerprinter.many(songs))
        seconds["ours"].append((time.perf_counter() - begin_s) / len(songs))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "trak_s_per_chunk": medians["trak"],
        "ours_s_per_chunk": medians["ours"],
        "ratio": medians["trak"] / medians["ours"],
    }


def main(
    chunks: Annotated[
        int | None, typer.Option(min=1, help="10 s chunks per song; default 2, on a GPU as many as can be in flight.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="A CPU is used with one thread.")] = "cpu",
) -> None:
    """Measure on this machine and print ratios."""
    console = Console()
    pin_numerics()
    # float16 is measured on GPUs only, because CPUs are slow in it.
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16", "float16") if device == "cuda" else ("float32", "bfloat16")
    rates = {dtype: matrix_gflops(torch.device(device), getattr(torch, dtype)) for dtype in dtypes}
    console.print("matrix products, GFLOP/s: " + ", ".join(f"{dtype} {rate:.0f}" for dtype, rate in rates.items()))
    results: dict[str, dict[str, Measured]] = {}
    environment: dict[str, str] = {}
    for name, shape in SHAPES[device].items():
        model = open_music_model("nano", device) if shape is None else _random_model(*shape, device)
        environment = environment or describe_environment(model)
        # Each variant's figures have their own number of chunks in flight.
        environment.pop("chunks_in_flight", None)
        results[name] = measure(model, chunks or (2 if device == "cpu" else MAX_CHUNKS_IN_FLIGHT), repeats, rates)
        table = Table(
            "", "in flight", "s/chunk", "audio s/s", "ratio", "GFLOP", "of matrix rate", "peak MB", title=name
        )
        for variant, m in results[name].items():
            table.add_row(
                variant, str(m.chunks_in_flight), f"{m.seconds:.4f}", f"{m.audio_s_per_s:.1f}", f"{m.ratio:.2f}",
                f"{m.gflop:.1f}", f"{m.utilisation:.0%}", f"{m.peak_mb:.0f}",
            )  # fmt: skip
        console.print(table)
    trak = against_trak(open_music_model("nano"), repeats) if device == "cpu" else None
    if trak:
        console.print(f"nano, self-attention gradients to 512 numbers: TRAK's collector / ours = {trak['ratio']:.1f}")
    deep = list(results.values())[-1]
    bars = gpu_bars(deep) if device == "cuda" else None
    if bars:
        table = Table("bar", "measured", "met", title=list(results)[-1])
        for bar, (value, met) in bars.items():
            table.add_row(bar, value, "yes" if met else "no")
        console.print(table)
    RESULTS.mkdir(exist_ok=True)
    summary = {
        "ratio_both_channels": deep["stats, both channels"].ratio,
        "ratio_p_only": deep["stats, P alone"].ratio,
        "ratio_forward_only": deep["influence, forward only"].ratio,
        "matrix_gflops": rates,
        "models": {name: {v: asdict(m) for v, m in of_model.items()} for name, of_model in results.items()},
        "gpu_bars": bars,
        "trak_collector": trak,
        "environment": environment,
    }
    (RESULTS / "extraction.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console.print(
        f"{list(results)[-1]}, published / ours: both channels {summary['ratio_both_channels']:.2f}, "
        f"P alone {summary['ratio_p_only']:.2f}, forward only {summary['ratio_forward_only']:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
