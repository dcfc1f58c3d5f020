"""Weights held as float16 change no bit: not in lower precision, not in float32 with the same model object."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lumina_ray.fingerprint import Fingerprinter, Specification, SpotCheck
from lumina_ray.model import TRACKED_TENSORS, MusicModel, open_model
from lumina_ray.model.float16 import hold_linears_in_float16
from lumina_ray.vocabulary import Dtype, Kind, SongCodes

CODES = SongCodes(
    tuple(np.random.default_rng(0).integers(0, 512, (4, n)).astype(np.uint16) for n in (500, 330)), (0.0, 10.0)
)


@pytest.fixture(scope="module", params=["", "audiocraft:"], ids=["transformers", "audiocraft"])
def both(request: pytest.FixtureRequest, tiny_model_dir: Path) -> tuple[MusicModel, MusicModel]:
    """The same weights in float32, and as a job in lower precision holds them."""
    name = f"{request.param}{tiny_model_dir}"
    return open_model(name), open_model(name, dtype=torch.bfloat16)


def bits(model: MusicModel, specification: Specification, chunks_in_flight: int) -> bytes:
    fingerprint = Fingerprinter(model, specification, chunks_in_flight)(CODES, per_chunk=True)
    return b"".join(fingerprint.vectors[c].tobytes() + fingerprint.chunk_vectors[c].tobytes() for c in ("P", "M"))


def test_linears_are_float16_and_nothing_else(both: tuple[MusicModel, MusicModel]) -> None:
    wide, narrow = both
    assert narrow.weights_sha256 == wide.weights_sha256
    linears = [p for n in range(16) for tensor in TRACKED_TENSORS for p in narrow.tracked(n, tensor)]
    assert {p.dtype for p in (*linears, *narrow.heads())} == {torch.float16}
    halved = [p for p in narrow.parameters() if p.dtype == torch.float16]
    assert {id(p) for p in halved} == {id(p) for p in (*linears, *narrow.heads())}
    assert all(torch.equal(a.float(), b) for a, b in zip(narrow.parameters(), wide.parameters(), strict=True))


@pytest.mark.parametrize(("dtype", "chunks_in_flight"), [("bfloat16", 2), ("float16", 1), ("float32", 2)])
@pytest.mark.parametrize("kind", ["stats", "jl", "influence"])
def test_no_bit_changes(both: tuple[MusicModel, MusicModel], kind: Kind, dtype: Dtype, chunks_in_flight: int) -> None:
    wide, narrow = (bits(model, Specification.for_model(model, kind, dtype=dtype), chunks_in_flight) for model in both)
    assert narrow == wide


def test_the_spot_check_recomputes_from_them(both: tuple[MusicModel, MusicModel]) -> None:
    _, narrow = both
    fingerprinter = Fingerprinter(narrow, Specification.for_model(narrow, "stats", dtype="float16"))
    SpotCheck(fingerprinter)("song", CODES, fingerprinter(CODES))


def test_a_weight_that_float16_would_round_stays_as_it_is() -> None:
    model = nn.ModuleList([nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False), nn.Embedding(3, 2)])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
        model[1].weight[1, 2] = 0.1
    hold_linears_in_float16(model)
    assert [parameter.dtype for parameter in model.parameters()] == [torch.float16, torch.float32, torch.float32]
    assert model[1].weight[1, 2] == torch.tensor(0.1)
