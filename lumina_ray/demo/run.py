"""`lumina demo`: the whole system from end to end, stage by stage, with the functions that a user would call."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from lumina_ray.attribution import Report
from lumina_ray.audio import load_chunks
from lumina_ray.cli.catalog import progress_bar
from lumina_ray.demo import build_demo_catalog
from lumina_ray.demo.queries import Query, hold_out_one, make_own_pieces, make_queries
from lumina_ray.model.files import REFERENCE
from lumina_ray.truth.shipped_card import retraining_says
from lumina_ray.vocabulary import DEFAULT_METHOD, Kind

_REQUEST_TIMEOUT_S = 120.0
# Kinds of fingerprints that the default is shown beside: published ones, and what merely sounds alike.
_BESIDE: tuple[Kind, ...] = ("stats", "jl", "embedding:musicnn")
# Models with the codec of `REFERENCE`.
_WITH_REFERENCE = ("nano", "nano-early")


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


def run_demo(out: Path, port: int, model: str) -> None:
    """Run the whole system on real music, and print the results.

    Stores, index and reports of an earlier demo in `out` are replaced. Its rendered catalog is used again.

    Args:
        out: folder to write to.
        port: port of the endpoint.
        model: the name of a bundled model: each was trained on the demo's catalog.
    """
    from cluster.fingerprint import run_fingerprint_job
    from cluster.membership import measure_membership
    from cluster.session import ray_session
    from lumina_ray.calibration import calibrate_store, write_calibration
    from lumina_ray.calibration.membership import write_membership
    from lumina_ray.fingerprint.default import default_kind
    from lumina_ray.index import build_index
    from lumina_ray.model import open_model
    from lumina_ray.report import print_table, render_html, to_json
    from lumina_ray.store import read_store, stream_store

    console = Console(stderr=True)
    stages = Stages(console)
    for stale in ("stores", "index", "pieces", "queries", "reports"):
        shutil.rmtree(out / stale, ignore_errors=True)
    stores, index, reports = out / "stores", out / "index", out / "reports"
    kind = default_kind(model)

    with stages.stage("Catalog: render real scores"):
        with progress_bar("rendering") as update:
            built = build_demo_catalog(out / "catalog", update)
        console.print(f"{built.n_catalog} catalog songs, {built.n_controls} controls the model never saw")
        held_out, controls = hold_out_one(built.controls, out / "catalog" / "calibration.parquet")
    with stages.stage(f"Music that {model} makes up"):
        maker = open_model(model, "cpu")
        pieces = make_own_pieces(maker, built.catalog, out / "pieces")
        song_id, queries = make_queries(maker, built.catalog, held_out, built.queries, out / "queries")

    # All stages below use one Ray. Each command by itself would start its own.
    with ray_session():
        with stages.stage(f"Fingerprints: {kind}, catalog, controls and {model}'s own pieces"):
            for manifest, name in ((built.catalog, kind), (controls, "controls"), (pieces, "pieces")):
                run_fingerprint_job(manifest, stores / name, model=model, kind=kind)
        with stages.stage(f"Fingerprints: {', '.join(_BESIDE)}, from what is stored of the music"):
            for other in _BESIDE:
                run_fingerprint_job(stores / kind, stores / other, model=model, kind=other)
        with stages.stage("Calibration"):
            catalog = read_store(stores / kind)
            noise = calibrate_store(catalog, stores / "controls", pieces=stores / "pieces")
            write_calibration(noise, catalog.path)
        if model in _WITH_REFERENCE:
            with stages.stage(f"Evidence of use, beside {REFERENCE}, which never heard the catalog"):
                of_stores = stream_store(stores / kind), stream_store(stores / "controls")
                found = measure_membership(*of_stores, [REFERENCE], model=model)
                write_membership(found, catalog.path)
                console.print(f"{found.n_significant} of {len(found.songs)} songs have p ≤ 0.05")
        with stages.stage("Index"):
            console.print(f"index snapshot {build_index(catalog, index)}", markup=False)
        with stages.stage(f"Endpoint: attribute {len(queries)} files over HTTP"):
            answers = ask_endpoint(queries, index, port)
    reports.mkdir(parents=True)
    for query, report in answers:
        (reports / f"{query.name}.json").write_text(to_json(report), encoding="utf-8")
        (reports / f"{query.name}.html").write_text(render_html(report), encoding="utf-8")
        console.rule(f"[bold]{query.what}", align="left")
        print_table(report, console, top=3)

    with stages.stage(f"Ranks: where {', '.join(_BESIDE)} put the re-encoded song"):
        ranks = {name: ranks_of(model, song_id, queries[0].path, stores / name) for name in (kind, *_BESIDE)}
    console.print(_ranks_table(song_id, built.n_catalog, ranks))
    console.print(_findings_table(answers, kind))
    console.print(stages.table())
    for query, _ in answers:
        console.print(f"report: {(reports / f'{query.name}.html').resolve().as_uri()}", soft_wrap=True, markup=False)


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


def _findings_table(answers: list[tuple[Query, Report]], kind: Kind) -> Table:
    from lumina_ray.report.sentences import findings

    table = Table("query", title="What was found, and what retraining says of such queries", show_lines=True)
    told = [dict(findings(report)) for _, report in answers]
    for name in (*told[0], "Retraining, on the bank of small models"):
        table.add_column(name, overflow="fold")
    for (query, _), sentences in zip(answers, told, strict=True):
        retraining = retraining_says(query.kind) if kind == DEFAULT_METHOD else f"Not asked of {kind}."
        table.add_row(query.what, *sentences.values(), retraining)
    return table


def _ranks_table(song_id: str, n_songs: int, ranks: dict[str, dict[str, int]]) -> Table:
    table = Table("fingerprint", "P", "M", title=f"Rank of the re-encoded song {song_id} among {n_songs}")
    for kind, by_channel in ranks.items():
        table.add_row(kind, str(by_channel["P"]), str(by_channel["M"]))
    return table
