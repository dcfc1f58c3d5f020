"""`lumina calibrate`: the noise that confidence is measured against."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumina_ray.cli.options import JsonOption
from lumina_ray.cli.output import answer, warn_of_collapse
from lumina_ray.storage import locate

if TYPE_CHECKING:
    from lumina_ray.calibration import Calibration

# Kinds of fewer controls have a line in the file alone: a false alarm more or less would say nothing of their rate.
MIN_OF_KIND = 10


def calibrate(
    store: Annotated[str, typer.Argument(help="A finished catalog store, or a living catalog.")],
    controls: Annotated[str, typer.Option(help="A store of tracks that the model never saw.")],
    guarantee: Annotated[
        str,
        typer.Option(
            help="mean: at most 5 % of unrelated tracks have any song qualify, on average. tolerance: with 95 % "
            "confidence, for these controls; takes 59, 93, 181 of them with 1, 2, 5 above the bar."
        ),
    ] = "mean",
    queries: Annotated[
        str | None, typer.Option(help="A store of queries: has each of them a ranking of its own?")
    ] = None,
    pieces: Annotated[
        str | None,
        typer.Option(
            help="A store of 8 or more pieces that the audited model made up (`lumina generate`): reports then tell "
            "whether a clip is its output. 30 or more tell how often they do."
        ),
    ] = None,
    other_pieces: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=STORE", help="The same of another model; may be given several times."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what unrelated music looks like, so that confidence means something.

    Examples: `lumina calibrate store --controls control-store`,
    `lumina calibrate store --controls control-store --pieces own-store --other-pieces rival=rival-store`
    """
    from lumina_ray.calibration.calibration import CALIBRATION_FILE
    from lumina_ray.calibration.reliability import sentences
    from lumina_ray.errors import UsageError
    from lumina_ray.front.jobs import calibrate as calibrate_store

    if guarantee not in ("mean", "tolerance"):
        raise UsageError(f"--guarantee must be mean or tolerance, got {guarantee!r}")
    others = {}
    for given in other_pieces or ():
        name, is_named, of = given.partition("=")
        if not (name and is_named and of) or name in others:
            raise UsageError(f"--other-pieces takes NAME=STORE, each name once, got {given!r}")
        others[name] = of
    calibration = calibrate_store(
        store,
        controls,
        guarantee=guarantee,  # type: ignore[arg-type]  # checked above
        queries=queries,
        pieces=pieces,
        other_pieces=others,
    )
    path = locate(store) / CALIBRATION_FILE
    channels = {
        name: {"mean": channel.mean, "std": channel.std, "n_controls": channel.n_controls}
        for name, channel in calibration.channels.items()
    }
    noise = "; ".join(f"{name}: {c['mean']:.3f} ± {c['std']:.3f}" for name, c in channels.items())
    values: dict[str, Any] = {
        "calibration": str(path),
        "channels": channels,
        "guarantee": guarantee,
        "kinds": [kind.model_dump() for kind in calibration.kinds],
        "unlike": {name: one.model_dump() | {"warns": one.warns} for name, one in calibration.unlike.items()},
        "reliability": calibration.model_dump(mode="json")["reliability"],
        "profiles": [
            {"model": one.model, "audited": one.audited, "n_pieces": one.n_pieces, "power": one.power}
            for one in calibration.profiles
        ],
    }
    lines = [
        f"Similarity of unrelated music: {noise}. Written to {path}",
        *_kinds(calibration),
        *_unlike(calibration),
        *sentences(calibration.reliability),
        *(
            f"Output of {one.model}: of {one.n_pieces} pieces, {one.power:.0%} are found, each by the others"
            for one in calibration.profiles
        ),
    ]
    answer(values, "\n".join(lines), as_json)
    warn_of_collapse(calibration)


def _kinds(calibration: "Calibration") -> list[str]:
    """The false alarms of each kind of controls, where there are several that are large enough to show a rate."""
    large = [one for one in calibration.kinds if one.n_controls >= MIN_OF_KIND]
    if len(calibration.kinds) < 2 or not large:
        return []
    lines = ["False alarms by kind of controls (`source`), at the bar of all; at that of all other kinds:"]
    for one in large:
        rates = [f"{n}/{one.n_controls}" if n is not None else "too few" for n in (one.above, one.above_others)]
        lines.append(f"  {one.kind or 'no source'}: {rates[0]}; {rates[1]}")
    if small := len(calibration.kinds) - len(large):
        lines.append(f"  {small} kinds of fewer than {MIN_OF_KIND} controls: in the file")
    return lines


def _unlike(calibration: "Calibration") -> list[str]:
    """A warning for each channel in which the controls can be told from the songs."""
    return [
        f"Warning: the controls are unlike the catalog ({name}: told apart in {one.auc:.0%} of cases, p "
        f"{one.p_value:.3f}). Reports will say so; add controls of the catalog's kind."
        for name, one in calibration.unlike.items()
        if one.warns
    ]
