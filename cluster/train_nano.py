"""Train the bundled nano models: Ray Train jobs, the codec and then the language model on its codes.

    lumina train-nano --catalog demo/catalog.parquet --controls demo/controls.parquet --out build/nano

Killed and started again with the same arguments, it goes on from its last checkpoint to the weights that it would have
reached undisturbed. With `--codec nano` the language model alone is trained, on the codes of the bundled codec. OUT
then holds the folders `nano-early` and `nano` (transformers format), and as JSON the losses along the way
(`codec-history`, `lm-history`) and the figures of what is shipped (`codec-figures`, `lm-figures`). With `--stage dit`
it trains `nano-dit` on the codec's latents instead: see `train_dit.py`.
"""

import copy
import json
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer
from rich.console import Console
from transformers import EncodecModel, MusicgenForConditionalGeneration

from cluster.progress import say
from cluster.session import ray_session
from cluster.train_dit import train_dit_worker
from cluster.train_reports import Progress, add_to_json, write_json
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.files import sha256_of
from lumina_ray.model.files import find_model
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.captions import vocabulary, word_tokenizer
from lumina_ray.training.codec import CodecSchedule, evaluate_codec, new_codec, train_codec
from lumina_ray.training.data import load_songs
from lumina_ray.training.dit import DitSchedule
from lumina_ray.training.export import as_music_model, export, new_musicgen, round_to_stored
from lumina_ray.training.lm import LmSchedule, encode_chunks, evaluate_lm, train_lm

# Reports along the way measure so many songs. All songs would take as long as the training between two reports.
_SAMPLED_SONGS = 30
_MAX_FAILURES = 3


class Stage(StrEnum):
    """One Ray Train job; the language model and the diffusion transformer need the codec in OUT."""

    CODEC = "codec"
    LM = "lm"
    DIT = "dit"


# Raise one when a model on the codec comes to learn otherwise, so that no training that was begun before goes on.
_RECIPES = {Stage.LM: 3, Stage.DIT: 1}


def train_codec_worker(config: dict[str, Any]) -> None:
    """Train the codec and write it to OUT/codec."""
    torch.set_num_threads(config["threads"])
    out = Path(config["out"])
    catalog, controls = ([song.samples for song in load_songs(Path(config[name]))] for name in ("catalog", "controls"))
    progress = Progress(out / "codec-history.json")
    codec = train_codec(
        catalog,
        CodecSchedule(**config["schedule"]),
        seed=config["seed"],
        report=progress.report,
        report_every=config["report_every"],
        resume=progress.resume,
    )
    codec.save_pretrained(out / "codec")
    untrained = new_codec(config["seed"]).eval()
    figures = {
        name: {
            "trained": evaluate_codec(codec, songs[:_SAMPLED_SONGS]),
            "untrained": evaluate_codec(untrained, songs[:_SAMPLED_SONGS]),
        }
        for name, songs in (("catalog", catalog), ("controls", controls))
    }
    write_json(out / "codec-figures.json", figures)


def train_lm_worker(config: dict[str, Any]) -> None:
    """Train the language model on the codec's codes and write OUT/nano-early and OUT/nano."""
    torch.set_num_threads(config["threads"])
    out, schedule = Path(config["out"]), LmSchedule(**config["schedule"])
    codec = EncodecModel.from_pretrained(out / "codec").eval()
    catalog, controls = (load_songs(Path(config[name])) for name in ("catalog", "controls"))
    captions = {"catalog": [song.caption for song in catalog], "controls": [song.caption for song in controls]}
    tokenizer = word_tokenizer(vocabulary(captions["catalog"]))
    model = new_musicgen(codec, seed=config["seed"], tokenizer=tokenizer)
    music_model = as_music_model(model, tokenizer)
    chunks = encode_chunks(music_model, catalog)
    first_chunks = {
        "catalog": [of_song[0] for of_song in chunks],
        "controls": [of_song[0] for of_song in encode_chunks(music_model, controls)],
    }
    progress = Progress(out / "lm-history.json")
    figures_file = out / "lm-figures.json"

    def losses(of: MusicgenForConditionalGeneration, songs: int | None = None) -> dict[str, float]:
        measured = as_music_model(of, tokenizer)
        return {f"{name}_loss": evaluate_lm(measured, codes[:songs]) for name, codes in first_chunks.items()}

    def figures(of: MusicgenForConditionalGeneration) -> dict[str, float]:
        """Losses on all songs, under the fixed text and under their captions."""
        measured = as_music_model(of, tokenizer)
        return losses(of) | {
            f"{name}_caption_loss": evaluate_lm(measured, codes, captions[name])
            for name, codes in first_chunks.items()
            if any(captions[name])
        }

    def ship(name: str, step: int) -> None:
        """Export what has been trained so far, and measure it as it is stored."""
        stored = copy.deepcopy(model)
        round_to_stored(stored)
        export(stored, out / name, tokenizer)
        add_to_json(figures_file, {name: {"step": step} | figures(stored)})

    def report(metrics: dict[str, float], state: dict[str, Any]) -> None:
        if metrics["step"] == schedule.early:
            ship("nano-early", schedule.early)
        progress.report(metrics | losses(model, _SAMPLED_SONGS), state)

    if progress.resume is None:
        add_to_json(figures_file, {"untrained": {"step": 0} | figures(model)})
    train_lm(
        music_model,
        [codes_KT for of_song in chunks for codes_KT in of_song],
        schedule,
        seed=config["seed"],
        report=report,
        captions=[song.caption for song, of_song in zip(catalog, chunks, strict=True) for _ in of_song],
        report_every=config["report_every"],
        resume=progress.resume,
    )
    ship("nano", schedule.total)


