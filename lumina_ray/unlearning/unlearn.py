"""Makes a model forget a piece of music by a step that is small enough to be an influence, and undoes it to the bit.

The step minimises `−L(ẑ, θ) + (N/2) (θ − θ₀)ᵀ F (θ − θ₀)` for the loss L of the piece ẑ and the diagonal Fisher
information F of the model over its catalog. Where that is smallest, `θ = θ₀ + (1/N) F⁻¹ ∇L(ẑ, θ)`. One step puts
∇L(ẑ, θ₀) on the right; further steps put the gradient at the step before, until both sides agree.

N is not chosen but follows from a trust region: the largest step by which the loss of ẑ rises by no more than a given
number of nats per code. A larger step soon moves songs that have nothing to do with ẑ (docs/unlearning.md).

Source: Wang et al. 2024, "Data Attribution for Text-to-Image Models by Unlearning Synthesized Images",
arXiv:2406.09408, §3; the trust region and the damping are ours.
"""

import hashlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lumina_ray.errors import ModelError, NumericsError, UnlearningError, UsageError
from lumina_ray.model.fisher import Fisher, check_fisher
from lumina_ray.model.interface import AttributableModel
from lumina_ray.unlearning.losses import code_losses, song_gradient, song_loss
from lumina_ray.unlearning.select import Layers, Part, select_parts
from lumina_ray.vocabulary import SongCodes

TRUST_NATS = 0.005
DAMPING = 1e-4
# A step that is too long is shortened to between a tenth and nine tenths, and to half at most after some attempts: far
# from the model's own weights the loss may hardly depend on the length.
_SHORTENINGS = 60
_SHORTEST, _LONGEST, _LONGEST_LATER, _LATER = 0.1, 0.9, 0.5, 8


@dataclass(frozen=True)
class Forgetting:
    """How music is forgotten.

    Attributes:
        layers: the weights that change.
        trust_nats: how far the loss of the music may rise, in nats per code.
        damping: λ that is added to F, as a fraction of F's mean over the chosen weights.
        steps: how often the gradient is taken.
        mask_silence: whether frames without sound are left out of what is forgotten (mask M_U).

    Raises:
        UsageError: a number that is not positive.
    """

    layers: Layers = "heads"
    trust_nats: float = TRUST_NATS
    damping: float = DAMPING
    steps: int = 1
    mask_silence: bool = True

    def __post_init__(self) -> None:
        for name in ("trust_nats", "damping", "steps"):
            if not 0 < (value := getattr(self, name)) < np.inf:
                raise UsageError(f"{name} of forgetting must be a positive number, got {value}")

    def masked(self, codes: SongCodes) -> SongCodes:
        """The music as it is forgotten: under the mask M_U, or with all of its frames."""
        return codes if self.mask_silence else SongCodes(codes.chunks, codes.starts_s)


@dataclass(frozen=True)
class Forgotten:
    """What a model went through.

    Attributes:
        before_nats, after_nats: loss of the music, in nats per code.
        n: the multiplier N of the Fisher term that the step belongs to.
        shortened: how often a step was too long for the trust region.
    """

    before_nats: float
    after_nats: float
    n: float
    shortened: int

    @property
    def rise_nats(self) -> float:
        """By how much the loss rose, in nats per code."""
        return self.after_nats - self.before_nats


def inverse_fisher(fisher: Fisher, parts: Sequence[Part], damping: float) -> list[Tensor]:
    """`1 / (F + λ)` of each part, float64, with λ a fraction of F's mean over all parts.

    Raises:
        UnlearningError: F is zero everywhere.
    """
    values = [torch.from_numpy(fisher.values[part.name][part.at]).double() for part in parts]
    mean = sum(float(v.sum()) for v in values) / sum(v.numel() for v in values)
    if not mean > 0:
        raise UnlearningError("the Fisher information of these weights is zero everywhere; choose other layers")
    return [1 / (v + damping * mean) for v in values]


