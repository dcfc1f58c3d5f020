"""Small diffusion transformers of a bank: trained on some recordings, kept as weights, sampled from, asked.

Shape legend: B = windows, C = rows of the latents, T = frames, Q = queries.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lumina_ray.model.diffusion.adapter import Condition, DiffusionTransformer, LatentSettings
from lumina_ray.model.diffusion.draws import drawn_noise, drawn_times
from lumina_ray.model.diffusion.sampling import sample
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.training import Training as WeightedTraining
from lumina_ray.training.captions import word_tokenizer
from lumina_ray.training.codec import codec_config
from lumina_ray.training.dit import EVALUATION_DRAWS, PATCH, DitSchedule, Window, new_dit, train_dit
from lumina_ray.truth.queries import QUERY_FRAMES, TRAINED_FRAMES, Piece
from lumina_ray.truth.recipe import Recipe, Training
from lumina_ray.vocabulary import Draws

Weights = dict[str, Tensor]
"""Parameters by name, float16."""
SMALL = Recipe(
    n_layers=8, dim=64, heads=2, base_epochs=16.0, epochs=4.0, batch=4, checkpoints=(0.4, 1.0), subsets=64, removals=0,
    repeats=4, references=0, captions=48, free=0, prompt_frames=150,
)  # fmt: skip
"""Hours on two cores; a band of layers needs eight."""


@dataclass(frozen=True)
class DitStart:
    """The common start of the models of a bank.

    Attributes:
        words: of the tokenizer.
        weights: of the base model's transformer.
        text: of its encoders of conditions, which all models share.
        captions: of every recording of the corpus, by position.
    """

    words: tuple[str, ...]
    weights: Weights
    text: Weights
    captions: tuple[str, ...]


class DitLearner:
    """A transformer whose encoders of conditions stay as they are; see `lumina_ray.replay.learner.Learner`.

    Time and noise follow from a window and its text: what other windows a step has changes neither.
    """

    def __init__(self, model: DiffusionTransformer) -> None:
        """Args: a model, whose transformer learns from now on."""
        # The frequencies that a time is written in are never trained.
        fixed = model.transformer.time_proj.weight
        self.module: nn.Module = nn.ParameterList(
            [p.requires_grad_(True) for p in model.transformer.parameters() if p is not fixed]
        )
        self.frozen: nn.Module = nn.ModuleList([model.projection, model.text_encoder])
        self.device = model.device
        self._model = model

    def losses(self, codes_BKT: Tensor, texts: Sequence[str | None]) -> Tensor:
        model, (B, C, T) = self._model, codes_BKT.shape
        whole = -(-T // model.settings.patch) * model.settings.patch
        draws = [Draws(2, _seed_of(window_CT, text)) for window_CT, text in zip(codes_BKT, texts, strict=True)]
        with torch.no_grad():
            condition = model.conditions(texts, [T / model.frame_rate_hz] * B)
        errors_RCT = model.errors(
            codes_BKT.repeat_interleave(2, dim=0),
            torch.cat([drawn_noise(of, C, whole) for of in draws]).to(self.device),
            torch.cat([drawn_times(of) for of in draws]).to(self.device),
            [T] * (2 * B),
            Condition(condition.tokens_RND.repeat_interleave(2, dim=0), condition.duration_R1G.repeat_interleave(2, 0)),
        )
        return errors_RCT.view(B, 2, C, T).mean(dim=(1, 3))


def _seed_of(window_CT: Tensor, text: str | None) -> int:
    digest = hashlib.sha256(window_CT.detach().cpu().numpy().tobytes())
    digest.update(b"\0" if text is None else text.encode())
    return int.from_bytes(digest.digest()[:4], "little")


def new_model(recipe: Recipe, words: Sequence[str]) -> DiffusionTransformer:
    """Make an untrained model of the recipe's size, for latents alone: its codec is untrained, too."""
    return new_dit(
        codec_config(),
        word_tokenizer(words),
        LatentSettings(PATCH),
        n_layers=recipe.n_layers,
        dim=recipe.dim,
        heads=recipe.heads,
        seed=recipe.seed,
    )