def begin_stage(name: Stage, config: dict[str, Any]) -> None:
    """Record the data and schedule of a stage, or compare them with those that it was begun with.

    Raises:
        SpecificationMismatch: checkpoints in OUT belong to other songs, another schedule, seed or codec.
    """
    out = Path(config["out"])
    wanted = {key: config[key] for key in ("schedule", "seed", "threads")}
    wanted |= {f"{key}_sha256": sha256_of(Path(config[key])) for key in ("catalog", "controls")}
    if name in _RECIPES:
        wanted |= {"codec_sha256": sha256_of(out / "codec" / "model.safetensors"), "recipe": _RECIPES[name]}
    file = out / f"{name}-arguments.json"
    if not file.exists():
        write_json(file, wanted)
        return
    begun = json.loads(file.read_text())
    for key, value in wanted.items():
        if begun.get(key) != value:
            raise SpecificationMismatch(
                f"{out}: training of {name} was begun with {key} = {begun.get(key)}, not {value}; choose another --out"
            )


def take_codec(model: str, folder: Path) -> None:
    """Write the codec of a model to a folder, where it is not there already.

    Raises:
        ModelError: the model is not at hand, or no MusicGen.
        SpecificationMismatch: the folder holds another codec.
    """
    codec = TransformersMusicGen.load(find_model(model), model, "cpu").model.audio_encoder
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        taken = Path(temporary) / "codec"
        codec.save_pretrained(taken)
        if not folder.exists():
            taken.rename(folder)
        elif sha256_of(taken / "model.safetensors") != sha256_of(folder / "model.safetensors"):
            raise SpecificationMismatch(f"{folder}: holds another codec than {model}; choose another --out")


def run_stage(name: Stage, config: dict[str, Any]) -> None:
    """Run one stage as a Ray Train job with one worker, on a GPU where the cluster has one.

    Raises:
        ray.train.TrainingFailedError: it failed more often than lost machines explain.
    """
    TorchTrainer(
        {Stage.CODEC: train_codec_worker, Stage.LM: train_lm_worker, Stage.DIT: train_dit_worker}[name],
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(num_workers=1, use_gpu=ray.cluster_resources().get("GPU", 0) >= 1),
        run_config=ray.train.RunConfig(
            # A second start with this name and place goes on from the first one's checkpoint.
            name=name.value,
            storage_path=str(Path(config["out"]) / "runs"),
            failure_config=ray.train.FailureConfig(max_failures=_MAX_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    ).fit()


def train_nano(
    catalog: Path,
    controls: Path,
    out: Path,
    *,
    stage: Literal["all", "codec", "lm", "dit"] = "all",
    codec: CodecSchedule = CodecSchedule(),
    lm: LmSchedule = LmSchedule(),
    dit: DitSchedule = DitSchedule(),
    codec_of: str | None = None,
    report_every: int = 50,
    seed: int = 0,
    threads: int = 1,
    console: Console | None = None,
) -> None:
    """Train a codec and a language model on a catalog and export both as transformers folders; or nano-dit.

    Args:
        catalog, controls: manifests of songs to train on, and of songs for held-out losses.
        out: the folder to write, or to go on in.
        stage: one stage alone; the language model ("lm") and the diffusion transformer ("dit") need the codec in
            `out`. "all" is the codec and the language model.
        codec, lm, dit: number of steps.
        codec_of: a model whose codec is taken, so that none is trained.
        report_every: steps between two reports, each with a checkpoint.
        threads: of the CPU. The last bits of the weights depend on it.
        console: for progress; by default standard error.

    Raises:
        ManifestError: a manifest is unusable.
        SpecificationMismatch: checkpoints in `out` are of other songs, another schedule, seed or codec.
        ModelError: `codec_of` is not at hand, or no MusicGen.
        UsageError: the codec is to be taken and to be trained.
        ClusterError: there is no Ray to be had.
    """
    if codec_of is not None and stage == "codec":
        raise UsageError("a codec that is taken from a model is not trained: leave out --codec, or --stage codec")
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if codec_of is not None:
        take_codec(codec_of, out / "codec")
        stage = "dit" if stage == "dit" else "lm"
    common = {
        "catalog": str(catalog.resolve()),
        "controls": str(controls.resolve()),
        "out": str(out),
        "report_every": report_every,
        "seed": seed,
        "threads": threads,
    }
    schedules = {
        Stage.CODEC: {"autoencoder": codec.autoencoder, "decoder": codec.decoder},
        Stage.LM: {"total": lm.total, "early": lm.early},
        Stage.DIT: {"total": dit.total, "batch": dit.batch},
    }
    wanted = (Stage.CODEC, Stage.LM) if stage == "all" else (Stage(stage),)
    console = console or Console(stderr=True)
    with ray_session():
        for name, schedule in schedules.items():
            if name in wanted:
                config = common | {"schedule": schedule}
                begin_stage(name, config)
                say(console, f"training {name}: {schedule}; losses so far are in {out / f'{name}-history.json'}")
                run_stage(name, config)
