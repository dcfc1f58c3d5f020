"""Log-likelihoods of songs against a computation code by code, and which two models may be compared."""

import copy
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from lumina_ray.errors import SpecificationMismatch
from lumina_ray.fingerprint.likelihood import Likelihood, check_panel, likelihood, observe
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
    logs, windows = [], []
    # Half a second of 50 frames each.
    length = 25
    for chunk_KT, heard_T in zip(codes.chunks, codes.heard, strict=True):
        T = chunk_KT.shape[1]
        # transformers' own forward pass over the delay pattern: column c of codebook k holds frame c − 1 − k.
        columns = torch.full((4, T + 1), 512)
        for k in range(4):
            columns[k, 1 + k :] = torch.from_numpy(chunk_KT[k, : T - k].astype(np.int64))
        with torch.no_grad():
            logits_KSC = model.model.decoder(columns, encoder_hidden_states=model.condition).logits
        log_p = logits_KSC.double().log_softmax(dim=-1)
        of_frame = [
            [float(log_p[k, t + k, int(chunk_KT[k, t])]) for k in range(4) if t < T - k and heard_T[t]]
            for t in range(T)
        ]
        logs += list(chain(*of_frame))
        for begin in range(0, T, length):
            window = list(chain(*of_frame[begin : begin + length]))
            windows.append(np.mean(window) if len(window) >= 50 else np.nan)
    assert pauses or len(logs) == sum(n - k for n in frames for k in range(4))
    found = likelihood(model, codes)
    assert found.mean == pytest.approx(np.mean(logs), abs=1e-5)
    np.testing.assert_allclose(found.windows_W, windows, atol=1e-5)
    assert np.isnan(windows).any() == (pauses or frames == [30] * 9)


def test_silence_and_no_codes_at_all_have_no_windows(model: TransformersMusicGen) -> None:
    silent = replace(song([40]), heard=(np.zeros(40, bool),))
    assert (likelihood(model, silent).mean, np.isnan(likelihood(model, silent).windows_W).all()) == (0, True)
    assert len(likelihood(model, SongCodes((), ())).windows_W) == 0


def test_windows_that_all_models_heard_are_compared() -> None:
    audited = Likelihood(-3.0, np.array([-3.0, -2.0, np.nan, -4.5]))
    references = [
        Likelihood(-3.5, np.array([-3.5, -3.0, -1.0, -4.0])),
        Likelihood(-4.0, np.array([-4, -3, -1, np.nan])),
    ]
    alone, both = observe(audited, references[:1]), observe(audited, references)
    assert (alone.audited, alone.references, alone.n_windows) == (-3, (-3.5,), 3)
    assert alone.window_mean == pytest.approx(np.mean([0.5, 1, -0.5]))
    assert alone.window_variance == pytest.approx(np.var([0.5, 1, -0.5], ddof=1))
    assert (both.references, both.n_windows, both.window_mean) == ((-3.5, -4), 2, pytest.approx(np.mean([0.75, 1])))
    none = observe(Likelihood(-3.0, np.array([np.nan])), [Likelihood(-3.5, np.array([-3.5]))])
    assert (none.n_windows, np.isnan(none.window_mean), none.window_variance) == (0, True, 0)


def test_a_reference_must_be_another_model_of_the_same_codec(model: TransformersMusicGen) -> None:
    reference = copy.copy(model)
    reference.name, reference.weights_sha256 = "reference", "1" * 64
    check_panel(model, [reference], model.weights_sha256)
    with pytest.raises(SpecificationMismatch, match="the store was made with weights 222222222222"):
        check_panel(model, [reference], "2" * 64)
    with pytest.raises(SpecificationMismatch, match="has the weights of the audited model itself"):
        check_panel(model, [reference, model], model.weights_sha256)
    twin = copy.copy(reference)
    twin.name = "twin"
    with pytest.raises(SpecificationMismatch, match="references 'reference' and 'twin' have the same weights"):
        check_panel(model, [reference, twin], model.weights_sha256)
    other = tiny_music_model()
    other.name, other.weights_sha256 = "other", "3" * 64
    with torch.no_grad():
        for layer in other.model.audio_encoder.quantizer.layers:
            layer.codebook.embed.copy_(layer.codebook.embed.flip(0))
    with pytest.raises(SpecificationMismatch, match="another codec than 'unsaved': the same sound becomes other codes"):
        check_panel(model, [reference, other], model.weights_sha256)
    other.codebook_size = 1024
    with pytest.raises(SpecificationMismatch, match=r"\(4, 1024, 50\), not \(4, 512, 50\)"):
        check_panel(model, [reference, other], model.weights_sha256)
