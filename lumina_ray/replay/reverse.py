"""Derivatives of a trained model's losses with respect to the weight of each song, through every step of its training.

Reverse-mode differentiation of the whole run (Ilyas and Engstrom 2025, "MAGIC", arXiv:2504.16430): adjoints of weights
and optimizer go from the last step to the first. Segments between two kept states are trained again, and their weights
checked after every step. The step's Hessian-vector product is taken at the recorded weights.

Shape legend: Q = queries, N = songs, P = numbers that learn, B = windows of a step, K = codebooks, T = frames.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lumina_ray.errors import NumericsError, StoreError, UsageError
from lumina_ray.files import atomic_path
from lumina_ray.replay.adamw import Adjoint, adjoint_of_optimizer
from lumina_ray.replay.record import Record, Replayed, Report
from lumina_ray.replay.training import Batch, Training

# Windows whose graph is held at a time, in frames: all of a step would take several times the memory.
_FRAMES_TOGETHER = 500


@dataclass(frozen=True)
class Group:
    """Pieces whose mean loss is one scalar.

    Attributes:
        codes: int64 `[K, T]` each.
        texts: that the losses are under, one for each; None is no text.
        codebook: the one that counts; all by default.
    """

    codes: tuple[Tensor, ...]
    texts: tuple[str | None, ...]
    codebook: int | None = None

    def __post_init__(self) -> None:
        if not self.codes or len(self.codes) != len(self.texts):
            raise UsageError(f"a group needs pieces and a text for each, not {len(self.codes)} and {len(self.texts)}")


def group_losses(training: Training, groups: Sequence[Group]) -> np.ndarray:
    """Compute the scalar of each group under the learner's present weights: float64 `[Q]`, in nats per code."""
    with torch.no_grad():
        return np.array([float(_mean(training, group)) for group in groups])


def loss_gradients(training: Training, groups: Sequence[Group]) -> Tensor:
    """Differentiate the scalar of each group with respect to the learner's present weights: `[Q, P]`."""
    rows = []
    for group in groups:
        total = torch.zeros_like(training.weights())
        for codes_KT, text in zip(group.codes, group.texts, strict=True):
            loss = _loss(training, codes_KT, text, group.codebook) / len(group.codes)
            of = torch.autograd.grad(loss, training.parameters, materialize_grads=True)
            total += torch.cat([one.cpu().flatten() for one in of])
        rows.append(total)
    return torch.stack(rows)


def differentiate(
    record: Record, groups: Sequence[Group], unfinished: Path | None = None, report: Report = lambda *_: None
) -> np.ndarray:
    """Differentiate the scalar of each group, under the final weights, with respect to the weight of each song.

    Leaving song i out of a smooth training changes the scalar by about −1 times the derivative, where its weight was 1.

    Args:
        record: the training.
        groups: several in one pass share its gradients.
        unfinished: a file for the state of the pass, with which an interrupted one goes on to the same bits. It is
            deleted at the end.
        report: called after each step.

    Returns:
        Float64 `[Q, N]`, in nats per code and weight.

    Raises:
        NumericsError: the replay is not the recorded training, or a derivative is not finite.
        StoreError: a state is missing or damaged.
    """
    training, total = record.training, len(record.training.steps)
    training.set_weights(record.state(total).theta_P)
    gradients_QP = loss_gradients(training, groups)
    identity = hashlib.sha256(record.identity.encode() + gradients_QP.numpy().tobytes()).hexdigest()
    zeros_QP = torch.zeros_like(gradients_QP)
    at = (total, Adjoint(gradients_QP, zeros_QP, zeros_QP), np.zeros((len(groups), len(training.songs))))
    if unfinished and unfinished.exists():
        at = _read(unfinished, identity) or at
    end, adjoint, derivatives_QN = at
    for begin, last in reversed(list(pairwise(record.kept))):
        if last > end:
            continue
        segment = list(record.replay(begin, last))
        while segment:
            adjoint = backwards(record, segment.pop(), adjoint, derivatives_QN)
            report(total - begin - len(segment), total)
        if unfinished:
            _save(unfinished, identity, begin, adjoint, derivatives_QN)
    if not np.isfinite(derivatives_QN).all():
        raise NumericsError(f"{record.folder}: derivatives of this training are not finite: it is not smooth")
    if unfinished:
        unfinished.unlink(missing_ok=True)
    return derivatives_QN


