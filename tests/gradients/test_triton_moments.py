"""The GPU kernel against the plain path: in Triton's interpreter (see conftest), for real where there is a GPU."""

import os
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lumina_ray.gradients import WeightCall, gradient_tiles, merge, moments
from lumina_ray.gradients.memory import predicted_peak_bytes

kernel = pytest.importorskip("lumina_ray.gradients.triton_moments")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(("S", "M", "N"), [(7, 5, 3), (33, 64, 130), (40, 200, 70)])
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float16,
        pytest.param(
            torch.bfloat16,
            marks=pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter multiplies bfloat16 as integers"),
        ),
    ],
)
def test_equal_to_the_plain_path(S: int, M: int, N: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(S)
    input_BSN = torch.randn(4, S, N, generator=generator).to(dtype).to(DEVICE)
    output_grad_BSM = torch.randn(4, S, M, generator=generator).to(dtype).to(DEVICE)
    call = WeightCall(0, 0, input_BSN, output_grad_BSM)
    rows, scales = [2, 0, 3], [0.5, 0.3, 0.2]
    expected = merge([moments(tile.values) for tile in gradient_tiles([call], rows, scales)])
    ours = kernel.fused_moments(call, rows, scales)
    assert ours.dtype == torch.float64
    # The error of a sum of signed numbers is measured against the sum of their magnitudes.
    scale = (expected[1] * M * N).sqrt()
    assert abs(ours[0] - expected[0]) <= 1e-6 * scale
    torch.testing.assert_close(ours[[1, 3, 4]], expected[[1, 3, 4]], rtol=1e-5, atol=0)
    assert abs(ours[2] - expected[2]) <= 1e-5 * expected[1] * expected[3:].abs().max()


def test_a_song_has_the_same_bits_wherever_its_chunks_lie() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2, 2, 20, 16, generator=generator).to(DEVICE)
    others = torch.randn(2, 2, 20, 16, generator=generator).to(DEVICE)
    alone = WeightCall(0, 0, torch.cat([first[0], others[0] * 0]), torch.cat([first[1], others[1] * 0]))
    last = WeightCall(0, 0, torch.cat([others[0], first[0]]), torch.cat([others[1], first[1]]))
    assert torch.equal(kernel.fused_moments(alone, [0, 1], [0.6, 0.4]), kernel.fused_moments(last, [2, 3], [0.6, 0.4]))


def test_its_products_are_counted_as_those_of_the_plain_path() -> None:
    call = WeightCall(0, 0, torch.ones(3, 21, 40, device=DEVICE), torch.ones(3, 21, 70, device=DEVICE))
    with FlopCounterMode(display=False) as plain:
        list(gradient_tiles([call], [2, 0], [0.5, 0.5]))
    with FlopCounterMode(display=False) as fused:
        kernel.fused_moments(call, [2, 0], [0.5, 0.5])
    assert fused.get_total_flops() == plain.get_total_flops() == 2 * 2 * 21 * 40 * 70


def test_memory_can_be_predicted_without_data() -> None:
    call = WeightCall(0, 0, torch.ones(3, 21, 40, device=DEVICE), torch.ones(3, 21, 70, device=DEVICE))
    # Two tiles of five float64, and the merging of them, take the place of a gradient of 11 200 bytes.
    assert 0 < predicted_peak_bytes(lambda: kernel.fused_moments(call, [2, 0], [0.5, 0.5])) < 500


# This needs no GPU. It runs in a process of its own, because Triton either interprets or compiles in one process.
_COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from lumina_ray.gradients.triton_moments import _moments_of_product as kernel
signature = {p.name: "constexpr" if p.is_constexpr else "i32" for p in kernel.params}
signature |= {"rows_ptr": "*i32", "weights_ptr": "*fp32", "out_ptr": "*fp64", "grad_ptr": "*fp16", "input_ptr": "*fp16"}
sizes = {"S": 501, "BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_S": 32}
compiled = compile(ASTSource(kernel, signature, sizes), target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
assert "wgmma" in compiled.asm["ptx"], "no tensor cores"
assert [p.name for p in kernel.params if p.do_not_specialize] == ["n_rows"]
"""


def test_one_kernel_for_songs_of_any_length_compiles_for_an_h100() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    subprocess.run([sys.executable, "-c", _COMPILE], env=environment, check=True, timeout=250)
