"""One forward and backward pass that leaves, for every tracked weight, what its gradient is a product of.

The gradient of a linear layer's weight is `Σ_s dy_s x_sᵀ` over the steps s of its input x and the gradient dy of its
output. Keeping x and dy instead of letting autograd multiply them gives the gradient of each chunk of a batch by
itself, in any tiling, and never needs the whole of it in memory (Goodfellow 2015, arXiv:1510.01799).

Calls are recognised by the weight that they use, not by the module: audiocraft keeps query, key and value in one
parameter, uses it through `functional.linear`, sliced for cross-attention, and module hooks never see it.

Shape legend: B = chunks, S = sequence steps, M, N = rows and columns of a weight.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lumina_ray.errors import ModelError
from lumina_ray.gradients.loss import chunk_losses
from lumina_ray.model.interface import MusicModel

# How much a fresh head's biases count beside its weights (chosen on dev, docs/validity.md).
_BIAS = 0.5


@dataclass
class Use:
    """One use of a tracked weight, or of some of its rows, in a forward pass.

    Attributes:
        parameter: position of the weight among the tracked ones.
        first_row: the first of its rows that were used.
        input_BSN: what was multiplied with them, in the dtype of the product.
        output_grad_BSM: gradient of the summed losses with respect to the result.
    """

    parameter: int
    first_row: int
    input_BSN: Tensor
    output_grad_BSM: Tensor


@dataclass
class _Recorder:
    dtype: torch.dtype
    uses: list[Use] = field(default_factory=list)

    def record(self, parameter: int, first_row: int, input_BSN: Tensor) -> int:
        self.uses.append(Use(parameter, first_row, input_BSN, input_BSN.new_empty(0)))
        return len(self.uses) - 1


class _FrozenLinear(torch.autograd.Function):
    """`functional.linear` without bias, by a weight that stays as it is stored.

    Cast in each pass to the dtype of the product, and dropped: autograd would keep every cast weight for the backward
    pass, a second model in memory. Of a tracked weight's use, what its gradient is a product of is recorded.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        input_BSN: Tensor,
        weight_MN: Tensor,
        anchor: Tensor | None,
        recorder: _Recorder,
        where: tuple[int, int] | None,
    ) -> Tensor:
        # In lower precision the product is taken of rounded factors, so those are what the gradient is a product of.
        input_BSN = input_BSN.to(recorder.dtype)
        ctx.save_for_backward(weight_MN)
        ctx.recorder, ctx.use = recorder, where and recorder.record(*where, input_BSN.detach())
        return functional.linear(input_BSN, weight_MN.to(recorder.dtype))

    @staticmethod
    def backward(ctx: Any, grad_BSM: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if ctx.use is not None:
            ctx.recorder.uses[ctx.use].output_grad_BSM = grad_BSM
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None
        (weight_MN,) = ctx.saved_tensors
        # As one matrix, as autograd does it, even where the gradient lies in memory chunk by chunk.
        input_grad_RN = grad_BSM.flatten(0, -2) @ weight_MN.to(grad_BSM.dtype)
        return input_grad_RN.view(*grad_BSM.shape[:-1], -1), None, None, None, None


class _FrozenLinears(TorchFunctionMode):
    """Sends every linear map without bias through `_FrozenLinear`."""

    def __init__(self, tracked: Sequence[nn.Parameter], dtype: torch.dtype) -> None:
        super().__init__()
        self.recorder = _Recorder(dtype)
        self._positions = {id(weight): i for i, weight in enumerate(tracked)}
        # Tracked weights need no gradient of their own; this is what makes autograd record from the lowest of them on,
        # and nothing below it.
        self._anchor = torch.zeros((), requires_grad=True)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.linear:
            input_BSN, weight_MN, bias_M = _linear_arguments(*args, **(kwargs or {}))
            whole = weight_MN if weight_MN._base is None else weight_MN._base
            parameter = self._positions.get(id(whole))
            if bias_M is None:
                if parameter is None:
                    return _FrozenLinear.apply(input_BSN, weight_MN, None, self.recorder, None)
                first_row = (weight_MN.storage_offset() - whole.storage_offset()) // weight_MN.shape[1]
                return _FrozenLinear.apply(input_BSN, weight_MN, self._anchor, self.recorder, (parameter, first_row))
            if parameter is not None:
                raise ModelError("a tracked layer has a bias, which no published MusicGen has")
        return func(*args, **(kwargs or {}))


def _linear_arguments(
    input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    return input, weight, bias


def freeze(model: MusicModel) -> None:
    """Let autograd build no graph for any parameter: what `capture` needs, it makes itself."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def capture(
    model: MusicModel,
    codes_BKT: Tensor,
    n_frames: list[int],
    tracked: Sequence[nn.Parameter],
    codebook_weights: tuple[float, ...],
    *,
    dtype: torch.dtype = torch.float32,
    loss_scale: float = 1.0,
) -> list[Use]:
    """Teacher-force a batch of chunks, back-propagate `loss_scale` times the sum of their losses, return what is used.

    The model must be frozen (`freeze`). Logits, losses and their gradient are float32 whatever the `dtype`. Chunk b's
    part of a weight's gradient is the product of row b of the captured tensors, divided by the loss scale; no other
    chunk has any part in it.

    Args:
        codes_BKT: int64 `[B, K, T]`, of which the first `n_frames[b]` frames are real; a row of 0 frames is filling.
        dtype: of the matrix products; anything but float32 runs under autocast.

    Raises:
        ModelError: a tracked layer has a bias.
    """
    with _FrozenLinears(tracked, dtype) as mode, _precision(codes_BKT.device, dtype):
        prediction = model.predict(codes_BKT, n_frames)
    loss = chunk_losses(prediction, codes_BKT, codebook_weights).sum() * loss_scale
    loss.backward()
    return mode.recorder.uses


def capture_heads(
    model: MusicModel,
    codes_BKT: Tensor,
    n_frames: list[int],
    heads: Sequence[int],
    codebook_weights: tuple[float, ...],
    *,
    fresh: bool = False,
    dtype: torch.dtype = torch.float32,
) -> list[Use]:
    """What the output heads' gradients are products of, from a forward pass alone.

    The derivative of a mean cross-entropy behind a bias-free linear layer is known in closed form:
    `G_k = w_k/(n_k Σw) Σ_t (softmax(logits_kt) − onehot(code_kt)) h_ktᵀ` over the n_k valid frames.

    That of the model's own heads has mean zero over what the model itself makes up, as every score function has over
    its own distribution, and attributes it badly (docs/validity.md). `fresh` puts a head in its place that has learned
    nothing but how often each code occurs, f, in its biases, and whitens the side of the codes by the Fisher
    information of such a softmax, whose inverse on gradients is 1/f (Amari 1998, "Natural gradient works efficiently in
    learning"): `(f − onehot(code_kt)) / √f` for the bracket. The gradient of the biases is a last column: h with one
    number more, `√_BIAS |h|` instead of 1.

    Args:
        heads: which codebooks' heads; `Use.parameter` counts in this order.
        fresh: of heads that know the frequencies in `model.statistics` and nothing of the context; `[C, D + 1]`.
    """
    with torch.no_grad():
        with _FrozenLinears([], dtype), _precision(codes_BKT.device, dtype):
            prediction = model.predict(codes_BKT, n_frames)
        frequencies_KC = torch.from_numpy(model.statistics.frequencies_KC).to(codes_BKT.device) if fresh else None
        uses = []
        for position, k in enumerate(heads):
            valid_BT = prediction.valid_BKT[:, k]
            if frequencies_KC is not None:
                error_BTC = frequencies_KC[k].expand(*valid_BT.shape, -1).clone()
            else:
                error_BTC = prediction.logits_BKTC[:, k].float().softmax(dim=-1)
            error_BTC -= functional.one_hot(codes_BKT[:, k], error_BTC.shape[-1])
            if frequencies_KC is not None:
                error_BTC *= frequencies_KC[k].rsqrt()
            share = codebook_weights[k] / sum(codebook_weights)
            scale_B = share / valid_BT.sum(dim=1).clamp(min=1)
            error_BTC = torch.where(valid_BT[..., None], error_BTC * scale_B[:, None, None], 0.0)
            hidden_BTD = prediction.hidden_BKTD[:, k].float()
            if fresh:
                hidden_BTD = torch.cat([hidden_BTD, _BIAS**0.5 * hidden_BTD.norm(dim=-1, keepdim=True)], dim=-1)
            uses.append(Use(position, 0, hidden_BTD, error_BTC))
        return uses


def _precision(device: torch.device, dtype: torch.dtype) -> Any:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
