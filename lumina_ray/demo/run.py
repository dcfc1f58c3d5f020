"""`lumina demo`: the whole system from end to end, stage by stage, with the functions that a user would call."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import soundfile
from rich.console import Console
from rich.table import Table

from lumina_ray.attribution import Report
from lumina_ray.audio import load_audio, load_chunks
from lumina_ray.audio.encode import encode_mp3
from lumina_ray.catalog import read_manifest, write_manifest
from lumina_ray.cli.catalog import progress_bar
from lumina_ray.demo import build_demo_catalog
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, Kind

_MP3_BIT_RATE = 64_000
_GENERATED_S = 20.0
_SEED = 7
_REQUEST_TIMEOUT_S = 120.0
# Kinds of fingerprints that the default is shown beside.
_PUBLISHED: tuple[Kind, ...] = ("stats", "jl")


@dataclass
class Stages:
    """Announces each stage and remembers how long it took."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a stage, and time the block."""
        self.console.rule(f"[bold]{len(self.seconds) + 1}. {title}", align="left")
        begin_s = time.monotonic()
        yield
        self.seconds[title] = time.monotonic() - begin_s

    def table(self) -> Table:
        """All stages so far, with their seconds."""
        table = Table("stage", "seconds", title="How long it took")
        for title, seconds in self.seconds.items():
            table.add_row(title, f"{seconds:.1f}")
        table.add_row("all", f"{sum(self.seconds.values()):.1f}", style="bold")
        return table


@dataclass(frozen=True)
class Query:
    """A file that the demo attributes.

    Attributes:
        name: stem of the report's files.
        path: the audio file.
        what: a description for people.
    """

    name: str
    path: Path
    what: str


def run_demo(out: Path, port: int, model: str) -> None:
    """Run the whole system on real music, and print the results.

    Stores, index and reports of an earlier demo in `out` are replaced. Its rendered catalog is used again.

    Args:
        out: folder to write to.
        port: port of the endpoint.
        model: the name of a bundled model: each was trained on the demo's catalog.
    """
    from cluster.fingerprint import run_fingerprint_job
    from cluster.session import ray_session
    from lumina_ray.calibration import calibrate_store, write_calibration
    from lumina_ray.fingerprint.default import default_kind
    from lumina_ray.index import build_index
    from lumina_ray.report import print_table, render_html, to_json
    from lumina_ray.store import read_store

    console = Console(stderr=True)
    stages = Stages(console)
    for stale in ("stores", "index", "queries", "reports"):
        shutil.rmtree(out / stale, ignore_errors=True)
    stores, index, reports = out / "stores", out / "index", out / "reports"
    kind = default_kind(model)

    with stages.stage("Catalog: render real scores"):
        with progress_bar("rendering") as update:
            built = build_demo_catalog(out / "catalog", update)
        console.print(f"{built.n_catalog} catalog songs, {built.n_controls} controls the model never saw")
        held_out, controls = hold_out_one(built.controls, out / "catalog" / "calibration.parquet")

    # All stages below use one Ray. Each command by itself would start its own.
    with ray_session():
        with stages.stage(f"Fingerprints: {kind}, catalog and controls"):
            run_fingerprint_job(built.catalog, stores / kind, model=model, kind=kind)
            run_fingerprint_job(controls, stores / "controls", model=model, kind=kind)
        with stages.stage(f"Fingerprints: {' and '.join(_PUBLISHED)}, from what is stored of the music"):
            for published in _PUBLISHED:
                run_fingerprint_job(stores / kind, stores / published, model=model, kind=published)
        with stages.stage("Calibration and index"):
            catalog = read_store(stores / kind)
            write_calibration(calibrate_store(catalog, read_store(stores / "controls")), catalog.path)
            console.print(f"index snapshot {build_index(catalog, index)}", markup=False)
        with stages.stage("Queries: a re-encoded song, a generated clip, a control"):
            song_id, queries = make_queries(model, built.catalog, held_out, built.queries, out / "queries")
        with stages.stage("Endpoint: attribute them over HTTP"):
            answers = ask_endpoint(queries, index, port)
    reports.mkdir(parents=True)
    for query, report in answers:
        (reports / f"{query.name}.json").write_text(to_json(report), encoding="utf-8")
        (reports / f"{query.name}.html").write_text(render_html(report), encoding="utf-8")
        console.rule(f"[bold]{query.what}", align="left")
        print_table(report, console, top=3)

    with stages.stage(f"Ranks: where {' and '.join(_PUBLISHED)} put the re-encoded song"):
        ranks = {name: ranks_of(model, song_id, queries[0].path, stores / name) for name in (kind, *_PUBLISHED)}
    console.print(_ranks_table(song_id, built.n_catalog, ranks))
    console.print(stages.table())
    for query, _ in answers:
        console.print(f"report: {(reports / f'{query.name}.html').resolve().as_uri()}", soft_wrap=True, markup=False)


