import io
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import EncodecModel

from lumina_ray.training.codec import (
    CODEBOOK_SIZE,
    CodecSchedule,
    evaluate_codec,
    fit_codebooks,
    new_codec,
    quantise,
    si_sdr_db,
    train_codec,
)
from lumina_ray.training.codec_init import initialise_by_components
from tests.training.synthetic import melody


@pytest.fixture(scope="module")
def songs() -> list[np.ndarray]:
    return [melody(seed, 8.0) for seed in range(3)]


@pytest.fixture(scope="module")
def started(songs: list[np.ndarray]) -> EncodecModel:
    """A codec as it is before the first step, with fitted codebooks."""
    codec = new_codec(0).eval()
    initialise_by_components(codec, songs, seed=0)
    fit_codebooks(codec, songs, seed=0)
    return codec


def test_quantisation_takes_the_nearest_centroid_of_each_level(started: EncodecModel, songs: list[np.ndarray]) -> None:
    with torch.no_grad():
        latents_BDT = started.encoder(torch.from_numpy(songs[0])[None, None, :32_000])

    def by_hand(vector_D: Tensor) -> tuple[list[int], Tensor]:
        codes, total_D = [], torch.zeros_like(vector_D)
        for layer in started.quantizer.layers:
            distances = [(vector_D - total_D - centroid_D).square().sum() for centroid_D in layer.codebook.embed]
            codes.append(int(np.argmin(distances)))
            total_D = total_D + layer.codebook.embed[codes[-1]]
        return codes, total_D

    quantised_BDT = quantise(started, latents_BDT)
    published_KT = started.quantizer.encode(latents_BDT)[:, 0]
    for t in (0, 11, 49):
        codes, expected_D = by_hand(latents_BDT[0, :, t])
        torch.testing.assert_close(quantised_BDT[0, :, t], expected_D)
        assert published_KT[:, t].tolist() == codes


def test_codebooks_are_all_in_use_and_each_level_leaves_less(started: EncodecModel, songs: list[np.ndarray]) -> None:
    with torch.no_grad():
        latents_NDT = torch.cat([started.encoder(torch.from_numpy(song)[None, None]) for song in songs])
        codes_KBT = started.quantizer.encode(latents_NDT)
    assert min(len(codes_BT.unique()) for codes_BT in codes_KBT) > CODEBOOK_SIZE // 2

    left = latents_NDT
    energies = [float(left.square().mean())]
    for layer, codes_BT in zip(started.quantizer.layers, codes_KBT, strict=True):
        left = left - layer.decode(codes_BT)
        energies.append(float(left.square().mean()))
    assert all(later < earlier for earlier, later in pairwise(energies))


def test_principal_components_reconstruct_before_the_first_step(songs: list[np.ndarray]) -> None:
    codec, random = new_codec(0).eval(), new_codec(0).eval()
    initialise_by_components(codec, songs, seed=0)
    unheard_N = torch.from_numpy(melody(99, 4.0))

    def ratio_db(model: EncodecModel) -> float:
        with torch.no_grad():
            return si_sdr_db(model.decoder(model.encoder(unheard_N[None, None])).flatten(), unheard_N)

    assert ratio_db(codec) > 10
    assert ratio_db(random) < 0


def test_si_sdr_of_a_known_mixture_ignores_scale() -> None:
    rng = torch.Generator().manual_seed(0)
    target_N = torch.randn(64_000, generator=rng)
    noise_N = torch.randn(64_000, generator=rng) / math.sqrt(10)

    assert si_sdr_db(target_N + noise_N, target_N) == pytest.approx(10, abs=0.1)
    assert si_sdr_db(3 * (target_N + noise_N), target_N) == pytest.approx(
        si_sdr_db(target_N + noise_N, target_N), abs=1e-4
    )


@pytest.mark.soak
def test_resuming_gives_the_weights_of_an_uninterrupted_run(songs: list[np.ndarray]) -> None:
    schedule = CodecSchedule(autoencoder=2, decoder=2)
    states: list[dict[str, Any]] = []

    def keep(metrics: dict[str, float], state: dict[str, Any]) -> None:
        assert metrics["step"] == state["step"]
        states.append(torch.load(_saved(state), weights_only=True))

    whole = train_codec(songs, schedule, seed=5, report=keep, report_every=1)
    resumed = train_codec(songs, schedule, seed=5, report=lambda metrics, state: None, report_every=1, resume=states[0])

    assert [state["step"] for state in states] == [1, 2, 3, 4]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    figures = evaluate_codec(whole, songs[:1])
    assert all(math.isfinite(value) for value in figures.values())


def _saved(state: dict[str, Any]) -> io.BytesIO:
    """Save a state as a checkpoint does, so that later training does not change it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file
