"""Learn the maps of shared evidence again, from the factorial set's part `train`.

    uv run --no-sync python -m benchmarks.evidence_maps OUT.npz

The file that comes with the software is lumina_ray/evidence/maps.npz. Another file needs a higher
`lumina_ray.evidence.kept.ALGORITHM_VERSION`, and new figures in docs/evidence.md.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from lumina_ray.audio.chunk import cut_chunks
from lumina_ray.evidence.composition import PARTS
from lumina_ray.evidence.maps import learn_maps, save_maps
from lumina_ray.evidence.vectors import descriptions
from lumina_ray.truth.factorial_music import Clip, clips, render_part


def main(out: Annotated[Path, typer.Argument(help="The file to write (.npz).")]) -> None:
    """Render 640 clips, describe them, and learn what instruments change about notes, and notes about sound."""
    made: list[Clip] = []
    of_composition: list[dict[str, np.ndarray]] = []
    of_sound: list[np.ndarray] = []
    for clip, samples in track(render_part("train"), total=len(clips("train"))):
        (chunk,) = cut_chunks(samples, clip.clip_id)
        composition, sound = descriptions(chunk.samples)
        made.append(clip)
        of_composition.append(composition)
        of_sound.append(sound)
    by_part = {part: np.stack([one[part] for one in of_composition]) for part in PARTS}
    # A score's two passages are different notes.
    notes = [(clip.score, clip.variant) for clip in made]
    save_maps(learn_maps(by_part, np.stack(of_sound), notes, [clip.ensemble.name for clip in made]), out)


if __name__ == "__main__":
    typer.run(main)
