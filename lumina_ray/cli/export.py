"""`lumina export`: a store in the published format."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.storage import locate
from lumina_ray.vocabulary import counted


def export(
    store: Annotated[str, typer.Argument(help="A finished store.")],
    out: Annotated[Path, typer.Option(parser=output_path, metavar="FILE", help="The HDF5 file to write.")] = Path(
        "signatures.h5"
    ),
    as_json: JsonOption = False,
) -> None:
    """Write a store's fingerprints as HDF5 in the published format (signatures_p, signatures_m, song_ids)."""
    from lumina_ray.store import export_hdf5, open_store

    read = open_store(locate(store))
    export_hdf5(read, out)
    answer({"path": str(out), "songs": len(read.songs)}, f"{out}: {counted(len(read.songs), 'song')}", as_json)
