"""`lumina status` and `lumina failed`: how far a store is, and the songs that failed."""

from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption
from lumina_ray.cli.output import answer
from lumina_ray.storage import locate


def status(
    store: Annotated[str, typer.Argument(help="A store, finished or not.")],
    as_json: JsonOption = False,
) -> None:
    """Show how far a store is: songs, failures and rate, from its files alone, also without its job."""
    from lumina_ray.store import store_status

    found = store_status(locate(store))
    answer(found.to_dict(), found.sentence, as_json)


def failed(
    store: Annotated[str, typer.Argument(help="A store, finished or not.")],
    as_json: JsonOption = False,
) -> None:
    """List the failed songs of a store, and why they failed."""
    from lumina_ray.store import failed_rows, read_run

    read_run(locate(store))
    rows = failed_rows(locate(store))
    ids, codes = (max((len(row[column]) for row in rows), default=0) for column in ("song_id", "error_code"))
    lines = [f"{row['song_id']:{ids}}  {row['error_code']:{codes}}  {row['error']}" for row in rows]
    answer({"failed": rows}, "\n".join(lines) or "No song failed.", as_json)
