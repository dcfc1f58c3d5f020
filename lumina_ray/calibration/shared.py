"""Noise of shared evidence: the notes and sound that unrelated music shares with the songs of a catalog.

`lumina_ray.evidence` describes both.

A track's **likeness** to a song is the mean, over half of its chunks and six at most, of the cosine with the song's
most similar chunk, less the mean of that over other songs of the catalog (the *hub* of the song): a long song, or one
that resembles everything, has no advantage. What is taken off depends on the catalog alone. So, where query and
controls are exchangeable, `p = (1 + #{controls whose best song is as alike}) / (C + 1)` is exact for the best of all
songs, and too large for any other (a conformal p-value).

Shape legend: N = songs, T = tracks that ask, A = their chunks, C = controls, n = chunks of songs, D = numbers of a
vector.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumina_ray.errors import StoreError
from lumina_ray.files import atomic_path
from lumina_ray.storage import AnyPath, Location, locate
from lumina_ray.vocabulary import COMPARED, Compared, Evidence

if TYPE_CHECKING:
    from lumina_ray.store import Store

SHARED_FILE = "shared.parquet"
REFERENCES = 128
"""Songs of the catalog that others are compared with, at most."""
MIN_SONGS = 10
"""With fewer, a catalog has no noise of its own."""
ALIKE_Z = 2.0
"""Two songs are called alike in an aspect from here on."""
_METADATA_KEY = b"lumina_ray_shared"
_CHUNKS_AT_ONCE = 8192
# Pairs of songs that `chance` is counted among, at most.
_PAIRS = 1 << 20

Vectors = dict[Evidence, np.ndarray]
Parts = dict[Compared, np.ndarray]


class SharedNoise(BaseModel):
    """The likeness of unrelated music, in one kind or aspect of shared evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    std: float = Field(description="Standard deviation of the likeness of reference songs to other songs.", gt=0)
    chance: float = Field(description="How often a reference song has a z of 2 or more with another song.")
    control_maxima: tuple[float, ...] = Field(description="Each control's likeness to its most alike song, descending.")


class SharedBasis(BaseModel):
    """The stores and settings that the noise of shared evidence was measured with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: str = Field(description="Version of the software's evidence.")
    catalog_sha256: str = Field(description="sha256 of ids, codes and vectors of the catalog store.")
    controls_sha256: str = Field(description="sha256 of ids, codes and vectors of the control store.")
    n_references: int = Field(description="Songs of the catalog that each song was compared with.")
    noise: dict[Compared, SharedNoise]

    @property
    def n_controls(self) -> int:
        """Controls with evidence; none where their store was made before stores had any."""
        return len(self.noise["sound"].control_maxima)


@dataclass(frozen=True)
class Shared:
    """The noise of shared evidence of a catalog.

    Attributes:
        songs: song_id; `chunks`, 0 where a song has no evidence; and the hub of each song in each of `COMPARED`,
            float64, NaN where it has none.
    """

    basis: SharedBasis
    songs: pa.Table


def hub_column(compared: Compared) -> str:
    """Name of the column with the hub of each song."""
    return f"{compared}_hub"


def measure_shared(
    store: "Store",
    rows: np.ndarray,
    references: np.ndarray,
    controls: "Store",
    control_rows: np.ndarray,
    hashes: tuple[str, str],
) -> Shared | None:
    """Measure how alike songs of a catalog are to each other, and controls to them.

    Args:
        rows: of the songs that may be found, ascending.
        references: places among `rows` of the calibration's reference songs.
        control_rows: of the distinct controls.
        hashes: of catalog and controls.

    Returns:
        None where fewer than `MIN_SONGS` reference songs have evidence of this version of the software.

    Raises:
        StoreError: damaged evidence.
    """
    from lumina_ray.evidence.kept import evidence_version

    place_of = {int(row): place for place, row in enumerate(rows)}
    wanted = {int(rows[place]) for place in references[:REFERENCES]}
    asked = {row: _asked(vectors) for row, vectors in store.evidence() if row in wanted and vectors}
    if len(asked) < MIN_SONGS:
        return None
    rows_of_controls = {int(row) for row in control_rows}
    of_controls = [_asked(vectors) for row, vectors in controls.evidence() if row in rows_of_controls and vectors]
    tracks = [*asked.values(), *of_controls]
    reference_R = np.array([place_of[row] for row in asked])
    chunks_N = np.zeros(len(rows), np.int32)
    hubs = {name: np.full(len(rows), np.nan) for name in COMPARED}
    maxima = {name: np.full(len(of_controls), -np.inf) for name in COMPARED}
    squares = dict.fromkeys(COMPARED, 0.0)
    likeness: dict[Compared, list[np.ndarray]] = {name: [] for name in COMPARED}
    freedom = pairs = 0
    songs = ((place_of[row], vectors) for row, vectors in store.evidence() if row in place_of and vectors)
    for block in _blocks(songs):
        places = np.array([place for place, _ in block])
        chunks_N[places] = [len(vectors["sound"]) for _, vectors in block]
        others_RN = reference_R[:, None] != places
        freedom += int((others_RN.sum(axis=0) - 1).sum())
        parts = [_parts(vectors) for _, vectors in block]
        for name in COMPARED:
            similarity_TN = similarities([of[name] for of in tracks], [of[name] for of in parts])
            of_references, of_others = np.split(similarity_TN, [len(asked)])
            hub_N = of_references.mean(axis=0, where=others_RN)
            hubs[name][places] = hub_N
            squares[name] += float((((of_references - hub_N) ** 2) * others_RN).sum())
            maxima[name] = np.maximum(maxima[name], (of_others - hub_N).max(axis=1))
            if pairs < _PAIRS:
                likeness[name].append((of_references - hub_N)[others_RN])
        pairs += others_RN.size
    std = {name: max((squares[name] / freedom) ** 0.5, 1e-9) for name in COMPARED}
    basis = SharedBasis(
        version=evidence_version(),
        catalog_sha256=hashes[0],
        controls_sha256=hashes[1],
        n_references=len(asked),
        noise={
            name: SharedNoise(
                std=std[name],
                chance=float((np.concatenate(likeness[name]) >= ALIKE_Z * std[name]).mean()),
                control_maxima=tuple(np.sort(maxima[name])[::-1].tolist()),
            )
            for name in COMPARED
        },
    )
    columns = {"song_id": pa.array([store.song_ids[row] for row in rows]), "chunks": pa.array(chunks_N)}
    columns |= {hub_column(name): pa.array(hub_N) for name, hub_N in hubs.items()}
    return Shared(basis, pa.table(columns))


def similarities(tracks: Sequence[np.ndarray], songs: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the mean over a track's chunks of the best cosine with a song's chunks, float64 `[T, N]`.

    Args:
        tracks, songs: unit vectors of each one's chunks, `[·, D]`.
    """
    asked_AD, heard_nD = (np.concatenate(of).astype(np.float32) for of in (tracks, songs))
    firsts_T, firsts_N = (np.concatenate([[0], np.cumsum([len(one) for one in of])[:-1]]) for of in (tracks, songs))
    best_AN = np.maximum.reduceat(asked_AD @ heard_nD.T, firsts_N, axis=1)
    sums_TN = np.add.reduceat(best_AN.astype(np.float64), firsts_T, axis=0)
    return sums_TN / np.array([len(one) for one in tracks])[:, None]


