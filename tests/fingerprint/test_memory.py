"""Predicted memory against what torch's profiler counts, and the batch chosen by it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.batching import choose_chunks_in_flight, keeps_bits, predicted_peak
from lumina_ray.gradients.memory import MAX_CHUNKS_IN_FLIGHT, chunks_that_fit
from lumina_ray.model import MusicModel, open_model
from lumina_ray.vocabulary import Channel, Dtype, Kind, SongCodes
from tests.tiny_model import random_companions


@pytest.fixture(scope="module")
def models() -> dict[Dtype, MusicModel]:
    whole, half = open_model("nano"), open_model("nano", dtype=torch.half)
    for model in (whole, half):
        model.companions = random_companions(model, open_model("nano-early"))
    return {"float32": whole, "bfloat16": half, "float16": half}


@pytest.fixture(scope="module")
def model(models: dict[Dtype, MusicModel]) -> MusicModel:
    return models["float32"]


def measured_peak(run: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


CASES = {
    "both": (("P", "M"), 1, "float32", True),
    "P": (("P",), 1, "float32", True),
    "M": (("M",), 1, "float32", True),
    "M in float16": (("M",), 2, "float16", False),  # which a CPU is slow at
}
# Each kind and each case at least once; the other pairs are soak.
QUICK = {
    "influence": ("both", "P", "M in float16"),
    "stats": ("both", "M"),
    "jl": ("both",),
    "logra": ("P", "M"),
    "companion": ("both", "P"),
}


@pytest.mark.parametrize(
    ("kind", "channels", "chunks", "dtype", "long_songs"),
    [
        pytest.param(kind, *case, id=f"{kind}-{name}", marks=() if name in quick else pytest.mark.soak)
        for kind, quick in QUICK.items()
        for name, case in CASES.items()
    ],
)
def test_prediction_is_what_is_measured(
    models: dict[Dtype, MusicModel],
    kind: Kind,
    channels: tuple[Channel, ...],
    dtype: Dtype,
    chunks: int,
    long_songs: bool,
) -> None:
    model = models[dtype]
    specification = Specification.for_model(model, kind, channels, dtype)
    predicted = predicted_peak(model, specification, chunks, long_songs=long_songs)
    fingerprinter = Fingerprinter(model, specification, chunks)

    def run() -> None:
        rng = np.random.default_rng(0)
        pieces = [rng.integers(0, 512, (4, 500)).astype(np.uint16) for _ in range(2 * chunks)]
        fingerprinter(SongCodes(tuple(pieces[:chunks]), (0.0,) * chunks))
        fingerprinter(SongCodes(tuple(pieces if long_songs else pieces[:chunks]), (0.0,) * len(pieces)))

    measured = measured_peak(run)
    print(f"{kind} {channels} {dtype} {chunks} {long_songs}: predicted / measured = {predicted / measured:.3f}")
    assert 0.9 < predicted / measured < 1.1


def test_the_batch_is_the_largest_that_fits() -> None:
    def peak(chunks: int) -> int:
        return 100 + 50 * chunks

    assert chunks_that_fit(peak, free_bytes=10) == 1
    assert chunks_that_fit(peak, free_bytes=400) == 4  # 300 of 320 usable
    assert chunks_that_fit(peak, free_bytes=10**6) == MAX_CHUNKS_IN_FLIGHT


def test_a_cpu_has_one_chunk_in_flight_though_more_would_change_no_bit(model: MusicModel) -> None:
    specification = Specification.for_model(model, "influence")
    assert choose_chunks_in_flight(model, specification) == 1
    assert keeps_bits(Fingerprinter(model, specification, 3))


@pytest.mark.parametrize("threads", [2, 4])
def test_thread_counts_agree_to_rounding(model: MusicModel, threads: int) -> None:
    specification = Specification.for_model(model, "stats")
    fingerprinter = Fingerprinter(model, specification)
    codes = SongCodes((torch.randint(512, (4, 500), generator=torch.Generator().manual_seed(0)).numpy(),), (0.0,))
    one = fingerprinter(codes)
    torch.set_num_threads(threads)
    try:
        several = fingerprinter(codes)
    finally:
        torch.set_num_threads(1)
    for channel in ("P", "M"):
        assert abs(several.vectors[channel] - one.vectors[channel]).max() < 1e-5
