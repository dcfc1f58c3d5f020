"""`lumina generate`: let a model make up music."""

from pathlib import Path
from typing import Annotated

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.options import DeviceOption, JsonOption, ModelOption, output_path
from lumina_ray.cli.output import answer
from lumina_ray.errors import UsageError


def generate(
    out: Annotated[
        Path, typer.Option(parser=output_path, metavar="FILE", help="The audio file to write (.wav or .flac).")
    ],
    model: ModelOption = "nano",
    seconds: Annotated[float, typer.Option(min=1.0, max=30.0)] = 10.0,
    seed: Annotated[int, typer.Option(help="One seed, one piece of music.")] = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Let a model generate music, to have something to attribute.

    Example: `lumina generate --out clip.wav --seed 7`
    """
    import soundfile

    from lumina_ray.model.open import open_model
    from lumina_ray.model.sampling import generate as sample_music
    from lumina_ray.vocabulary import SAMPLE_RATE_HZ

    if out.suffix.lower() not in {".wav", ".flac"}:
        raise UsageError(f"--out must end in .wav or .flac, got {out}")
    samples = sample_music(open_model(model, resolve_device(device)), seconds, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(out, samples, SAMPLE_RATE_HZ)
    duration_s = len(samples) / SAMPLE_RATE_HZ
    answer({"path": str(out), "duration_s": duration_s}, f"{out}: {duration_s:.1f} s", as_json)
