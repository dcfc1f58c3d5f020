"""The bundled diffusion transformer: small, complete, in half precision, and it looks at its text."""

import pytest
import torch
from safetensors import safe_open

from lumina_ray.fingerprint.default import default_kind
from lumina_ray.model import find_model, open_model
from lumina_ray.model.diffusion.adapter import DiffusionTransformer

NAME = "nano-dit"


@pytest.fixture(scope="module")
def model() -> DiffusionTransformer:
    opened = open_model(NAME)
    assert isinstance(opened, DiffusionTransformer)
    return opened


def test_it_is_small_and_has_a_card() -> None:
    folder = find_model(NAME)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 15e6
    assert (folder / "MODEL_CARD.md").is_file()
    assert default_kind(NAME) == "gradient"


def test_its_stored_weights_are_read_to_the_same_bits(model: DiffusionTransformer) -> None:
    state = model.transformer.state_dict()
    with safe_open(find_model(NAME) / "transformer" / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert set(file.keys()) == set(state)
        for name in file.keys():  # noqa: SIM118
            stored = file.get_tensor(name)
            assert stored.dtype == torch.float16
            assert state[name].dtype == torch.float32
            assert torch.equal(stored, state[name].half())


def test_it_has_nanos_codec_and_looks_at_its_text(model: DiffusionTransformer) -> None:
    assert (model.representation.rows, model.frame_rate_hz) == (64, 50.0)
    assert model.unknown_words("slow organ") == []
    generator = torch.Generator().manual_seed(0)
    latents_1CT = torch.randn(1, 64, 200, generator=generator)
    with torch.no_grad():
        one, other = (
            model.velocity(latents_1CT, torch.tensor([0.5]), [200], model.embed(text, 4.0))
            for text in ("slow organ", "fast metal, guitar, drums")
        )
    assert float((one - other).square().mean() / one.square().mean()) > 1e-5
    # Training moved it away from its start, where blocks add nothing.
    assert all(float(block.ff.net[2].weight.abs().max()) > 0.01 for block in model.transformer.transformer_blocks)
