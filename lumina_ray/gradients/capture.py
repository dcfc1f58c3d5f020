"""One forward and backward pass that captures, for every tracked weight, the two factors of its gradient.

The gradient of a linear layer's weight is `Σ_s dy_s x_sᵀ` over the steps s, for the layer's input x and the gradient dy
of its output. This module keeps x and dy, and does not let autograd multiply them. So the gradient of each chunk of a
batch can be made by itself, tile by tile, and need never be in memory as a whole (Goodfellow 2015, arXiv:1510.01799).

A call is recognised by its weight and not by its module. audiocraft keeps query, key and value in one parameter, slices
it for cross-attention and passes it to `functional.linear`, where module hooks do not see it. A 1×1 convolution is a
linear layer over the channels.

Shape legend: B = chunks, K = codebooks, T = frames, C = codes of a codebook, D = width of the model,
S = sequence steps, M, N = rows and columns of a weight, R = all rows of a batch's input.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lumina_ray.errors import ModelError
from lumina_ray.gradients.loss import batch_losses
from lumina_ray.model.interface import AttributableModel, Losses, MusicModel
from lumina_ray.vocabulary import Draws

Measure = Callable[[Tensor, list[int], Draws | None], Losses]
"""Measures a model on codes or latents, as `AttributableModel.losses` does."""

# Weight of a fresh head's biases beside its weights, chosen on the ground-truth bank's dev split (docs/validity.md).
_BIAS = 0.5


@dataclass
class WeightCall:
    """One multiplication by a tracked weight, or by some of its rows, in a forward pass.

    Attributes:
        parameter: position of the weight in the list of tracked weights.
        first_row: the weight's first row that was used.
        input_BSN: the other factor of the product, in the dtype of the product.
        output_grad_BSM: gradient of the summed losses with respect to the product.
    """

    parameter: int
    first_row: int
    input_BSN: Tensor
    output_grad_BSM: Tensor


@dataclass
class _Recorder:
    dtype: torch.dtype
    calls: list[WeightCall] = field(default_factory=list)

    def record(self, parameter: int, first_row: int, input_BSN: Tensor) -> int:
        self.calls.append(WeightCall(parameter, first_row, input_BSN, input_BSN.new_empty(0)))
        return len(self.calls) - 1


class _FrozenLinear(torch.autograd.Function):
    """`functional.linear` by a weight that keeps its stored dtype; a bias is added by the caller.

    The weight is cast to the dtype of the product in each pass, and the cast copy is dropped. Autograd would keep every
    cast weight for the backward pass, which is a second model in memory. Where the weight is tracked, the factors of
    its gradient are recorded.
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
        # In lower precision the product is made of rounded factors, so that the gradient's factors are rounded too.
        input_BSN = input_BSN.to(recorder.dtype)
        ctx.save_for_backward(weight_MN)
        ctx.recorder, ctx.call = recorder, where and recorder.record(*where, input_BSN.detach())
        return functional.linear(input_BSN, weight_MN.to(recorder.dtype))

    @staticmethod
    def backward(ctx: Any, grad_BSM: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if ctx.call is not None:
            ctx.recorder.calls[ctx.call].output_grad_BSM = grad_BSM
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None
        (weight_MN,) = ctx.saved_tensors
        # One matrix product for all chunks, as autograd does it, even where chunks do not follow each other in memory.
        input_grad_RN = grad_BSM.flatten(0, -2) @ weight_MN.to(grad_BSM.dtype)
        return input_grad_RN.view(*grad_BSM.shape[:-1], -1), None, None, None, None


class _FrozenLinears(TorchFunctionMode):
    """While active, sends every linear map and 1×1 convolution through `_FrozenLinear`."""

    def __init__(self, tracked: Sequence[nn.Parameter], dtype: torch.dtype) -> None:
        super().__init__()
        self.recorder = _Recorder(dtype)
        self._positions = {id(weight): i for i, weight in enumerate(tracked)}
        # Tracked weights are frozen. This tensor, an argument of every call of theirs, makes autograd record from the
        # lowest tracked weight on, and nothing below it.
        self._anchor = torch.zeros((), requires_grad=True)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.linear:
            input_BSN, weight_MN, bias_M = _linear_arguments(*args, **(kwargs or {}))
            product_BSM = self._product(input_BSN, weight_MN)
            return product_BSM if bias_M is None else product_BSM + bias_M.to(product_BSM.dtype)
        if func is functional.conv1d:
            input_BNS, weight_MNk, *others = _convolution_arguments(*args, **(kwargs or {}))
            if id(weight_MNk) in self._positions:
                if weight_MNk.shape[2] != 1 or others != [None, (1,), (0,), 1]:
                    raise ModelError("a tracked convolution is no linear layer; only 1×1 convolutions without bias are")
                return self._product(input_BNS.transpose(1, 2), weight_MNk[..., 0]).transpose(1, 2)
        return func(*args, **(kwargs or {}))

    def _product(self, input_BSN: Tensor, weight_MN: Tensor) -> Tensor:
        whole = weight_MN if weight_MN._base is None else weight_MN._base
        parameter = self._positions.get(id(whole))
        if parameter is None:
            return _FrozenLinear.apply(input_BSN, weight_MN, None, self.recorder, None)
        first_row = (weight_MN.storage_offset() - whole.storage_offset()) // weight_MN.shape[1]
        return _FrozenLinear.apply(input_BSN, weight_MN, self._anchor, self.recorder, (parameter, first_row))


def _linear_arguments(
    input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    return input, weight, bias


def _convolution_arguments(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, ...] = (1,),
    padding: tuple[int, ...] = (0,),
    dilation: tuple[int, ...] = (1,),
    groups: int = 1,
) -> tuple[Any, ...]:
    # Dilation means nothing to a kernel of one.
    return input, weight, bias, stride, padding, groups


def freeze(model: AttributableModel) -> None:
    """Stop autograd from building a graph for the model's parameters; `capture` records what it needs by itself."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def capture(
    model: AttributableModel,
    codes_BKT: Tensor,
    n_frames: list[int],
    tracked: Sequence[nn.Parameter],
    codebook_weights: tuple[float, ...],
    *,
    heard_BT: Tensor | None = None,
    draws: Draws | None = None,
    measure: Measure | None = None,
    dtype: torch.dtype = torch.float32,
    loss_scale: float = 1.0,
) -> list[WeightCall]:
    """Put a batch of chunks through the model, back-propagate the sum of their losses, and return gradients' factors.

    The model must be frozen (`freeze`). Logits, losses and their gradient are float32 whatever the `dtype`. The
    gradient of chunk b is the product of row b of the captured tensors, divided by the loss scale. It does not depend
    on other chunks.

    Args:
        codes_BKT: int64 codes or float32 latents, padded to one length.
        n_frames: number of real frames of each chunk; 0 for a row that only fills the batch.
        tracked: the weights whose gradients are wanted.
        codebook_weights: weights of the losses of codebooks or rows of latents (`batch_losses`).
        heard_BT: bool; the losses leave out frames that are false. All frames count where it is None.
        draws: what the losses are means over; None where they are not random.
        measure: what is differentiated in place of the model's losses.
        dtype: dtype of the matrix products; all but float32 run under autocast.
        loss_scale: factor on the summed losses before the backward pass.

    Returns:
        One call for each multiplication by a tracked weight, in the order of the forward pass. The gradient of a bias
        is none of them.

    Raises:
        ModelError: a tracked convolution is no linear layer.
    """
    with _FrozenLinears(tracked, dtype) as mode, _precision(codes_BKT.device, dtype):
        losses = (measure or model.losses)(codes_BKT, n_frames, draws).of(heard_BT)
    loss = batch_losses(losses, codebook_weights).sum() * loss_scale
    loss.backward()
    return [_by_chunk(call, len(codes_BKT)) for call in mode.recorder.calls]


def _by_chunk(call: WeightCall, B: int) -> WeightCall:
    """One row for each chunk, where each of its draws was a row of the model's batch: more steps of one sum."""
    input_BSN, grad_BSM = (factor.reshape(B, -1, factor.shape[-1]) for factor in (call.input_BSN, call.output_grad_BSM))
    return replace(call, input_BSN=input_BSN, output_grad_BSM=grad_BSM)


def capture_heads(
    model: MusicModel,
    codes_BKT: Tensor,
    n_frames: list[int],
    heads: Sequence[int],
    codebook_weights: tuple[float, ...],
    *,
    heard_BT: Tensor | None = None,
    fresh: bool = False,
    dtype: torch.dtype = torch.float32,
) -> list[WeightCall]:
    """Capture the factors of the output heads' gradients with a forward pass alone.

    The derivative of a mean cross-entropy behind a linear layer without bias is known in closed form:
    `G_k = w_k/(n_k Σw) Σ_t (softmax(logits_kt) − onehot(code_kt)) h_ktᵀ` over the n_k valid frames.

    With the model's own heads, this gradient has mean zero over what the model itself generates, as every score
    function has over its own distribution. `fresh` puts another head in its place: one that has learned only how often
    each code occurs, f, and holds that in its biases. The side of the codes is whitened by the Fisher information of
    this softmax, whose inverse on gradients is 1/f (Amari 1998, "Natural gradient works efficiently in learning"). The
    bracket above becomes `(f − onehot(code_kt)) / √f`. The gradient of the biases is one more column: h gets one more
    number, `√_BIAS |h|` in place of 1.

    Args:
        codes_BKT: int64 `[B, K, T]`, padded to one length.
        n_frames: number of real frames of each chunk; 0 for a row that only fills the batch.
        heads: the codebooks whose heads are captured; `WeightCall.parameter` is a position in this list.
        codebook_weights: weights of the codebooks' losses; only their ratios matter.
        heard_BT: bool; frames that are false are not valid. All frames count where it is None.
        fresh: whether to use fresh heads `[C, D + 1]`, which know the frequencies in `model.statistics` and nothing of
            the context, in place of the model's own `[C, D]`.
        dtype: dtype of the matrix products; all but float32 run under autocast.

    Returns:
        One call for each head, in float32.
    """
    with torch.no_grad():
        with _FrozenLinears([], dtype), _precision(codes_BKT.device, dtype):
            prediction = model.predict(codes_BKT, n_frames).of(heard_BT)
        frequencies_KC = torch.from_numpy(model.statistics.frequencies_KC).to(codes_BKT.device) if fresh else None
        calls = []
        for position, k in enumerate(heads):
            valid_BT = prediction.valid_BKT[:, k]
            if frequencies_KC is not None:
                error_BTC = frequencies_KC[k].expand(*valid_BT.shape, -1).clone()
            else:
                error_BTC = prediction.logits_BKTC[:, k].float().softmax(dim=-1)
            error_BTC -= functional.one_hot(codes_BKT[:, k], error_BTC.shape[-1])
            if frequencies_KC is not None:
                error_BTC *= frequencies_KC[k].rsqrt()
            chunk_weight = codebook_weights[k] / sum(codebook_weights)
            scale_B = chunk_weight / valid_BT.sum(dim=1).clamp(min=1)
            error_BTC = torch.where(valid_BT[..., None], error_BTC * scale_B[:, None, None], 0.0)
            hidden_BTD = prediction.hidden_BKTD[:, k].float()
            if fresh:
                hidden_BTD = torch.cat([hidden_BTD, _BIAS**0.5 * hidden_BTD.norm(dim=-1, keepdim=True)], dim=-1)
            calls.append(WeightCall(position, 0, hidden_BTD, error_BTC))
        return calls


def _precision(device: torch.device, dtype: torch.dtype) -> Any:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