def backwards(record: Record, step: Replayed, adjoint: Adjoint, derivatives_QN: np.ndarray) -> Adjoint:
    """Carry adjoints of Q scalars over one step; adds to the songs' derivatives, float64 `[Q, N]`, in place."""
    training, batch, after = record.training, record.training.batch(step.before.step), step.after
    held, gradient_QP = adjoint_of_optimizer(
        adjoint, after.first_P, after.second_P, step.clipped_P, step.norm,
        plan=training.plan, number=after.step, lr=batch.lr,
    )  # fmt: skip
    training.set_weights(step.before.theta_P)
    product_QP = torch.zeros_like(held.theta_QP)
    size = max(1, _FRAMES_TOGETHER // batch.codes_BKT.shape[2])
    for begin in range(0, len(batch.songs), size):
        along_QB = _hessian_products(record, batch, slice(begin, begin + size), gradient_QP, product_QP)
        for song, along_Q in zip(batch.songs[begin : begin + size], along_QB.T, strict=True):
            derivatives_QN[:, song] += along_Q
    return Adjoint(held.theta_QP + product_QP, held.first_QP, held.second_QP)


def _hessian_products(
    record: Record, batch: Batch, places: slice, directions_QP: Tensor, product_QP: Tensor
) -> np.ndarray:
    """Add to `product_QP` the products of the loss's Hessian with directions, of some windows of a step.

    Returns:
        Each direction's inner product with the gradient of each window's part of the loss: float64 `[Q, B]`.
    """
    training = record.training
    parameters, device = training.parameters, training.learner.device
    # Attention as matrix products and a softmax: kernels that fuse them have no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        losses_B = training.losses(batch.codes_BKT[places], batch.texts[places])
        weights_B = losses_B.new_tensor([record.weights_N[song] for song in batch.songs[places]]).requires_grad_()
        loss = (losses_B * weights_B).sum() / len(batch.songs)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        along = []
        for q, direction_P in enumerate(directions_QP):
            *products, along_B = torch.autograd.grad(
                gradients,
                [*parameters, weights_B],
                [part.to(device) for part in training.split(direction_P)],
                retain_graph=q + 1 < len(directions_QP),
                materialize_grads=True,
            )
            product_QP[q] += torch.cat([product.cpu().flatten() for product in products])
            along.append(along_B.detach().cpu().double().numpy())
    return np.stack(along)


def _mean(training: Training, group: Group) -> Tensor:
    losses = [
        _loss(training, codes_KT, text, group.codebook) for codes_KT, text in zip(group.codes, group.texts, strict=True)
    ]
    return torch.stack(losses).mean()


def _loss(training: Training, codes_KT: Tensor, text: str | None, codebook: int | None) -> Tensor:
    losses_K = training.learner.losses(codes_KT[None].to(training.learner.device), [text])[0]
    return losses_K.mean() if codebook is None else losses_K[codebook]


def _save(path: Path, identity: str, step: int, adjoint: Adjoint, derivatives_QN: np.ndarray) -> None:
    tensors = {"theta": adjoint.theta_QP, "first": adjoint.first_QP, "second": adjoint.second_QP}
    with atomic_path(path) as temporary:
        save_file(
            tensors | {"derivatives": torch.from_numpy(derivatives_QN)},
            temporary,
            metadata={"identity": identity, "step": str(step)},
        )


def _read(path: Path, identity: str) -> tuple[int, Adjoint, np.ndarray] | None:
    """Where an interrupted pass was, or None where the file is of another one."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                return None
            adjoint = Adjoint(*(file.get_tensor(name) for name in ("theta", "first", "second")))
            return int(metadata["step"]), adjoint, file.get_tensor("derivatives").numpy()
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise StoreError(f"{path}: an unfinished pass that cannot be read ({error}); delete it") from error
