"""Catalogs with known structure: a common direction that all music shares, genres, hubs; written as real stores."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lumina_ray.calibration.membership import Membership, judge_membership
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.fingerprint import Specification
from lumina_ray.fingerprint.observed import Observed
from lumina_ray.store import Run, Store, begin_run, read_store, store_schema
from lumina_ray.store.schema import norm_column
from lumina_ray.vocabulary import ChannelQuery, QueryFingerprint

DIMS = {"P": 96, "M": 64}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@dataclass
class World:
    """A source of vectors of one channel; everything drawn from it by `music` is exchangeable."""

    rng: np.random.Generator
    dims: int

    def __post_init__(self) -> None:
        self.common = unit(self.rng.normal(size=self.dims))
        self.genres = unit(self.rng.normal(size=(8, self.dims)))

    def noise(self, n: int) -> np.ndarray:
        return unit(self.rng.normal(size=(n, self.dims)))

    def music(self, n: int, common: float = 0.0) -> np.ndarray:
        """`[n, D]` float32; `common` is added to every track's loading on the common direction."""
        loading = self.rng.gamma(4, 0.1, size=(n, 1)) + common
        genre = self.genres[self.rng.integers(len(self.genres), size=n)]
        return unit(loading * self.common + 0.35 * genre + 0.8 * self.noise(n)).astype(np.float32)

    def hubs(self, n: int) -> np.ndarray:
        return unit(1.5 * self.common + self.noise(n)).astype(np.float32)


def mixture(songs: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """Tracks that are `weight` one song and the rest unrelated."""
    return unit(weight * songs + (1 - weight) * other).astype(np.float32)


def specification(weights_sha256: str = "a" * 64) -> Specification:
    return Specification("influence", weights_sha256, DIMS, {"P": [], "M": []}, [1.0] * 4, 422024, 4)


def write_store(
    path: Path,
    vectors: dict[str, np.ndarray],
    prefix: str = "song",
    spec: Specification | None = None,
    ids: list[str] | None = None,
    codes_sha256: list[str] | None = None,
    title: str = "Title {}",
    finished: bool = True,
    facts: list[dict] | None = None,
) -> Store:
    """A finished store with these vectors, read back."""
    spec = spec or specification()
    n = len(vectors["P"])
    ids = ids or [f"{prefix}-{i:04d}" for i in range(n)]
    rows = [
        dict.fromkeys(METADATA_COLUMNS)
        | {
            "song_id": ids[i],
            "status": "ok",
            "path": f"{ids[i]}.wav",
            "title": title.format(i),
            "creator": f"Composer {i % 7}",
            "isrc": f"XX-AAA-26-{i:05d}",
            "audio_sha256": f"{i:064x}",
            "duration_s": 30.0 + i,
            "codes_sha256": codes_sha256[i] if codes_sha256 else f"{prefix}{i}",
            "codes": b"",
            "heard": np.packbits(np.ones(500, bool)).tobytes(),
            "chunk_frames": [500],
            "chunk_starts_s": [0.0],
        }
        | {channel: of_channel[i] for channel, of_channel in vectors.items()}
        | {norm_column(channel): 1.0 for channel in vectors}
        | (facts[i] if facts else {})
        for i in range(n)
    ]
    begin_run(path, Run("0" * 64, n, "nano", spec, {"torch": "2"}))
    (path / "data").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=store_schema(spec)), path / "data" / "part-0.parquet")
    if finished:
        (path / "_SUCCESS").touch()
    return read_store(path)


def query(
    vectors: dict[str, np.ndarray], chunks: dict[str, np.ndarray] | None = None, spec_sha256: str = ""
) -> QueryFingerprint:
    """A query of as many 10 s chunks as `chunks` has rows (one, equal to the whole, by default)."""
    chunks = chunks or {c: v[None] for c, v in vectors.items()}
    n = len(chunks["P"])
    return QueryFingerprint(
        audio_sha256="b" * 64,
        codes_sha256="c" * 64,
        duration_s=10.0 * n,
        specification_sha256=spec_sha256 or specification().sha256,
        weights_sha256="a" * 64,
        channels={c: ChannelQuery(vectors[c], chunks[c]) for c in vectors},
        chunk_starts_s=tuple(10.0 * i for i in range(n)),
        chunk_durations_s=(10.0,) * n,
        chunk_weights=(1 / n,) * n,
        environment={"torch": "2.11.0", "device": "x86_64"},
    )


def demo_stores(
    folder: Path, n: int = 130, c: int = 50, seed: int = 0, title: str = "Title {}"
) -> tuple[Store, Store, dict[str, World]]:
    """Catalog and control store of exchangeable music, and the worlds that they came from."""
    worlds = {channel: World(np.random.default_rng(seed + i), dims) for i, (channel, dims) in enumerate(DIMS.items())}
    catalog = write_store(folder / "catalog", {ch: w.music(n) for ch, w in worlds.items()}, title=title)
    controls = write_store(folder / "controls", {ch: w.music(c) for ch, w in worlds.items()}, prefix="control")
    return catalog, controls, worlds


REFERENCES = (("a reference", "e" * 64), ("another", "d" * 64), ("a third", "c" * 64))


def membership_evidence(
    store: Store, controls: Store, learned: Iterable[int], seed: int = 0, n_references: int = 1
) -> Membership:
    """Log-likelihoods of a model that learned some rows of a store and none of its controls, judged.

    What was not learned has an excess between −0.1 and 0.1 nats per code, and the control with the largest has 0.1.
    All tracks have as many windows, which scatter as much; and so do the references.
    """
    rng = np.random.default_rng(seed)
    likelihoods = []
    for of, rows in ((store, set(learned)), (controls, set())):
        reference = rng.uniform(-6, -2, len(of.song_ids))
        excess = rng.uniform(-0.1, 0.05, len(of.song_ids))
        if of is controls:
            excess[:3] = 0.1
        excess[list(rows)] = 0.5
        around = 0.02 * (np.arange(n_references) - (n_references - 1) / 2)
        likelihoods.append(
            {
                song_id: Observed(r + x, tuple(r + around), 20, x, 0.01)
                for song_id, r, x in zip(of.song_ids, reference, excess, strict=True)
            }
        )
    return judge_membership(store, controls, *likelihoods, REFERENCES[:n_references])
