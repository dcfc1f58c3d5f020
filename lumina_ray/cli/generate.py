"""`lumina generate`: let a model make up music."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumina_ray.cli.device import resolve_device
from lumina_ray.cli.options import DeviceOption, JsonOption, ModelOption, output_path
from lumina_ray.cli.output import announce, answer
from lumina_ray.errors import UsageError
from lumina_ray.storage import AnyPath, locate

if TYPE_CHECKING:
    from torch import Tensor

    from lumina_ray.model import AttributableModel

_PROMPT_S = 10.0


def generate(
    out: Annotated[
        Path, typer.Option(parser=output_path, metavar="FILE", help="The audio file to write (.wav or .flac).")
    ],
    model: ModelOption = "nano",
    seconds: Annotated[
        float, typer.Option(min=1.0, max=30.0, help="Length of what is made up; what --continue repeats comes on top.")
    ] = 10.0,
    text: Annotated[
        str | None,
        typer.Option(help="Words for the music. Default: the fixed text under which music is fingerprinted."),
    ] = None,
    continued: Annotated[
        str | None,
        typer.Option(
            "--continue",
            metavar="FILE",
            help=f"Go on from the end of this audio file: its last {_PROMPT_S:.0f} s, or all of it, come first.",
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=20.0,
            help="How strongly the text counts: 0 not at all, 1 as the model learned, more beyond. "
            "Default: the model's own, 3 for nano.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="One seed, one piece of music.")] = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Let a model generate music, to have something to attribute.

    Examples: `lumina generate --out clip.wav --seed 7`,
    `lumina generate --out clip.wav --model build/nano/nano --text "slow organ" --guidance 2`,
    `lumina generate --out longer.wav --continue clip.wav --seconds 5`
    """
    import soundfile

    from lumina_ray.model.open import open_model
    from lumina_ray.vocabulary import SAMPLE_RATE_HZ

    if out.suffix.lower() not in {".wav", ".flac"}:
        raise UsageError(f"--out must end in .wav or .flac, got {out}")
    music_model = open_model(model, resolve_device(device))
    if text is not None and not music_model.knows_words:
        raise UsageError(
            f"{model} was trained under one text alone and would follow no other; leave --text out, or train a model "
            "with captions (docs/nano.md)"
        )
    prompt_KT = None if continued is None else _end_of(locate(continued), music_model)
    if text is not None and (unknown := music_model.unknown_words(text)):
        announce(f"{model} does not know these words of the text: {', '.join(unknown)}")
    samples = music_model.generate(seconds, seed, text=text, guidance=guidance, prompt_KT=prompt_KT)
    out.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(out, samples, SAMPLE_RATE_HZ)
    duration_s = len(samples) / SAMPLE_RATE_HZ
    prompt_s = 0.0 if prompt_KT is None else prompt_KT.shape[1] / music_model.frame_rate_hz
    sentence = f"{out}: {duration_s:.1f} s" + (f", of which {prompt_s:.1f} s of {continued}" if prompt_s else "")
    answer({"path": str(out), "duration_s": duration_s, "prompt_s": prompt_s}, sentence, as_json)


def _end_of(file: AnyPath, model: "AttributableModel") -> "Tensor":
    """Encode the end of an audio file as a fingerprint's chunk is: int64 codes or float32 latents, `[K, T]`.

    Raises:
        AudioError: the file cannot be decoded, is too short, or its end is silent.
    """
    from lumina_ray.audio import load_audio
    from lumina_ray.fingerprint.codes import encode_prompt
    from lumina_ray.vocabulary import SAMPLE_RATE_HZ

    return encode_prompt(model, load_audio(file).samples[-round(_PROMPT_S * SAMPLE_RATE_HZ) :], f"the end of {file}")
