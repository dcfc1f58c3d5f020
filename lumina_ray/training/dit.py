"""Makes, trains and writes a small latent diffusion transformer in the form of Stable Audio, on EnCodec's latents.

The objective is Stable Audio's: the squared error of the velocity at a time in (0, 1), under texts and lengths, with
no text in a tenth of the windows. Padding and silence are left out of the loss, as in attribution. Times are stratified
over a batch.

Shape legend: B = windows, C = rows of the latents, T = frames.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from lumina_ray.audio import cut_chunks
from lumina_ray.fingerprint.codes import encode_song
from lumina_ray.gradients.loss import batch_losses
from lumina_ray.model.diffusion.adapter import DiffusionTransformer, LatentSettings
from lumina_ray.model.diffusion.codecs import EncodecLatents
from lumina_ray.model.diffusion.load import LATENTS_FILE, WEIGHTS_FILE
from lumina_ray.model.files import DIFFUSERS_FILE
from lumina_ray.model.interface import Losses
from lumina_ray.model.quiet import quiet_transformers
from lumina_ray.training.captions import draw_text
from lumina_ray.training.codec import Report
from lumina_ray.training.data import Song, learning_rate, step_generator
from lumina_ray.vocabulary import Draws, SongCodes

# Names of the parts in the diffusers format, with the library and the class of each.
_PARTS = {
    "transformer": ("diffusers", "StableAudioDiTModel"),
    "projection_model": ("stable_audio", "StableAudioProjectionModel"),
    "text_encoder": ("transformers", "T5EncoderModel"),
    "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    "vae": ("transformers", "EncodecModel"),
}
_TEXT_WIDTH, _LONGEST_S = 64, 30
# Four frames of 20 ms are one step of the transformer.
PATCH = 4
EVALUATION_DRAWS = Draws(count=16, seed=1)
GUIDANCE = 3.0
MATRIX_RATE = 0.02
_OTHER_RATE = 3e-3
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class DitSchedule:
    """Training steps of the diffusion transformer.

    Attributes:
        total: number of optimiser steps.
        batch: number of 10 s windows in each step.
    """

    total: int = 3000
    batch: int = 8


@dataclass(frozen=True)
class Window:
    """Latents of a chunk to train on.

    Attributes:
        latents_CT: float32, normalised.
        heard_T: bool, whether each frame holds sound.
        caption: words for the music, or None where there are none.
    """

    latents_CT: Tensor
    heard_T: Tensor
    caption: str | None


def latent_settings(codec: EncodecModel, songs: Sequence[Song]) -> LatentSettings:
    """How latents are made of a codec's: its rows get mean 0 and standard deviation 1 over songs' sound.

    Raises:
        AudioError: a song is silent, or shorter than 1 s.
    """
    latents = EncodecLatents(codec, "codec")
    pieces = [
        latents.encode(chunk.samples / np.float32(32_768))[:, torch.from_numpy(chunk.heard)]
        for song in songs
        for chunk in cut_chunks(song.samples, song.name)
    ]
    all_CT = torch.cat(pieces, dim=1).double()
    mean_C, std_C = all_CT.mean(dim=1), all_CT.std(dim=1)
    return LatentSettings(PATCH, tuple(mean_C.tolist()), tuple(std_C.tolist()), GUIDANCE)


def encode_windows(model: DiffusionTransformer, songs: Sequence[Song]) -> list[list[Window]]:
    """Encode songs as fingerprints do: at the common level, chunk by chunk; for every song its windows.

    Raises:
        AudioError: a song is silent, or shorter than 1 s.
    """
    encoded = [(song.caption, encode_song(model, cut_chunks(song.samples, song.name))) for song in songs]
    return [windows_of(latents, caption) for caption, latents in encoded]


def windows_of(latents: SongCodes, caption: str | None) -> list[Window]:
    """A window for each chunk of a song."""
    return [
        Window(torch.from_numpy(chunk_CT.astype(np.float32)), torch.from_numpy(heard_T), caption)
        for chunk_CT, heard_T in zip(latents.chunks, latents.heard, strict=True)
    ]


def new_dit(
    codec: EncodecModel | EncodecConfig,
    tokenizer: PreTrainedTokenizerFast,
    settings: LatentSettings,
    *,
    n_layers: int = 8,
    dim: int = 160,
    heads: int = 4,
    seed: int = 0,
) -> DiffusionTransformer:
    """Make an untrained model around a codec.

    With 8 layers, each channel's band has one. The hash of its weights is not computed, and is all zeros.

    Args:
        codec: a trained codec, or the configuration of an untrained one.
        tokenizer: its vocabulary is the text encoder's.
        settings: how latents are made of the codec's.
        n_layers, dim, heads: of the transformer.
        seed: seed of the untrained weights.
    """
    from diffusers import StableAudioDiTModel
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

    torch.manual_seed(seed)
    encodec = codec if isinstance(codec, EncodecModel) else EncodecModel(codec)
    text = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer), d_model=_TEXT_WIDTH, d_kv=32, d_ff=128, num_layers=1, num_heads=2,
            pad_token_id=0, eos_token_id=1, dropout_rate=0.0,
        )
    )  # fmt: skip
    channels = encodec.config.hidden_size * settings.patch
    transformer = StableAudioDiTModel(
        sample_size=-(-_LONGEST_S * encodec.config.frame_rate // settings.patch),
        in_channels=channels, out_channels=channels, num_layers=n_layers, attention_head_dim=dim // heads,
        num_attention_heads=heads, num_key_value_attention_heads=heads, cross_attention_dim=dim,
        cross_attention_input_dim=_TEXT_WIDTH, global_states_input_dim=2 * _TEXT_WIDTH, time_proj_dim=64,
    )  # fmt: skip
    _start(transformer)
    projection = StableAudioProjectionModel(
        text_encoder_dim=_TEXT_WIDTH, conditioning_dim=_TEXT_WIDTH, min_value=0, max_value=_LONGEST_S
    )
    for module in (transformer, projection, text, encodec):
        module.eval()
    return DiffusionTransformer(
        transformer, projection, text, tokenizer, EncodecLatents(encodec, "codec"), settings, "unsaved", "0" * 64
    )


def _start(transformer: nn.Module) -> None:
    """Begin as stable-audio-tools does: blocks that add nothing, and convolutions that change nothing."""
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if name.endswith(("to_out.0.weight", "ff.net.2.weight", "process_conv.weight")):
                parameter.zero_()


def train_dit(
    model: DiffusionTransformer,
    windows: Sequence[Window],
    schedule: DitSchedule,
    *,
    seed: int,
    report: Report,
    report_every: int = 50,
    resume: dict[str, Any] | None = None,
) -> None:
    """Train a model's transformer and its encoders of conditions in place; its codec stays as it is.

    Args:
        model: the model.
        windows: what is drawn from, each as likely as any other.
        schedule: number of steps and size of a batch.
        seed: every random draw follows from it.
        report: called every `report_every` steps and at the end, with metrics and a state. `loss` is the mean squared
            error since the last report.
        report_every: steps between two reports.
        resume: a state that `report` was given. Training continues from it, and ends with the weights that it would
            have without the interruption.
    """
    # Evaluation mode drops nothing out, which would take random numbers that no seed decides.
    trained = nn.ModuleList([model.transformer, model.projection, model.text_encoder])
    blocks = model.transformer.transformer_blocks
    matrices = [p for p in blocks.parameters() if p.dim() == 2]
    in_blocks = {id(p) for p in matrices}
    others = [p for p in trained.parameters() if id(p) not in in_blocks and p.requires_grad]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, weight_decay=_WEIGHT_DECAY),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=_WEIGHT_DECAY),
    ]
    first = 0
    if resume is not None:
        trained.load_state_dict(resume["model"])
        for optimizer, state in zip(optimizers, resume["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        first = resume["step"]
    recent: list[float] = []
    for step in range(first, schedule.total):
        for optimizer, peak in zip(optimizers, (MATRIX_RATE, _OTHER_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = learning_rate(step, schedule.total, peak)
        loss = _drawn_loss(model, windows, schedule.batch, step_generator(seed, step))
        trained.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        recent.append(loss.item())
        done = step + 1
        if done % report_every == 0 or done == schedule.total:
            state = {
                "step": done,
                "model": trained.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            }
            report({"step": done, "loss": float(np.mean(recent))}, state)
            recent = []
    model.refresh_condition()


def _drawn_loss(
    model: DiffusionTransformer, windows: Sequence[Window], batch: int, generator: torch.Generator
) -> Tensor:
    """Loss of windows, texts, times and noises that a generator draws."""
    drawn = [windows[i] for i in torch.randint(len(windows), (batch,), generator=generator).tolist()]
    n_frames = [window.latents_CT.shape[1] for window in drawn]
    whole = -(-max(n_frames) // model.settings.patch) * model.settings.patch
    music, heard = (
        torch.stack([nn.functional.pad(tensor, (0, whole - tensor.shape[-1])) for tensor in tensors])
        for tensors in ([window.latents_CT for window in drawn], [window.heard_T for window in drawn])
    )
    texts = [draw_text(window.caption, generator) for window in drawn]
    condition = model.conditions(texts, [n / model.frame_rate_hz for n in n_frames])
    times_B = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    noise_BCT = torch.randn(music.shape, generator=generator)
    errors_BCT = model.errors(
        music.to(model.device), noise_BCT.to(model.device), times_B.to(model.device), n_frames, condition
    )
    losses = Losses(errors_BCT, heard.to(model.device)[:, None].expand_as(errors_BCT))
    return batch_losses(losses, (1.0,) * music.shape[1]).mean()


def evaluate_dit(model: DiffusionTransformer, windows: Sequence[Window], *, captions: bool = False) -> np.ndarray:
    """Loss of each window as attribution takes it, only with fewer draws: float64 `[n]`.

    Args:
        model: the model.
        windows: the music.
        captions: whether windows that have a caption are conditioned on it; otherwise on the fixed text.
    """
    losses = []
    with torch.no_grad():
        for window in windows:
            T, condition = window.latents_CT.shape[1], model.condition
            if captions and window.caption:
                condition = model.conditions([window.caption], [T / model.frame_rate_hz])
            of_window = model.losses(window.latents_CT[None].to(model.device), [T], EVALUATION_DRAWS, condition)
            heard_1T = window.heard_T[None].to(model.device)
            losses.append(float(batch_losses(of_window.of(heard_1T), (1.0,) * len(window.latents_CT))))
    return np.array(losses)


def export_dit(model: DiffusionTransformer, codec: EncodecModel, folder: Path) -> None:
    """Write a model in the diffusers format, its transformer in float16.

    The codec stays in float32: the rounding errors of half precision would change latents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = {
        "transformer": model.transformer,
        "projection_model": model.projection,
        "text_encoder": model.text_encoder,
        "tokenizer": model.tokenizer,
        "vae": codec,
    }
    with quiet_transformers():
        for name, part in parts.items():
            part.save_pretrained(folder / name)
    path = folder / "transformer" / WEIGHTS_FILE
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    _write(folder / LATENTS_FILE, asdict(model.settings))
    _write(folder / DIFFUSERS_FILE, {"_class_name": "StableAudioPipeline"} | _PARTS)


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
