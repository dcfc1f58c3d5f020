"""A process that only runs models imports no compiler, and its models are the same to the bit."""

import subprocess
import sys

import pytest

_UNNEEDED = ["torch._dynamo", "torch.distributed.tensor", "sympy", "scipy", "pandas", "matplotlib"]

# Weights, buffers and what a forward and a backward pass make of them.
_CODE = """
import hashlib, sys
import torch
from lumina_ray.model import lean, open_model
if {own}:
    lean.only_run_models()
model = open_model("nano")
digest = hashlib.sha256()
for name, tensor in sorted({{**model.model.state_dict(), **dict(model.model.named_buffers())}}.items()):
    digest.update(f"{{name}} {{tensor.dtype}} {{tuple(tensor.shape)}}".encode() + tensor.numpy().tobytes())
codes = torch.arange(2 * model.n_codebooks * 20).reshape(2, model.n_codebooks, 20) % model.codebook_size
made = model.predict(codes, [20, 13])
made.logits_BKTC.square().mean().backward()
digest.update(made.logits_BKTC.detach().numpy().tobytes() + model.heads()[0].grad.numpy().tobytes())
loaded = [name for name in {unneeded} if name in sys.modules]
assert type(model.model.config).__name__ == "MusicgenConfig" and not model.model.training
# Whoever needs the compiler later gets the real one.
compiled = torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
print(digest.hexdigest(), loaded, float(compiled), torch._dynamo.__name__)
"""


@pytest.fixture(scope="module")
def outputs() -> dict[bool, str]:
    def run(own: bool) -> str:
        code = _CODE.format(own=own, unneeded=_UNNEEDED)
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    return {own: run(own) for own in (True, False)}


def test_a_process_that_only_runs_models_imports_no_compiler(outputs: dict[bool, str]) -> None:
    assert outputs[True].endswith(" [] 2.0 torch._dynamo\n")


def test_its_models_are_the_same(outputs: dict[bool, str]) -> None:
    assert outputs[True].split()[0] == outputs[False].split()[0]


def test_who_imports_the_library_gets_transformers_as_it_is(outputs: dict[bool, str]) -> None:
    assert "'torch.distributed.tensor'" in outputs[False]
