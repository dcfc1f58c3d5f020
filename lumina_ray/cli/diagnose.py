"""`lumina diagnose`: can scores be trusted, and are the songs that they name alike?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lumina_ray.cli.options import ChannelChoice, JsonOption, output_path
from lumina_ray.cli.output import announce
from lumina_ray.errors import UsageError


def diagnose(
    scores: Annotated[
        str,
        typer.Argument(help="All scores of a catalog for some queries: `lumina scores … --top 1000000 --out FILE`."),
    ],
    features: Annotated[
        str | None,
        typer.Option(
            help="Musical features, .parquet or .csv, one row a song: song_id, timbre.mfcc.0, harmony.chroma, …"
        ),
    ] = None,
    genres: Annotated[
        str | None, typer.Option(help="The queries' manifest with a column `genre`; needs --features.")
    ] = None,
    size: Annotated[
        list[int] | None, typer.Option(help="Songs of a group; may be given several times. By default by the catalog.")
    ] = None,
    random: Annotated[int, typer.Option(help="Random groups that groups are compared with.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of random groups, folds and shuffles.")] = 0,
    normalisation: Annotated[
        Literal["by-method", "z", "rank"], typer.Option(help="How each query's scores are brought to one scale.")
    ] = "by-method",
    likeness: Annotated[
        Literal["reciprocal", "exponential"], typer.Option(help="1 / (1 + d), or e^(−d / median) as a check.")
    ] = "reciprocal",
    channels: Annotated[ChannelChoice, typer.Option(help="Only one of the channels.")] = "both",
    out: Annotated[
        Path | None,
        typer.Option(parser=output_path, metavar="FOLDER", help="Folder for diagnosis.json and diagnosis.png."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether each query has a ranking of its own, and whether the songs that it names share musical features.

    Example: `lumina diagnose scores.parquet --features features.parquet`
    """
    import json

    from lumina_ray.diagnostics.diagnosis import Settings, as_dict
    from lumina_ray.diagnostics.diagnosis import diagnose as diagnose_matrix
    from lumina_ray.diagnostics.feature_tables import read_features, read_genres
    from lumina_ray.diagnostics.save import save_diagnoses
    from lumina_ray.diagnostics.score_tables import read_scores

    if genres is not None and features is None:
        raise UsageError("--genres divides homogeneity by genre, which needs --features too")
    settings = Settings(
        tuple(sorted(set(size or ()))), random, seed, None if normalisation == "by-method" else normalisation, likeness
    )
    matrices = [one for one in read_scores(scores) if channels == "both" or one.channel == channels]
    if not matrices:
        raise UsageError(f"{scores}: has no channel {channels}; leave out --channels")
    found = []
    for matrix in matrices:
        table = None if features is None else read_features(features, matrix.song_ids)
        labels = None if genres is None else read_genres(genres, matrix.query_ids)
        found.append(diagnose_matrix(matrix, table, labels, settings))
    if out is not None:
        save_diagnoses(found, out)
        announce(f"Written to {out}")
    if as_json:
        typer.echo(json.dumps({"channels": [as_dict(one) for one in found]}, sort_keys=True, ensure_ascii=False))
        return
    from rich.console import Console

    from lumina_ray.diagnostics.tables import print_diagnoses

    print_diagnoses(found, Console())
