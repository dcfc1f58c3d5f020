"""`lumina scores`: any method, between two sets of fingerprinted songs."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import answer


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
    as_json: JsonOption = False,
) -> None:
    """Score a catalog for queries by any method: raw scores, without calibration, confidence or shares."""
    import pyarrow.parquet as pq

    from lumina_ray.files import atomic_path
    from lumina_ray.methods.table import score_table
    from lumina_ray.storage import locate
    from lumina_ray.store import open_store

    songs, asked = ([open_store(locate(store)) for store in stores] for stores in (catalog, queries))
    table = score_table(method, songs, asked, learning_rate or (), top)
    if out is not None:
        with atomic_path(out) as temporary:
            pq.write_table(table, temporary)
    rows = table.to_pylist()
    lines = [f"{r['query_id']}  {r['channel']}  {r['rank']:>3}  {r['score']:>12.5g}  {r['song_id']}" for r in rows]
    answer({"method": method, "scores": rows}, "\n".join(lines), as_json)
