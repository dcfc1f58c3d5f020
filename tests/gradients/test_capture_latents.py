"""Captured factors of a diffusion transformer against autograd and vmap: every tracked tensor, any order of chunks."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from lumina_ray.errors import ModelError
from lumina_ray.gradients import WeightCall, capture, freeze, gradient_tiles
from lumina_ray.model.diffusion.adapter import DiffusionTransformer
from lumina_ray.model.diffusion.draws import drawn_noise, drawn_times
from lumina_ray.model.tracked import ROLES
from lumina_ray.vocabulary import Draws
from tests.tiny_dit import tiny_dit

DRAWS = Draws(2, 3)
C, T = 8, 40
UNIFORM = (1.0,) * C


@pytest.fixture(scope="module")
def model() -> DiffusionTransformer:
    return tiny_dit()


@pytest.fixture(scope="module")
def latents_BCT() -> Tensor:  # noqa: N802
    return torch.randn(3, C, T, generator=torch.Generator().manual_seed(0))


def every_tracked_tensor(model: DiffusionTransformer) -> list[nn.Parameter]:
    in_layers = [p for i in range(model.n_layers) for role in ROLES["latents"] for p in model.tracked(i, role)]
    return [*in_layers, *model.heads()]


def assembled(calls: list[WeightCall], row: int, weights: list[nn.Parameter], scale: float = 1.0) -> list[Tensor]:
    out = [torch.full_like(weight.flatten(1), float("nan")) for weight in weights]
    for tile in gradient_tiles(calls, [row], [scale]):
        out[tile.parameter][tile.first_row : tile.first_row + len(tile.values)] = tile.values
    return [values.view(weight.shape) for values, weight in zip(out, weights, strict=True)]


def by_autograd(model: DiffusionTransformer, music_CT: Tensor, n: int, weights: list[nn.Parameter]) -> list[Tensor]:
    """Gradient of a chunk's loss, taken alone and at its own length."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    loss = model.losses(music_CT[None, :, :n], [n], DRAWS).values_BKT.mean()
    gradients = torch.autograd.grad(loss, weights)
    freeze(model)
    return list(gradients)


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_every_tensor_of_every_chunk_is_autograds_in_any_order(
    model: DiffusionTransformer, latents_BCT: Tensor
) -> None:
    weights = every_tracked_tensor(model)
    n_frames = [T, 23, 0]
    expected = [by_autograd(model, latents_BCT[b], n_frames[b], weights) for b in (0, 1)]
    for order in permutations(range(3)):
        calls = capture(model, latents_BCT[list(order)], [n_frames[b] for b in order], weights, UNIFORM, draws=DRAWS)
        for row, b in enumerate(order):
            ours = assembled(calls, row, weights)
            if b == 2:
                assert all(not gradient.any() for gradient in ours), "filling has a gradient"
                continue
            for mine, theirs in zip(ours, expected[b], strict=True):
                assert distance(mine, theirs) < 1e-5


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_every_tensor_of_every_chunk_is_vmaps(model: DiffusionTransformer, latents_BCT: Tensor) -> None:
    weights = every_tracked_tensor(model)
    names = {id(p): name for name, p in model.transformer.named_parameters()}
    parameters = {names[id(weight)]: weight.detach() for weight in weights}
    times_M, noise_MCT = drawn_times(DRAWS), drawn_noise(DRAWS, C, T)
    condition = model.condition.rows(DRAWS.count)

    def loss(parameters: dict[str, Tensor], music_CT: Tensor) -> Tensor:
        angle = (times_M * (math.pi / 2))[:, None, None]
        noisy = angle.cos() * music_CT + angle.sin() * noise_MCT
        patches = noisy.reshape(DRAWS.count, C, T // 4, 4).transpose(2, 3).reshape(DRAWS.count, 4 * C, T // 4)
        (made,) = functional_call(
            model.transformer,
            parameters,
            (patches, times_M, condition.tokens_RND, condition.duration_R1G, model._rotary(T // 4), False),
        )
        predicted = made.reshape(DRAWS.count, C, 4, T // 4).transpose(2, 3).reshape(DRAWS.count, C, T)
        return (predicted - (angle.cos() * noise_MCT - angle.sin() * music_CT)).square().mean()

    expected = vmap(grad(loss), in_dims=(None, 0))(parameters, latents_BCT)
    calls = capture(model, latents_BCT, [T] * 3, weights, UNIFORM, draws=DRAWS, loss_scale=1024.0)
    for b in range(3):
        for ours, weight in zip(assembled(calls, b, weights, 1 / 1024), weights, strict=True):
            assert distance(ours, expected[names[id(weight)]][b]) < 1e-5


def test_frames_without_sound_are_masked_out_of_gradients(model: DiffusionTransformer, latents_BCT: Tensor) -> None:
    weights = [*model.tracked(3, "cross_kv"), *model.heads()]
    heard_BT = (torch.arange(T) % 10 < 6).expand(3, -1)
    calls = capture(model, latents_BCT, [T] * 3, weights, UNIFORM, heard_BT=heard_BT, draws=DRAWS)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    values_1CT = model.losses(latents_BCT[:1], [T], DRAWS).values_BKT
    expected = torch.autograd.grad(values_1CT[..., heard_BT[0]].mean(), weights)
    freeze(model)
    for ours, theirs in zip(assembled(calls, 0, weights), expected, strict=True):
        assert distance(ours, theirs) < 1e-5


def test_a_convolution_that_is_no_linear_layer_is_refused(latents_BCT: Tensor) -> None:
    model = tiny_dit()
    wide = nn.Conv1d(32, 32, 3, padding=1, bias=False)
    model.transformer.postprocess_conv = wide
    with pytest.raises(ModelError, match="only 1×1 convolutions"):
        capture(model, latents_BCT, [T] * 3, [wide.weight], UNIFORM, draws=DRAWS)
