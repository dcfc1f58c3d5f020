"""One step of AdamW as a function, and its adjoint: how what follows depends on what went in.

Shape legend: Q = queries, P = numbers that learn.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lumina_ray.replay.plan import Plan

# torch adds it to the norm that it divides by.
_CLIP_EPSILON = 1e-6
# Below it the root's derivative is of no number that training makes, and of 0 it is infinite.
_ROOT_FLOOR = 1e-30


@dataclass(frozen=True)
class Adjoint:
    """Derivatives of Q scalars of the final weights with respect to a state, each `[Q, P]`."""

    theta_QP: Tensor
    first_QP: Tensor
    second_QP: Tensor


def step(
    theta_P: Tensor, first_P: Tensor, second_P: Tensor, gradient_P: Tensor, *, plan: Plan, number: int, lr: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute weights and moments after a step, as `torch.optim.AdamW` does after `clip_grad_norm_`.

    Args:
        gradient_P: before it is clipped.
        number: of the step, from 1.
        lr: rate of learning.
    """
    coefficient = torch.clamp(plan.clip / (gradient_P.norm() + _CLIP_EPSILON), max=1.0)
    clipped_P, (b1, b2) = coefficient * gradient_P, plan.betas
    first_P = b1 * first_P + (1 - b1) * clipped_P
    second_P = b2 * second_P + (1 - b2) * clipped_P**2
    root_P = torch.sqrt(second_P.clamp(min=_ROOT_FLOOR)) / math.sqrt(1 - b2**number)
    moved_P = lr / (1 - b1**number) * first_P / (root_P + plan.epsilon)
    return theta_P * (1 - lr * plan.weight_decay) - moved_P, first_P, second_P


def adjoint_of_optimizer(
    after: Adjoint, first_P: Tensor, second_P: Tensor, clipped_P: Tensor, norm: float, *, plan: Plan, number: int,
    lr: float,
) -> tuple[Adjoint, Tensor]:  # fmt: skip
    """Carry adjoints from after a step to before it, but for what the gradient itself depends on.

    Args:
        after: with respect to the state after the step.
        first_P, second_P: moments after the step.
        clipped_P: the step's gradient, clipped.
        norm: of the gradient before it was clipped.
        number: of the step, from 1.
        lr: rate of learning.

    Returns:
        Adjoints with respect to the state before the step while the gradient is held, and with respect to the gradient
        before it is clipped, `[Q, P]`.
    """
    b1, b2 = plan.betas
    a, correction = lr / (1 - b1**number), math.sqrt(1 - b2**number)
    root_P = torch.sqrt(second_P.clamp(min=_ROOT_FLOOR))
    scaled_P = root_P / correction + plan.epsilon
    first_QP = after.first_QP - after.theta_QP * (a / scaled_P)
    second_QP = after.second_QP + after.theta_QP * (a * first_P / scaled_P**2 / (2 * correction * root_P))
    gradient_QP = (1 - b1) * first_QP + second_QP * (2 * (1 - b2) * clipped_P)
    coefficient = plan.clip / (norm + _CLIP_EPSILON)
    if coefficient < 1:
        # Of c(‖g‖)·g with c = C / (‖g‖ + ε): c·u − g (g·u) C / ((‖g‖ + ε)² ‖g‖), where g = clipped / c.
        along_Q = (gradient_QP.double() @ clipped_P.double()) / (plan.clip * coefficient * norm)
        gradient_QP = coefficient * (gradient_QP - along_Q[:, None].to(clipped_P.dtype) * clipped_P)
    theta_QP = after.theta_QP * (1 - lr * plan.weight_decay)
    return Adjoint(theta_QP, b1 * first_QP, b2 * second_QP), gradient_QP
