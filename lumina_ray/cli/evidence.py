"""`lumina evidence …`: what recordings share, by their sound alone."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumina_ray.cli.catalog import progress_bar
from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.errors import UsageError
from lumina_ray.storage import Location, locate
from lumina_ray.vocabulary import counted

if TYPE_CHECKING:
    from lumina_ray.evidence import EvidenceTable

evidence = typer.Typer(
    help="What recordings share, notes or sound, by their audio alone: covers, stems, one band's other songs.",
    no_args_is_help=True,
)

_SHARES = {"composition": "shares notes", "sound": "shares sound"}


@evidence.command()
def build(
    songs: Annotated[
        str,
        typer.Argument(
            help="A manifest of songs (`lumina catalog scan` makes one), or a finished store or living catalog, which "
            "has evidence already."
        ),
    ],
    out: Annotated[Path, typer.Option(parser=output_path, metavar="FILE", help="The table to write (.parquet).")],
    controls: Annotated[
        bool,
        typer.Option("--controls", help="The songs are controls: describe each at several speeds, as queries are."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute the evidence of every song of a manifest, in one process; no model is needed."""
    from lumina_ray.evidence import write_table

    place = locate(songs)
    if place.is_dir() and controls:
        raise UsageError(f"{songs}: a store describes songs at one speed; give --controls a manifest")
    table = _of_store(place) if place.is_dir() else _of_manifest(songs, controls)
    write_table(table, out)
    for song_id, why in table.failed:
        announce(f"{song_id}: {why}")
    n_chunks = sum(table.chunks)
    answer(
        {"evidence": str(out), "songs": len(table.song_ids), "chunks": n_chunks, "failed": dict(table.failed)},
        f"{out}: {counted(len(table.song_ids), 'song')}, {counted(n_chunks, 'chunk')}, {len(table.failed)} failed",
        as_json,
    )


def _of_manifest(manifest: str, controls: bool) -> "EvidenceTable":
    from lumina_ray.catalog.manifest import read_manifest
    from lumina_ray.evidence import EvidenceTable

    songs = read_manifest(manifest)
    pairs = zip(songs["song_id"].to_pylist(), songs["path"].to_pylist(), strict=True)
    with progress_bar("songs") as update:
        return EvidenceTable.of_songs(pairs, len(songs), update, asks=controls)


def _of_store(place: Location) -> "EvidenceTable":
    from lumina_ray.evidence import EvidenceTable
    from lumina_ray.evidence.kept import by_chunk
    from lumina_ray.store import stream_store

    store = stream_store(place)
    found = {store.song_ids[row]: vectors for row, vectors in store.evidence()}
    rows = {song_id: by_chunk(vectors) for song_id, vectors in sorted(found.items()) if vectors is not None}
    if not rows:
        raise UsageError(f"{place}: an earlier version made it, without evidence: give the manifest of its songs")
    failed = [(song_id, "an earlier version fingerprinted it") for song_id in sorted(found.keys() - rows.keys())]
    return EvidenceTable.of_chunks(list(rows), list(rows.values()), failed)


@evidence.command()
def search(
    query: Annotated[str, typer.Argument(help="An audio file.")],
    catalog: Annotated[str, typer.Option(help="The table of the songs that are searched (`lumina evidence build`).")],
    controls: Annotated[
        str,
        typer.Option(help="The table (`--controls`) of at least 20 songs that have nothing to do with the catalog."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Songs that are shown of each kind of evidence.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Find the songs that share notes, and those that share sound, with a query.

    It says nothing of why: a model's output may share notes with a song that it never heard.
    """
    from lumina_ray.evidence import EVIDENCE, EvidenceTable, find, noise_band, read_table

    songs, unrelated = read_table(catalog), read_table(controls)
    asked = EvidenceTable.of_songs([(query, query)], asks=True)
    found = {name: find(asked, songs, noise_band(songs, unrelated, name), name)[:top] for name in EVIDENCE}
    lines = [
        f"{_SHARES[name]:<12}  {one.song_id}  similarity {one.similarity:.3f}  z {one.z:.1f}  p {one.p_value:.3f}"
        for name, matches in found.items()
        for one in matches
    ]
    answer(
        {"query": query, "evidence": {name: [asdict(one) for one in matches] for name, matches in found.items()}},
        "\n".join(lines),
        as_json,
    )


@evidence.command()
def features(
    store: Annotated[str, typer.Argument(help="A finished store, or a living catalog.")],
    out: Annotated[Path, typer.Option(parser=output_path, metavar="FILE", help="The table to write (.parquet).")],
    as_json: JsonOption = False,
) -> None:
    """Write harmony, rhythm and timbre of each song of a store as a table for `lumina diagnose`; no audio is read.

    A song without them has a row, whose `error` says why.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lumina_ray.evidence.aspects import song_features
    from lumina_ray.files import atomic_path
    from lumina_ray.store import stream_store

    opened = stream_store(locate(store))
    rows: list[dict[str, Any]] = [
        {"song_id": opened.song_ids[row], "error": None if vectors else "an earlier version fingerprinted it"}
        | (song_features(vectors) if vectors else {})
        for row, vectors in opened.evidence()
    ]
    rows += opened.failed.select(["song_id", "error"]).to_pylist()
    if not (described := sum(row["error"] is None for row in rows)):
        raise UsageError(f"{store}: no song has shared evidence: fingerprint the catalog again with this version")
    columns = next(row for row in rows if row["error"] is None)
    lists = [pa.field(name, pa.list_(pa.float32())) for name in columns if name not in ("song_id", "error")]
    schema = pa.schema([pa.field("song_id", pa.string()), pa.field("error", pa.string()), *lists])
    with atomic_path(out) as temporary:
        pq.write_table(pa.Table.from_pylist(sorted(rows, key=lambda row: row["song_id"]), schema=schema), temporary)
    failed = len(rows) - described
    answer(
        {"features": str(out), "songs": described, "failed": failed},
        f"{out}: {counted(described, 'song')}, {failed} failed",
        as_json,
    )
