"""Moments of weight gradients on a GPU, made in the epilogue of each tile's product: the gradient is never written.

Songs with more chunks than are in flight take the plain way, through a gradient in float32 (`SongGradient`).

`moments(gradient_tiles(…))` computes the same numbers in plain PyTorch. Tests compare the two, in Triton's interpreter
where there is no GPU. Sums are taken in a fixed order without atomics, so that a song's moments have the same bits in
any batch.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from lumina_ray.gradients.capture import WeightCall
from lumina_ray.gradients.moments import merge

_STEP_BLOCK = 32


# The compiler must not know `n_rows`, or it would compile the kernel again for each number of chunks.
@triton.jit(do_not_specialize=["n_rows"])
def _moments_of_product(
    grad_ptr, input_ptr, rows_ptr, weights_ptr, out_ptr,
    M, N, n_rows,
    grad_stride_b, grad_stride_s, input_stride_b, input_stride_s,
    S: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    tile_m, tile_n = tl.program_id(0), tl.program_id(1)
    m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    i = 0
    # With NumPy 2.4, Triton's interpreter does not accept a `range` of a number that the compiler does not know.
    while i < n_rows:
        b = tl.load(rows_ptr + i)
        product = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for first in range(0, S, BLOCK_S):
            s = first + tl.arange(0, BLOCK_S)
            grad = tl.load(
                grad_ptr + b * grad_stride_b + s[None, :] * grad_stride_s + m[:, None],
                mask=(s[None, :] < S) & (m[:, None] < M), other=0.0,
            )  # fmt: skip
            inputs = tl.load(
                input_ptr + b * input_stride_b + s[:, None] * input_stride_s + n[None, :],
                mask=(s[:, None] < S) & (n[None, :] < N), other=0.0,
            )  # fmt: skip
            product = tl.dot(grad, inputs, product, input_precision="ieee")
        total += tl.load(weights_ptr + i) * product
        i += 1
    inside = (m[:, None] < M) & (n[None, :] < N)
    x = tl.where(inside, total, 0.0).to(tl.float64)
    squared = x * x
    out = out_ptr + (tile_m * tl.num_programs(1) + tile_n) * 5
    tl.store(out, tl.sum(x))
    tl.store(out + 1, tl.sum(squared))
    tl.store(out + 2, tl.sum(squared * x))
    tl.store(out + 3, tl.max(tl.where(inside, total, float("-inf"))).to(tl.float64))
    tl.store(out + 4, tl.min(tl.where(inside, total, float("inf"))).to(tl.float64))


def _launch(grad_BSM: Tensor, input_BSN: Tensor, rows: Sequence[int], scales: Sequence[float]) -> Tensor:
    grad_BSM, input_BSN = grad_BSM.contiguous(), input_BSN.contiguous()
    _, S, M = grad_BSM.shape
    N = input_BSN.shape[-1]
    device = grad_BSM.device
    block = _block(grad_BSM)
    rows_R = torch.tensor(rows, dtype=torch.int32, device=device)
    weights_R = torch.tensor(scales, dtype=torch.float32, device=device)
    out = _out(grad_BSM, input_BSN)
    # Triton launches on the current device, which may be another one than the tensors' device.
    with torch.cuda.device_of(grad_BSM):
        _moments_of_product[triton.cdiv(M, block), triton.cdiv(N, block)](
            grad_BSM, input_BSN,
            rows_R, weights_R, out, M, N, len(rows),
            grad_BSM.stride(0), grad_BSM.stride(1), input_BSN.stride(0), input_BSN.stride(1),
            S=S, BLOCK_M=block, BLOCK_N=block, BLOCK_S=_STEP_BLOCK,
            num_warps=8 if block == 128 else 4,
        )  # fmt: skip
    return out


def _block(grad_BSM: Tensor) -> int:
    # Products of 16-bit factors run on tensor cores, which are fastest with large tiles; exact float32 is not.
    return 128 if grad_BSM.element_size() == 2 else 64


def _out(grad_BSM: Tensor, input_BSN: Tensor) -> Tensor:
    block = _block(grad_BSM)
    n_tiles = triton.cdiv(grad_BSM.shape[-1], block) * triton.cdiv(input_BSN.shape[-1], block)
    return grad_BSM.new_empty(n_tiles, 5, dtype=torch.float64)


def _count_flops(
    grad_BSM: Sequence[int], input_BSN: Sequence[int], rows: Sequence[int], *_args: object, **_kwargs: object
) -> int:
    return 2 * len(rows) * grad_BSM[1] * grad_BSM[2] * input_BSN[2]


# The kernel is registered as an operator of torch, so that its memory is predicted without data and its products are
# counted.
torch.library.define(
    "lumina::tile_moments", "(Tensor grad_BSM, Tensor input_BSN, int[] rows, float[] scales) -> Tensor"
)
torch.library.impl("lumina::tile_moments", ("cpu", "cuda"), _launch)
torch.library.register_fake("lumina::tile_moments", lambda grad_BSM, input_BSN, rows, scales: _out(grad_BSM, input_BSN))
register_flop_formula(torch.ops.lumina.tile_moments)(_count_flops)


def fused_moments(call: WeightCall, rows: Sequence[int], scales: Sequence[float]) -> Tensor:
    """The moments of `Σ_i scales[i] · G(chunk rows[i])`, made from one call's factors: float64 `[5]`."""
    return merge([torch.ops.lumina.tile_moments(call.output_grad_BSM, call.input_BSN, rows, scales)])
