"""Train the bundled diffusion transformer `nano-dit`, on the latents of a codec: the worker of a Ray Train job.

    lumina train-nano --catalog demo/catalog.parquet --controls demo/controls.parquet --out build/dit \
        --codec nano --stage dit --report-every 250

OUT then holds the folder `nano-dit` (diffusers format), the losses along the way (`dit-history.json`) and the figures
of what is shipped (`dit-figures.json`).
"""

from pathlib import Path
from typing import Any

import torch
from transformers import EncodecModel

from cluster.train_reports import Progress, add_to_json
from lumina_ray.model.diffusion.load import load
from lumina_ray.training.captions import vocabulary, word_tokenizer
from lumina_ray.training.data import load_songs
from lumina_ray.training.dit import (
    DitSchedule,
    encode_windows,
    evaluate_dit,
    export_dit,
    latent_settings,
    new_dit,
    train_dit,
)
from lumina_ray.truth.measures import mean

NAME = "nano-dit"
# A loss is a mean over 16 draws: more songs would take as long as the training between two reports.
_SAMPLED_SONGS = 8


def train_dit_worker(config: dict[str, Any]) -> None:
    """Train the diffusion transformer and write OUT/nano-dit."""
    torch.set_num_threads(config["threads"])
    out, schedule = Path(config["out"]), DitSchedule(**config["schedule"])
    codec = EncodecModel.from_pretrained(out / "codec").eval()
    catalog, controls = (load_songs(Path(config[name])) for name in ("catalog", "controls"))
    tokenizer = word_tokenizer(vocabulary(song.caption for song in catalog))
    model = new_dit(codec, tokenizer, latent_settings(codec, catalog), seed=config["seed"])
    windows = encode_windows(model, catalog)
    first = {
        "catalog": [of_song[0] for of_song in windows],
        "controls": [of_song[0] for of_song in encode_windows(model, controls)],
    }
    progress = Progress(out / "dit-history.json")
    figures_file = out / "dit-figures.json"

    def figures(texts: dict[str, bool]) -> dict[str, Any]:
        """Losses on all songs with 95 % intervals over songs, by name and by whether they are under captions."""
        found: dict[str, Any] = {}
        for name, of_part in first.items():
            for loss, captions in texts.items():
                estimate = mean(evaluate_dit(measured, of_part, captions=captions))
                found[f"{name}_{loss}"] = estimate.value
                found[f"{name}_{loss}_interval"] = [estimate.low, estimate.high]
        return found

    def report(metrics: dict[str, float], state: dict[str, Any]) -> None:
        model.refresh_condition()
        losses = {
            f"{name}_loss": float(evaluate_dit(model, of_part[:_SAMPLED_SONGS]).mean())
            for name, of_part in first.items()
        }
        progress.report(metrics | losses, state)

    measured = model
    if progress.resume is None:
        add_to_json(figures_file, {"untrained": {"step": 0} | figures({"loss": False})})
    train_dit(
        model,
        [window for of_song in windows for window in of_song],
        schedule,
        seed=config["seed"],
        report=report,
        report_every=config["report_every"],
        resume=progress.resume,
    )
    export_dit(model, codec, out / NAME)
    # What is measured is what is stored.
    measured = load(out / NAME, NAME, "cpu")
    add_to_json(figures_file, {NAME: {"step": schedule.total} | figures({"loss": False, "caption_loss": True})})