def with_weights(recipe: Recipe, start: DitStart, weights: Weights) -> DiffusionTransformer:
    """Make the model that has these weights; its identity is their hash."""
    model = new_model(recipe, start.words)
    model.transformer.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    _conditioners(model).load_state_dict({name: tensor.float() for name, tensor in start.text.items()})
    model.refresh_condition()
    digest = hashlib.sha256()
    for of in (weights, start.text):
        for name in sorted(of):
            digest.update(name.encode() + of[name].numpy().tobytes())
    model.weights_sha256 = digest.hexdigest()
    return model


def trained_base(
    recipe: Recipe, pieces: Sequence[Piece], captions: Sequence[str], words: Sequence[str]
) -> tuple[Weights, Weights]:
    """Train the model that all others start from, with its encoders of conditions; as nano-dit is trained.

    Args:
        pieces: float32 latents.
        captions: one for each piece.
        words: the tokenizer's.

    Returns:
        The transformer's weights, and those of the encoders.
    """
    model = new_model(recipe, words)
    windows = [
        Window(piece.codes_KT[:, part], piece.heard_T[part], caption)
        for piece, caption in zip(pieces, captions, strict=True)
        for part in (slice(QUERY_FRAMES), slice(-QUERY_FRAMES, None))
    ]
    steps = max(1, round(recipe.base_epochs * len(windows) / recipe.batch))
    train_dit(
        model, windows, DitSchedule(steps, recipe.batch), seed=recipe.seed, report=lambda *_: None, report_every=steps
    )
    return _halved(model.transformer), _halved(_conditioners(model))


def trained(recipe: Recipe, training: Training, pieces: Sequence[Piece], start: DitStart) -> Weights:
    """Train one model: removed songs keep their places in the order, at weight 0.

    Args:
        pieces: float32 latents of whole recordings, by position in the corpus.
    """
    model = with_weights(recipe, start, start.weights)
    order = sorted({*training.songs, *training.removed})
    of = WeightedTraining(
        DitLearner(model),
        [pieces[i].codes_KT[:, :TRAINED_FRAMES] for i in order],
        [start.captions[i] for i in order],
        Plan(training.seed, recipe.epochs, recipe.batch),
    )
    learned = set(training.songs)
    for _ in of.run([float(i in learned) for i in order]):
        pass
    return _halved(model.transformer)


def make_pieces(model: DiffusionTransformer, captions: Sequence[str], guidance: float, seed: int) -> Tensor:
    """Make pieces of 10 s up, one under each caption: float32 `[B, C, T]`."""
    seeds = np.random.SeedSequence(seed).generate_state(len(captions))
    seconds = QUERY_FRAMES / model.frame_rate_hz
    return torch.stack(
        [
            sample(model, QUERY_FRAMES, int(one), model.embed(caption, seconds), guidance).cpu()
            for caption, one in zip(captions, seeds, strict=True)
        ]
    )


def losses(model: DiffusionTransformer, latents: Sequence[Tensor], captions: Sequence[str]) -> np.ndarray:
    """Squared error of every piece under its caption, "" for the fixed text: float32 `[Q, 1]`, the mean over rows."""
    out_Q1 = np.zeros((len(latents), 1), np.float32)
    with torch.no_grad():
        for q, (latents_CT, caption) in enumerate(zip(latents, captions, strict=True)):
            T = latents_CT.shape[1]
            condition = model.embed(caption, T / model.frame_rate_hz) if caption else None
            values = model.losses(latents_CT[None].to(model.device), [T], EVALUATION_DRAWS, condition).values_BKT
            out_Q1[q] = float(values.mean())
    return out_Q1


def _conditioners(model: DiffusionTransformer) -> nn.ModuleDict:
    return nn.ModuleDict({"projection": model.projection, "text_encoder": model.text_encoder})


def _halved(module: nn.Module) -> Weights:
    return {name: tensor.detach().half().cpu() for name, tensor in module.state_dict().items()}
