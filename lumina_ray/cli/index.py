"""`lumina index`: the snapshot that attribution searches."""

from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption
from lumina_ray.cli.output import announce, answer, warn_of_collapse
from lumina_ray.vocabulary import counted


def index(
    store: Annotated[str, typer.Argument(help="A finished, calibrated store, or a living catalog.")],
    out: Annotated[str, typer.Option(help="The index folder; a new snapshot is added to it.")],
    kind: Annotated[
        str, typer.Option(help="auto (by size and memory) or a FAISS factory string, such as IVF1024,SQ8 or HNSW32.")
    ] = "auto",
    memory_gib: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Memory that the index may take on a host that searches it; default: 0.35 of this one.",
        ),
    ] = None,
    recall: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="recall@100 that an approximate index must reach.")
    ] = 0.99,
    parallel: Annotated[
        bool,
        typer.Option(
            "--parallel",
            help="Build the pieces of an approximate index on Ray, all at once; locally without RAY_ADDRESS.",
        ),
    ] = False,
    effects: Annotated[
        str | None,
        typer.Option(
            help="A file by `lumina effects fit` for this very model, fingerprint and catalog: reports then tell "
            "influence in nats. Without it, shares tell likeness alone."
        ),
    ] = None,
    effects_kind: Annotated[
        str | None,
        typer.Option(help="The kind of query that they were fitted on, such as captioned, where the file has several."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a calibrated store searchable: build the next immutable snapshot of a FAISS index.

    Example: `lumina index store --out index`
    """
    from lumina_ray.front.index import build_snapshot
    from lumina_ray.index import load_snapshot

    path = build_snapshot(
        store,
        out,
        kind=kind,
        memory_gib=memory_gib,
        recall=recall,
        parallel=parallel,
        effects=effects,
        effects_kind=effects_kind,
    )
    snapshot = load_snapshot(path)
    indexes = {c: facts.model_dump(mode="json", exclude_unset=True) for c, facts in snapshot.record.indexes.items()}
    kinds = ", ".join(f"{channel} {facts.kind}" for channel, facts in snapshot.record.indexes.items())
    answer(
        {"snapshot": str(path), "version": snapshot.version, "songs": len(snapshot), "indexes": indexes},
        f"{path}: {counted(len(snapshot), 'song')}; {kinds}",
        as_json,
    )
    warn_of_collapse(snapshot.calibration)
    if snapshot.shared is None:
        announce(
            "No shared evidence: reports will not say whether a song shares notes or sound. Stores of this version "
            "have it. Fingerprint catalog (10 songs or more) and controls again, calibrate, and build the index again."
        )
