"""CLAP with random weights: fixed windows, the spectrogram of transformers, and folders that hold something else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ClapFeatureExtractor

from lumina_ray.embedding import clap
from lumina_ray.errors import ModelError
from tests.embedding.tiny import write_clap

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    return torch.from_numpy((0.1 * np.random.default_rng(0).standard_normal((2, 480_000))).astype(np.float32))


def test_a_window_has_the_embedding_that_transformers_gives_it(tmp_path: Path, windows: torch.Tensor) -> None:
    model = write_clap(tmp_path)
    network = clap.load(tmp_path, CPU)
    with torch.no_grad():
        found = network.embed(windows)
        # Of windows of the model's own length nothing is cut at random.
        extractor = ClapFeatureExtractor.from_pretrained(tmp_path)
        inputs = extractor(list(windows.numpy()), sampling_rate=48_000, return_tensors="pt")
        expected = model.get_audio_features(input_features=inputs["input_features"]).pooler_output
        again = network.embed(windows)
    assert (network.dims, found.shape) == (16, (2, 16))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(found, again)
    np.testing.assert_allclose(found.norm(dim=1), 1, atol=1e-5)


def test_a_folder_that_holds_something_else_says_what(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"clap \(config\.json: No such file.*larger_clap_music"):
        clap.load(tmp_path, CPU)
    write_clap(tmp_path, enable_fusion=True)
    with pytest.raises(ModelError, match="it has fusion, which mixes random crops"):
        clap.load(tmp_path, CPU)
    write_clap(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = load_file(weights)

    def load(changed: dict[str, torch.Tensor]) -> None:
        save_file(changed, weights, metadata={"format": "pt"})
        clap.load(tmp_path, CPU)

    key = "audio_projection.linear1.weight"
    with pytest.raises(ModelError, match=f"lacks tensors: {key}"):
        load({name: values for name, values in whole.items() if name != key})
    with pytest.raises(ModelError, match=rf"{key} is \(3,\), not"):
        load(whole | {key: torch.zeros(3)})
    with pytest.raises(ModelError, match=r"has unknown tensors: audio_model\.more"):
        load(whole | {"audio_model.more": torch.zeros(3)})
    # Nobody asks the text side for anything.
    load({name: values for name, values in whole.items() if not name.startswith("text_projection")})
    weights.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded as clap"):
        clap.load(tmp_path, CPU)
    weights.unlink()
    with pytest.raises(ModelError, match=r"it has no model\.safetensors or pytorch_model\.bin"):
        clap.load(tmp_path, CPU)
    save_file(whole, weights, metadata={"format": "pt"})
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"sampling_rate": 16_000}))
    with pytest.raises(ModelError, match="rate, samples of a window and mel bands are"):
        clap.load(tmp_path, CPU)
