"""`lumina scores`: any method, between two sets of fingerprinted songs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from lumina_ray.unlearning import Score


def scores(
    method: Annotated[str, typer.Argument(help="Name of the method: see `lumina methods`.")],
    catalog: Annotated[
        list[str], typer.Option(help="A finished store of songs; one for each checkpoint, oldest first.")
    ],
    queries: Annotated[list[str], typer.Option(help="A finished store of queries; one for each checkpoint.")],
    learning_rate: Annotated[
        list[float] | None, typer.Option(help="Learning rate of the training at each checkpoint; tracin needs it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Songs of each query and channel.")] = 10,
    out: Annotated[
        Path | None, typer.Option(parser=output_path, metavar="FILE", help="A Parquet file for the table.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="unlearning: where the catalog's model lies now.")] = None,
    fisher: Annotated[
        Path | None, typer.Option(help="unlearning: a file of `lumina fisher`; by default the one beside the model.")
    ] = None,
    score: Annotated[
        Literal["plain", "relative", "mucs"], typer.Option(help="unlearning: how losses before and after are compared.")
    ] = "plain",
    layers: Annotated[
        Literal["cross_kv", "cross", "self", "mlp", "layers", "heads", "all"],
        typer.Option(help="unlearning: the weights that forget."),
    ] = "heads",
    as_json: JsonOption = False,
) -> None:
    """Score a catalog for queries by any method: raw scores, without calibration, confidence or shares.

    `unlearning` runs the model over the whole catalog for each query; with --out, the same command resumes it.
    """
    import pyarrow.parquet as pq

    from lumina_ray.files import atomic_path
    from lumina_ray.methods import METHODS
    from lumina_ray.methods.table import score_table
    from lumina_ray.storage import locate
    from lumina_ray.store import open_store

    if method in METHODS and METHODS[method].needs_model:
        if len(catalog) != 1 or len(queries) != 1 or learning_rate:
            raise UsageError(f"{method} takes one store of songs and one of queries, and no learning rates")
        table = _by_forgetting(catalog[0], queries[0], model, fisher, layers, score, top, out)
    elif model or fisher:
        raise UsageError(f"--model and --fisher are for unlearning; {method} compares vectors")
    else:
        songs, asked = ([open_store(locate(store)) for store in stores] for stores in (catalog, queries))
        table = score_table(method, songs, asked, learning_rate or (), top)
    if out is not None:
        with atomic_path(out) as temporary:
            pq.write_table(table, temporary)
    rows = table.to_pylist()
    lines = [f"{r['query_id']}  {r['channel']}  {r['rank']:>3}  {r['score']:>12.5g}  {r['song_id']}" for r in rows]
    answer({"method": method, "scores": rows}, "\n".join(lines), as_json)


def _by_forgetting(
    catalog: str,
    queries: str,
    model: str | None,
    fisher: Path | None,
    layers: str,
    score: "Score",
    top: int,
    out: Path | None,
) -> "pa.Table":
    import shutil
    import tempfile

    from lumina_ray.front.ray_address import check_ray_address
    from lumina_ray.storage import locate
    from lumina_ray.store import stream_store
    from lumina_ray.unlearning import Forgetting

    check_ray_address()
    from cluster.unlearning import unlearning_scores, unlearning_table

    parts = out.resolve().with_name(f".{out.name}.parts") if out else Path(tempfile.mkdtemp(prefix="lumina-"))
    how = Forgetting(layers=layers)  # type: ignore[arg-type]
    try:
        found = unlearning_scores(
            stream_store(locate(catalog)),
            stream_store(locate(queries)),
            parts,
            model=model,
            fisher=fisher and fisher.resolve(),
            how=how,
        )
    finally:
        if out is None:
            shutil.rmtree(parts, ignore_errors=True)
    return unlearning_table(found, score, top)
