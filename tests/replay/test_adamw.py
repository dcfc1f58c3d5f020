"""AdamW as a function: against torch's optimizer, and its adjoint against automatic differentiation."""

import pytest
import torch
from torch import nn

from lumina_ray.replay.adamw import Adjoint, adjoint_of_optimizer, step
from lumina_ray.replay.plan import Plan

PLAN = Plan(clip=1.0, weight_decay=0.1)


@pytest.mark.parametrize("size", [0.05, 2.0], ids=["whole", "clipped"])
def test_steps_are_those_of_torch(size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(20, generator=generator, dtype=torch.float64))
    optimizer = torch.optim.AdamW([parameter], betas=PLAN.betas, eps=PLAN.epsilon, weight_decay=PLAN.weight_decay)
    theta, first, second = parameter.detach().clone(), torch.zeros(20).double(), torch.zeros(20).double()
    for number, lr in enumerate((1e-3, 2e-2, 5e-3), start=1):
        gradient = size * torch.randn(20, generator=generator, dtype=torch.float64)
        parameter.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = lr
        nn.utils.clip_grad_norm_([parameter], PLAN.clip)
        optimizer.step()
        theta, first, second = step(theta, first, second, gradient, plan=PLAN, number=number, lr=lr)
        torch.testing.assert_close(parameter.detach(), theta, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [0.05, 2.0], ids=["whole", "clipped"])
@pytest.mark.parametrize("number", [1, 7])
def test_the_adjoint_is_that_of_automatic_differentiation(size: float, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    n, queries, lr = 15, 3, 7e-3
    before = [torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(4)]
    before[2] = before[2] ** 2 * 1e-3
    theta, first, second, gradient = ((1, 1, 1, size)[i] * tensor for i, tensor in enumerate(before))
    inputs = [tensor.clone().requires_grad_() for tensor in (theta, first, second, gradient)]
    outputs = step(*inputs, plan=PLAN, number=number, lr=lr)
    seeds = [torch.randn(queries, n, generator=generator, dtype=torch.float64) for _ in range(3)]
    expected = [
        torch.autograd.grad(outputs, inputs, [seed[q] for seed in seeds], retain_graph=True) for q in range(queries)
    ]
    norm = float(gradient.norm())
    clipped = gradient * min(1.0, PLAN.clip / (norm + 1e-6))
    _, first_after, second_after = (output.detach() for output in outputs)
    held, own_gradient = adjoint_of_optimizer(
        Adjoint(*seeds), first_after, second_after, clipped, norm, plan=PLAN, number=number, lr=lr
    )
    own = (held.theta_QP, held.first_QP, held.second_QP, own_gradient)
    for i, tensor in enumerate(own):
        torch.testing.assert_close(tensor, torch.stack([of_query[i] for of_query in expected]), rtol=1e-10, atol=1e-14)


def test_numbers_that_never_had_a_gradient_have_finite_adjoints() -> None:
    zeros, ones = torch.zeros(4), torch.ones(1, 4)
    held, gradient = adjoint_of_optimizer(
        Adjoint(ones, ones, ones), zeros, zeros, zeros, 0.0, plan=PLAN, number=3, lr=1
    )
    assert all(tensor.isfinite().all() for tensor in (held.theta_QP, held.first_QP, held.second_QP, gradient))
