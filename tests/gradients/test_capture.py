"""Captured factors against autograd's own gradients, in both libraries; no graph where none is needed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lumina_ray.gradients import SongGradient, WeightCall, capture, capture_heads, chunk_losses, freeze, gradient_tiles
from lumina_ray.model import TRACKED_TENSORS, MusicModel, open_model
from lumina_ray.model.statistics import MusicStatistics, code_frequencies
from tests.tiny_model import tiny_music_model

WEIGHTS = (0.4, 1.2, 1.3, 1.4)
N_FRAMES = [60, 41, 0]


@pytest.fixture(scope="module", params=["", "audiocraft:"], ids=["transformers", "audiocraft"])
def model(request: pytest.FixtureRequest, tiny_model_dir: Path) -> MusicModel:
    return open_model(f"{request.param}{tiny_model_dir}")


@pytest.fixture(scope="module")
def codes_BKT(model: MusicModel) -> Tensor:  # noqa: N802
    return torch.randint(model.codebook_size, (3, 4, 60), generator=torch.Generator().manual_seed(0))


def tracked(model: MusicModel, layers: list[int]) -> list[nn.Parameter]:
    weights = [p for layer in layers for tensor in TRACKED_TENSORS for p in model.tracked(layer, tensor)]
    return weights + list(model.heads())


def by_autograd(model: MusicModel, codes_BKT: Tensor, weights: list[nn.Parameter], b: int) -> list[Tensor]:
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    loss = chunk_losses(model.predict(codes_BKT[b : b + 1], [N_FRAMES[b]]), codes_BKT[b : b + 1], WEIGHTS).sum()
    gradients = torch.autograd.grad(loss, weights)
    freeze(model)
    return list(gradients)


def assembled(
    calls: list[WeightCall], rows: list[int], scales: list[float], weights: list[nn.Parameter]
) -> list[Tensor]:
    out = [torch.full_like(weight, float("nan")) for weight in weights]
    with torch.no_grad():
        for tile in gradient_tiles(calls, rows, scales):
            out[tile.parameter][tile.first_row : tile.first_row + len(tile.values)] = tile.values
    return out


@pytest.mark.parametrize("loss_scale", [1.0, 1024.0])
def test_every_chunk_of_a_batch_has_its_own_gradient(model: MusicModel, codes_BKT: Tensor, loss_scale: float) -> None:
    weights = tracked(model, [5, 15])
    freeze(model)
    calls = capture(model, codes_BKT, N_FRAMES, weights, WEIGHTS, loss_scale=loss_scale)
    for b in (0, 1):
        expected = by_autograd(model, codes_BKT, weights, b)
        for ours, theirs in zip(assembled(calls, [b], [1 / loss_scale], weights), expected, strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    assert all(not gradient.any() for gradient in assembled(calls, [2], [1.0], weights)), "filling has a gradient"


def test_a_song_is_the_weighted_sum_of_its_chunks_in_one_batch_or_several(model: MusicModel, codes_BKT: Tensor) -> None:
    weights = tracked(model, [4])
    freeze(model)
    calls = capture(model, codes_BKT, N_FRAMES, weights, WEIGHTS)
    whole = assembled(calls, [0, 1], [0.6, 0.4], weights)
    expected = [
        0.6 * a + 0.4 * b for a, b in zip(*(by_autograd(model, codes_BKT, weights, b) for b in (0, 1)), strict=True)
    ]
    song = SongGradient([weight.shape for weight in weights], torch.device("cpu"))
    for row, scale in ((0, 0.6), (1, 0.4)):
        song.add(gradient_tiles(calls, [row], [1.0]), scale)
    for ours, theirs in zip(whole, expected, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    for tile in song.tiles():
        rows = whole[tile.parameter][tile.first_row : tile.first_row + len(tile.values)]
        assert torch.equal(tile.values, rows)


def test_heads_need_no_backward_pass(model: MusicModel, codes_BKT: Tensor) -> None:
    freeze(model)
    calls = capture_heads(model, codes_BKT, N_FRAMES, [3, 0], WEIGHTS)
    heads = [model.heads()[3], model.heads()[0]]
    for b in (0, 1):
        expected = by_autograd(model, codes_BKT, heads, b)
        for ours, theirs in zip(assembled(calls, [b], [1.0], heads), expected, strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    assert not any(call.input_BSN.requires_grad or call.output_grad_BSM.requires_grad for call in calls)


def test_fresh_heads_are_heads_that_know_frequencies_alone(model: MusicModel, codes_BKT: Tensor) -> None:
    """Make the gradient by autograd: heads have zero weights, and biases that are log-frequencies; codes are whitened.

    Their input is the hidden state and, for the biases, √½ of its length.
    """
    freeze(model)
    counts_KC = torch.randint(1, 50, (4, model.codebook_size), generator=torch.Generator().manual_seed(1))
    frequencies_KC = counts_KC / counts_KC.sum(dim=1, keepdim=True)
    before, model.statistics = model.statistics, MusicStatistics(frequencies_KC.numpy())
    calls = capture_heads(model, codes_BKT, N_FRAMES, [3, 0], WEIGHTS, fresh=True)
    model.statistics = before
    heads = [nn.Parameter(torch.empty(model.codebook_size, model.dim + 1)) for _ in range(2)]
    for b in (0, 1):
        codes_KT, n = codes_BKT[b, :, : N_FRAMES[b]], N_FRAMES[b]
        hidden_KTD = model.predict(codes_KT[None], [n]).hidden_BKTD[0].detach()
        for ours, k in zip(assembled(calls, [b], [1.0], heads), (3, 0), strict=True):
            head_CD = torch.zeros(model.codebook_size, model.dim + 1, requires_grad=True)
            hidden_TD = hidden_KTD[k, : n - k]
            input_TD = torch.cat([hidden_TD, (hidden_TD.pow(2).sum(dim=1, keepdim=True) / 2).sqrt()], dim=1)
            logits_TC = input_TD @ head_CD.T + frequencies_KC[k].log()
            scale = WEIGHTS[k] / sum(WEIGHTS)
            (scale * nn.functional.cross_entropy(logits_TC, codes_KT[k, : n - k])).backward()
            # diag(f)^(1/2) is a square root of the Fisher information on gradients, whose columns sum to zero.
            expected = head_CD.grad / frequencies_KC[k].sqrt()[:, None]
            assert float((ours - expected).norm() / expected.norm()) < 1e-5


def test_a_models_own_music_says_nothing_through_its_own_heads_and_something_through_fresh_ones() -> None:
    """Score functions have mean zero under their own distribution: the reason for fresh heads."""
    model = tiny_music_model(n_layers=2)
    freeze(model)
    with torch.no_grad():
        for head in model.heads():
            head.mul_(40)
    generator = torch.Generator().manual_seed(0)
    codes_BKT = torch.zeros(32, 4, 40, dtype=torch.int64)
    n_frames = [40] * 32
    for step in range(43):
        # In the delay pattern, codebook k's frame t is made at step t + k.
        prediction = model.predict(codes_BKT, n_frames)
        for k in range(4):
            if 0 <= (t := step - k) < 40:
                codes_BKT[:, k, t] = torch.multinomial(
                    prediction.logits_BKTC[:, k, t].softmax(-1), 1, generator=generator
                )[:, 0]
    frequencies = code_frequencies([c.numpy() for c in codes_BKT[:16]], 4, model.codebook_size)
    model.statistics = MusicStatistics(frequencies)
    likeness = {}
    for fresh in (False, True):
        calls = capture_heads(model, codes_BKT, n_frames, [0], (1, 1, 1, 1), fresh=fresh)
        shape = [nn.Parameter(torch.empty(calls[0].output_grad_BSM.shape[-1], calls[0].input_BSN.shape[-1]))]
        gradients = torch.stack([assembled(calls, [b], [1.0], shape)[0].flatten() for b in range(32)])
        unit = nn.functional.normalize(gradients, dim=1)
        likeness[fresh] = float((unit[:16] @ unit[16:].T).mean())
    assert abs(likeness[False]) < 0.02
    assert likeness[True] > 0.05


def test_no_graph_below_the_lowest_tracked_layer(tiny_model_dir: Path, codes_BKT: Tensor) -> None:
    model = open_model(str(tiny_model_dir))
    freeze(model)
    needs_gradient: dict[int, bool] = {}
    layers = model.model.decoder.model.decoder.layers  # type: ignore[attr-defined]
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, n=n: needs_gradient.update({n: out.requires_grad}))
        for n, layer in enumerate(layers)
    ]
    capture(model, codes_BKT, N_FRAMES, list(model.tracked(14, "linear1")), WEIGHTS)
    for hook in hooks:
        hook.remove()
    assert [n for n, needed in sorted(needs_gradient.items()) if needed] == [14, 15]