@contextmanager
def unlearned(
    model: AttributableModel, query: SongCodes, fisher: Fisher, how: Forgetting = Forgetting()
) -> Iterator[Forgotten]:
    """For the duration of a block, let a model have forgotten a piece of music.

    Afterwards the model has its weights back, to the bit, however the block ends: the parameters point to other tensors
    meanwhile, and the model's own are never written to. `model.weights_sha256` is another hash meanwhile, so that
    nothing that is made in the block passes for the model's.

    Args:
        model: in float32.
        query: the music to forget.
        fisher: of the model over its catalog.

    Yields:
        What was done.

    Raises:
        SpecificationMismatch: Fisher information of other weights, or codes of another codec.
        UnlearningError: nothing is heard, the gradient is zero, or no step raises the loss.
        NumericsError: the gradient is not finite.
        ModelError: weights that are not float32.
    """
    check_fisher(fisher, model)
    parts = select_parts(model, how.layers)
    if any(part.parameter.dtype != torch.float32 for part in parts):
        raise ModelError(f"model {model.name!r} holds weights in half precision; open it in float32 to forget anything")
    codes = how.masked(query)
    inverse = [v.to(model.device) for v in inverse_fisher(fisher, parts, how.damping)]
    with _own_weights_kept(model, parts, codes, how) as own:
        before = loss_of(model, codes)
        forgotten = Forgotten(before, before, np.inf, 0)
        for _ in range(how.steps):
            forgotten = _step(model, codes, parts, inverse, own, how.trust_nats, forgotten)
        yield forgotten


def loss_of(model: AttributableModel, codes: SongCodes) -> float:
    """Loss of music under the weights that a model has now, in nats per code (`song_loss`)."""
    return song_loss(code_losses(model, codes))


def _step(
    model: AttributableModel,
    codes: SongCodes,
    parts: Sequence[Part],
    inverse: Sequence[Tensor],
    own: Sequence[Tensor],
    trust_nats: float,
    so_far: Forgotten,
) -> Forgotten:
    """Set `θ = θ₀ + (1/N) (F + λ)⁻¹ g` for the gradient g at the present weights; N follows from the trust region."""
    _, gradients = song_gradient(model, codes, parts)
    directions = [v * gradient.double() for v, gradient in zip(inverse, gradients, strict=True)]
    # In double precision all products are finite unless a factor is not.
    slope = sum(float((d * g.double()).sum()) for d, g in zip(directions, gradients, strict=True))
    if not np.isfinite(slope):
        raise NumericsError(
            f"model {model.name!r}: the gradient of the music is not finite; its weights cannot be right"
        )
    if slope <= 0:
        raise UnlearningError(
            "the gradient of the music is zero for these weights: nothing can be forgotten; choose other layers"
        )
    length = trust_nats / slope
    for shortened in range(_SHORTENINGS):
        _set(parts, own, directions, length)
        rise = _rise(model, codes, so_far.before_nats)
        if 0 < rise <= trust_nats:
            return replace(
                so_far, after_nats=so_far.before_nats + rise, n=1 / length, shortened=so_far.shortened + shortened
            )
        # Far away the loss may even be lower.
        longest = _LONGEST if rise > 0 and shortened < _LATER else _LONGEST_LATER
        length *= min(max(trust_nats / rise if rise > 0 else 1.0, _SHORTEST), longest)
    raise UnlearningError(
        f"no step raises the loss of the music by up to {trust_nats:g} nats: its rise is below rounding, or it "
        "has no slope; allow more nats, or choose other layers"
    )


def _rise(model: AttributableModel, codes: SongCodes, before: float) -> float:
    try:
        return loss_of(model, codes) - before
    except NumericsError:
        return np.inf


def _set(parts: Sequence[Part], own: Sequence[Tensor], directions: Sequence[Tensor], length: float) -> None:
    """Give the parameters new tensors: their own weights plus a step."""
    moved: dict[int, Tensor] = {}
    for part, own_values, direction in zip(parts, own, directions, strict=True):
        key = id(part.parameter)
        if key not in moved:
            moved[key] = own_values.clone()
        moved[key][part.rows] = (own_values[part.rows].double() + length * direction).float()
    for part in parts:
        part.parameter.data = moved[id(part.parameter)]


@contextmanager
def _own_weights_kept(
    model: AttributableModel, parts: Sequence[Part], codes: SongCodes, how: Forgetting
) -> Iterator[list[Tensor]]:
    """Yield the tensors that the parameters of some parts point to, and point them there again afterwards."""
    own, sha256 = [part.parameter.data for part in parts], model.weights_sha256
    what = f"{sha256} without {codes.sha256} {sorted(asdict(how).items())}"

    def restore() -> None:
        for part, values in zip(parts, own, strict=True):
            part.parameter.data = values
        model.weights_sha256 = sha256

    try:
        model.weights_sha256 = hashlib.sha256(what.encode()).hexdigest()
        yield own
    finally:
        try:
            with _uninterrupted():
                restore()
        finally:
            # Ctrl-C may have come just before it was held back.
            restore()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers of signals in the main thread alone.
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(pressed[0])