def write_shared(shared: Shared | None, store_path: AnyPath) -> None:
    """Write `shared.parquet` into a store or snapshot, whole or not at all; None deletes what is there."""
    path = locate(store_path) / SHARED_FILE
    if shared is None:
        path.unlink(missing_ok=True)
        return
    metadata = {_METADATA_KEY: json.dumps(shared.basis.model_dump(), sort_keys=True)}
    with atomic_path(path) as partial:
        pq.write_table(shared.songs.replace_schema_metadata(metadata), partial)


def read_shared(folder: Location) -> Shared | None:
    """Read what `write_shared` wrote; None if there is none.

    Raises:
        StoreError: damaged.
    """
    file = folder / SHARED_FILE
    if not file.is_file():
        return None
    try:
        # `pq.read_table` imports pandas.
        table = pq.ParquetFile(pa.BufferReader(file.read_bytes())).read()
        basis = SharedBasis.model_validate_json((table.schema.metadata or {})[_METADATA_KEY])
        columns = {"song_id": pa.string(), "chunks": pa.int32()} | {hub_column(name): pa.float64() for name in COMPARED}
        return Shared(basis, table.select(list(columns)).replace_schema_metadata().cast(pa.schema(columns.items())))
    except (pa.ArrowException, KeyError, ValueError, ValidationError) as error:
        raise StoreError(
            f"{file} is damaged or of another software version ({error}); run `lumina calibrate` again, or delete it"
        ) from error


def current_shared(store: "Store", data_sha256: str, song_ids: Sequence[str]) -> Shared | None:
    """Read a store's noise of shared evidence; None where it has none that is of these songs and this software.

    Args:
        song_ids: of the songs that may be found.
    """
    from lumina_ray.evidence.kept import evidence_version

    shared = read_shared(store.path)
    if shared is None or shared.basis.version != evidence_version() or shared.basis.catalog_sha256 != data_sha256:
        return None
    return shared if shared.songs["song_id"].to_pylist() == list(song_ids) else None


def _asked(vectors: Vectors) -> Parts:
    from lumina_ray.evidence.kept import asking

    return _parts({name: of[asking(len(of))] for name, of in vectors.items()})


def _parts(vectors: Vectors) -> Parts:
    from lumina_ray.evidence.aspects import part_of

    return {name: part_of(name, vectors) for name in COMPARED}


def _blocks(songs: Iterable[tuple[int, Vectors]]) -> Iterator[list[tuple[int, Vectors]]]:
    """Songs in lists of so many chunks, or a little more."""
    block: list[tuple[int, Vectors]] = []
    n = 0
    for song in songs:
        block.append(song)
        n += len(song[1]["sound"])
        if n >= _CHUNKS_AT_ONCE:
            yield block
            block, n = [], 0
    if block:
        yield block
