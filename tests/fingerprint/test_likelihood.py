"""Log-likelihoods of songs against a computation code by code, and which two models may be compared."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lumina_ray.errors import SpecificationMismatch
from lumina_ray.fingerprint.likelihood import check_pair, log_likelihood
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.vocabulary import SongCodes
from tests.tiny_model import tiny_music_model


@pytest.fixture(scope="module")
def model() -> TransformersMusicGen:
    return tiny_music_model()


def song(frames: list[int], seed: int = 0) -> SongCodes:
    rng = np.random.default_rng(seed)
    chunks = tuple(rng.integers(0, 512, (4, n)).astype(np.uint16) for n in frames)
    return SongCodes(chunks, tuple(float(i) for i in range(len(frames))))


@pytest.mark.parametrize("frames", [[40], [40, 40, 23], [30] * 9])
@pytest.mark.parametrize("pauses", [False, True])
def test_it_is_the_mean_over_codes_that_can_be_predicted_and_hold_sound(
    model: TransformersMusicGen, frames: list[int], pauses: bool
) -> None:
    codes = song(frames)
    if pauses:
        codes = replace(codes, heard=tuple(np.arange(n) % 7 != 3 for n in frames))
    logs = []
    for chunk_KT, heard_T in zip(codes.chunks, codes.heard, strict=True):
        T = chunk_KT.shape[1]
        # transformers' own forward pass over the delay pattern: column c of codebook k holds frame c − 1 − k.
        columns = torch.full((4, T + 1), 512)
        for k in range(4):
            columns[k, 1 + k :] = torch.from_numpy(chunk_KT[k, : T - k].astype(np.int64))
        with torch.no_grad():
            logits_KSC = model.model.decoder(columns, encoder_hidden_states=model.condition).logits
        log_p = logits_KSC.double().log_softmax(dim=-1)
        logs += [float(log_p[k, t + k, int(chunk_KT[k, t])]) for k in range(4) for t in range(T - k) if heard_T[t]]
    assert pauses or len(logs) == sum(n - k for n in frames for k in range(4))
    assert log_likelihood(model, codes) == pytest.approx(np.mean(logs), abs=1e-5)


def test_a_reference_must_be_another_model_of_the_same_codec(model: TransformersMusicGen) -> None:
    reference = copy.copy(model)
    reference.name, reference.weights_sha256 = "reference", "1" * 64
    check_pair(model, reference, model.weights_sha256)
    with pytest.raises(SpecificationMismatch, match="the store was made with weights 222222222222"):
        check_pair(model, reference, "2" * 64)
    with pytest.raises(SpecificationMismatch, match="has the weights of the audited model itself"):
        check_pair(model, model, model.weights_sha256)
    other = tiny_music_model()
    other.name, other.weights_sha256 = "other", "3" * 64
    with torch.no_grad():
        for layer in other.model.audio_encoder.quantizer.layers:
            layer.codebook.embed.copy_(layer.codebook.embed.flip(0))
    with pytest.raises(SpecificationMismatch, match="another codec than 'unsaved': the same sound becomes other codes"):
        check_pair(model, other, model.weights_sha256)
    other.codebook_size = 1024
    with pytest.raises(SpecificationMismatch, match=r"\(4, 1024, 50\), not \(4, 512, 50\)"):
        check_pair(model, other, model.weights_sha256)
