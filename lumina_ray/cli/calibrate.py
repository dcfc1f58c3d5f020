"""`lumina calibrate`: the noise that confidence is measured against."""

from typing import Annotated

import typer

from lumina_ray.cli.options import JsonOption
from lumina_ray.cli.output import answer, warn_of_collapse
from lumina_ray.storage import locate


def calibrate(
    store: Annotated[str, typer.Argument(help="A finished catalog store, or a living catalog.")],
    controls: Annotated[str, typer.Option(help="A store of tracks that the model never saw.")],
    queries: Annotated[
        str | None, typer.Option(help="A store of queries: has each of them a ranking of its own?")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what unrelated music looks like, so that confidence means something.

    Example: `lumina calibrate store --controls control-store`
    """
    from lumina_ray.calibration.calibration import CALIBRATION_FILE
    from lumina_ray.calibration.reliability import sentences
    from lumina_ray.front.jobs import calibrate as calibrate_store

    calibration = calibrate_store(store, controls, queries=queries)
    path = locate(store) / CALIBRATION_FILE
    channels = {
        name: {"mean": channel.mean, "std": channel.std, "n_controls": channel.n_controls}
        for name, channel in calibration.channels.items()
    }
    noise = "; ".join(f"{name}: {c['mean']:.3f} ± {c['std']:.3f}" for name, c in channels.items())
    reliability = calibration.model_dump(mode="json")["reliability"]
    lines = [f"Similarity of unrelated music: {noise}. Written to {path}", *sentences(calibration.reliability)]
    answer({"calibration": str(path), "channels": channels, "reliability": reliability}, "\n".join(lines), as_json)
    warn_of_collapse(calibration)
