"""Lower precision against float32, and the check that stops a job when it is too far off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.errors import NumericsError
from lumina_ray.fingerprint import Fingerprint, Fingerprinter, Specification, SpotCheck
from lumina_ray.fingerprint.spot_check import TOLERANCE
from lumina_ray.model import MusicModel, open_model
from lumina_ray.vocabulary import Dtype, Kind, SongCodes
from tests.kinds import BY_MODEL
from tests.tiny_model import random_companions, random_fisher


@pytest.fixture(scope="module", params=["nano", "tiny"])
def model(request: pytest.FixtureRequest, tiny_model_dir: Path) -> MusicModel:
    opened = open_model("nano" if request.param == "nano" else str(tiny_model_dir))
    if request.param == "nano":
        opened.fisher = random_fisher(opened)
        opened.companions = random_companions(opened, open_model("nano-early"))
    return opened


@pytest.fixture(scope="module")
def codes(model: MusicModel) -> SongCodes:
    rng = np.random.default_rng(0)
    chunks = tuple(rng.integers(0, model.codebook_size, (4, n)).astype(np.uint16) for n in (500, 330))
    return SongCodes(chunks, (0.0, 10.0))


# A CPU takes some seconds for each in half precision.
SOAK = {("head-gradient", "float16"), ("gradient", "float16"), ("logra", "float16"), ("factgrass", "float16")}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(kind, dtype, marks=pytest.mark.soak if (kind, dtype) in SOAK else ())
        for kind in BY_MODEL
        for dtype in ("bfloat16", "float16")
    ],
)
def test_lower_precision_is_close_and_passes_the_spot_check(
    model: MusicModel, codes: SongCodes, kind: Kind, dtype: Dtype
) -> None:
    reference = Fingerprinter(model, Specification.for_model(model, kind))(codes)
    lower = Fingerprinter(model, Specification.for_model(model, kind, dtype=dtype))
    fingerprint = lower(codes)
    for channel in ("P", "M"):
        distance = 1 - float(fingerprint.vectors[channel].astype(np.float64) @ reference.vectors[channel])
        print(f"{kind} {dtype} {channel}: 1 - cosine from float32 = {distance:.1e}")
        # Counts of codes are equal in every precision.
        assert distance < TOLERANCE[dtype]
        assert np.array_equal(fingerprint.vectors[channel], reference.vectors[channel]) == (kind == "tokens")
    SpotCheck(lower)("song", codes, fingerprint)


def test_float16_backward_is_never_unscaled(model: MusicModel) -> None:
    for kind in ("stats", "jl", "gradient", "logra", "factgrass"):
        assert Specification.for_model(model, kind, dtype="float16").loss_scale >= 1024  # type: ignore[arg-type]
    values = Specification.for_model(model, "stats", dtype="float16").to_dict() | {"loss_scale": 1.0}
    with pytest.raises(ValueError, match="loss scale"):
        Specification.from_dict(values)


def test_the_loss_scale_leaves_no_trace(model: MusicModel, codes: SongCodes) -> None:
    specification = Specification.for_model(model, "stats")
    plain, scaled = (Fingerprinter(model, replace(specification, loss_scale=s))(codes) for s in (1.0, 256.0))
    for channel in ("P", "M"):
        np.testing.assert_allclose(scaled.vectors[channel], plain.vectors[channel], rtol=1e-4, atol=1e-7)


def test_a_wrong_vector_stops_the_job(model: MusicModel, codes: SongCodes) -> None:
    for dtype, message in (("float32", "computed twice differs"), ("bfloat16", "from float32, more")):
        fingerprinter = Fingerprinter(model, Specification.for_model(model, "influence", dtype=dtype))  # type: ignore[arg-type]
        made = fingerprinter(codes)
        wrong = Fingerprint(
            {"P": made.vectors["P"], "M": np.roll(made.vectors["M"], 1)}, {}, made.chunk_weights, made.norms
        )
        with pytest.raises(NumericsError, match=message):
            SpotCheck(fingerprinter)("song", codes, wrong)


def test_a_wrong_length_stops_the_job(model: MusicModel, codes: SongCodes) -> None:
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "influence"))
    made = fingerprinter(codes)
    wrong = replace(made, norms=made.norms | {"M": made.norms["M"] * (1 + 1e-12)})
    with pytest.raises(NumericsError, match="channel M computed twice differs"):
        SpotCheck(fingerprinter)("song", codes, wrong)


def test_one_song_in_64_is_checked_besides_the_first(model: MusicModel, monkeypatch: pytest.MonkeyPatch) -> None:
    check = SpotCheck(Fingerprinter(model, Specification.for_model(model, "influence")))
    checked: list[str] = []
    fingerprint = Fingerprint({}, {}, np.zeros(0), {})
    monkeypatch.setattr(check, "_reference", lambda codes: checked.append(codes.sha256))
    songs = [SongCodes((np.full((4, 9), i, np.uint16),), (0.0,)) for i in range(640)]
    for song in songs:
        check("song", song, fingerprint)
    assert checked[0] == songs[0].sha256
    assert 3 < len(checked) < 22
