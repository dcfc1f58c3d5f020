"""MERT as a HuBERT with random weights, and folders that hold something else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor

from lumina_ray.embedding import mert
from lumina_ray.errors import ModelError
from tests.embedding.tiny import write_mert

CPU = torch.device("cpu")


def test_a_window_has_the_mean_of_the_last_hidden_states(tmp_path: Path) -> None:
    windows = torch.from_numpy((0.2 + np.random.default_rng(0).standard_normal((2, 120_000))).astype(np.float32))
    model = write_mert(tmp_path)
    network = mert.load(tmp_path, CPU)
    # What MERT's own processor does with a window.
    scaled = Wav2Vec2FeatureExtractor(sampling_rate=24_000, do_normalize=True)(
        list(windows.numpy()), sampling_rate=24_000, return_tensors="pt"
    )
    with torch.no_grad():
        found, again = network.embed(windows), network.embed(windows)
        expected = model(scaled["input_values"]).last_hidden_state.mean(dim=1)
    assert (network.dims, found.shape) == (12, (2, 12))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(found, again)


def test_a_folder_that_holds_something_else_says_what(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"mert \(config\.json: No such file.*m-a-p/MERT-v1-95M"):
        mert.load(tmp_path, CPU)
    for option, what in (
        ({"deepnorm": True}, "DeepNorm"),
        ({"feature_extractor_cqt": True, "attention_relax": 32.0}, "a spectrogram beside the waveform and relaxed"),
    ):
        write_mert(tmp_path, **option)
        with pytest.raises(ModelError, match=f"it has {what}.*which HuBERT has not"):
            mert.load(tmp_path, CPU)
    write_mert(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = load_file(weights)

    def load(changed: dict[str, torch.Tensor]) -> None:
        save_file(changed, weights, metadata={"format": "pt"})
        mert.load(tmp_path, CPU)

    key = "encoder.layers.1.attention.k_proj.weight"
    with pytest.raises(ModelError, match=f"lacks tensors: {key}"):
        load({name: values for name, values in whole.items() if name != key})
    with pytest.raises(ModelError, match=rf"{key} is \(3,\), not \(12, 12\)"):
        load(whole | {key: torch.zeros(3)})
    with pytest.raises(ModelError, match=r"has unknown tensors: encoder\.more"):
        load(whole | {"encoder.more": torch.zeros(3)})
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"cannot be loaded as mert \(config\.json"):
        mert.load(tmp_path, CPU)