def hold_out_one(controls: Path, rest: Path) -> tuple[Path, Path]:
    """Remove the last control from the controls, so that the calibration knows it no better than any query.

    Args:
        controls: manifest of the controls.
        rest: path at which the manifest of the other controls is written.

    Returns:
        The audio file of the removed control, and `rest`.
    """
    table = read_manifest(controls)
    write_manifest(table.slice(0, len(table) - 1), rest)
    return Path(table["path"][-1].as_py()), rest


def make_queries(model: str, catalog: Path, control: Path, others: Path, folder: Path) -> tuple[str, list[Query]]:
    """Write the files to attribute.

    Returns:
        The id of the catalog song that the first query is a copy of, and the queries.
    """
    from lumina_ray.model import open_model

    folder.mkdir(parents=True)
    songs = read_manifest(catalog).sort_by("song_id")
    chosen = songs.slice(len(songs) // 2, 1).to_pylist()[0]
    reencoded, generated = folder / "reencoded.mp3", folder / "generated.flac"
    encode_mp3(load_audio(chosen["path"]).samples, reencoded, _MP3_BIT_RATE)
    soundfile.write(generated, open_model(model).generate(_GENERATED_S, _SEED), SAMPLE_RATE_HZ)
    other = read_manifest(others).to_pylist()[0]
    return chosen["song_id"], [
        Query("reencoded", reencoded, f"A catalog song as MP3 at 64 kbit/s: “{chosen['title']}” ({chosen['song_id']})"),
        Query("generated", generated, f"Generated by {model}, which was trained on the catalog"),
        Query("control", control, f"A control track that neither model nor calibration ever saw: {control.stem}"),
        Query("other-generator", Path(other["path"]), f"Generated by another model: “{other['title']}”"),
    ]


def ask_endpoint(queries: list[Query], index: Path, port: int) -> list[tuple[Query, Report]]:
    """Start the endpoint, post every query to it, and stop it."""
    from serve.app import ServeArgs, start

    with (
        start(ServeArgs(index=index.resolve(), open_access=True), port=port, blocking=False) as server,
        httpx.Client(base_url=server.address, timeout=_REQUEST_TIMEOUT_S, trust_env=False) as client,
    ):
        answers = []
        for query in queries:
            files = {"audio": (query.path.name, query.path.read_bytes())}
            response = client.post("/v1/attributions", files=files).raise_for_status()
            answers.append((query, Report.model_validate_json(response.content)))
        return answers


def ranks_of(model: str, song_id: str, audio: Path, store_path: Path) -> dict[str, int]:
    """The song's rank by similarity to some audio, in each channel of a store; 1 is the most similar song."""
    from lumina_ray.fingerprint import Fingerprinter, fingerprint_query
    from lumina_ray.model import open_model
    from lumina_ray.store import read_store

    store = read_store(store_path)
    fingerprinter = Fingerprinter(open_model(model, dtype=store.specification.torch_dtype), store.specification)
    query = fingerprint_query(fingerprinter, load_chunks(audio))
    row = store.song_ids.index(song_id)
    similarities = {c: store.vectors(c) @ channel.vector for c, channel in query.channels.items()}
    return {c: int((values > values[row]).sum()) + 1 for c, values in similarities.items()}


def _ranks_table(song_id: str, n_songs: int, ranks: dict[str, dict[str, int]]) -> Table:
    table = Table("fingerprint", "P", "M", title=f"Rank of the re-encoded song {song_id} among {n_songs}")
    for kind, by_channel in ranks.items():
        table.add_row(kind, str(by_channel["P"]), str(by_channel["M"]))
    return table
