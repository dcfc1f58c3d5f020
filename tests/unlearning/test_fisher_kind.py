"""Kind `fisher`: inner products of its vectors against unlearning to first order, made of autograd's gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lumina_ray.errors import ModelError, SpecificationMismatch
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.methods import METHODS, Features, attribute, cache
from lumina_ray.model import MusicModel, open_model
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.scores import first_order
from lumina_ray.unlearning.unlearn import DAMPING, Forgetting
from lumina_ray.vocabulary import SongCodes
from tests.tiny_model import tiny_music_model
from tests.unlearning.test_unlearn import plain_gradient, some_songs


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MusicModel:
    opened = open_model(str(tiny_model_dir))
    with torch.no_grad():
        for weights in opened.heads():
            weights.mul_(8)
    opened.fisher = fisher_diagonal(opened, some_songs(10))
    return opened


def test_vectors_are_scaled_gradients_under_the_projection(model: MusicModel) -> None:
    assert model.fisher is not None
    (song,) = some_songs(1, 7, frames=120)
    specification = Specification.for_model(model, "fisher")
    assert specification.statistics_sha256 == model.fisher.sha256
    F = [model.fisher.values[f"heads.{k}"].astype(np.float64) for k in range(4)]
    damping = DAMPING * np.mean(F)
    # A second chunk makes the song's gradient pass through tiles of a sum.
    long = SongCodes((song.chunks[0], song.chunks[0]), (0.0, 10.0))
    for codes, in_flight in ((song, 1), (long, 1), (long, 2)):
        made = Fingerprinter(model, specification, in_flight)(codes)
        for channel, codebooks in (("P", [0]), ("M", [1, 2, 3])):
            gradients = plain_gradient(model, song)
            scaled = np.concatenate(
                [
                    (gradients[id(model.heads()[k])].double().numpy() / np.sqrt(F[k] + damping)).ravel()
                    for k in codebooks
                ]
            )
            out = torch.zeros(4096, dtype=torch.float64)
            SparseProjection(len(scaled), 4096, specification.nonzeros, specification.seed).add(
                out, 0, torch.from_numpy(scaled)
            )
            assert made.norms[channel] == pytest.approx(float(out.norm()), rel=1e-3)
            np.testing.assert_allclose(made.vectors[channel], (out / out.norm()).numpy(), atol=1e-4)


def test_method_orders_songs_as_unlearning_to_first_order_does(model: MusicModel) -> None:
    assert model.fisher is not None
    songs = some_songs(40, 1, frames=100)
    for i in range(1, 40):
        # Of more and more frames of the first song.
        chunk = songs[i].chunks[0].copy()
        chunk[:, : 2 * i] = songs[0].chunks[0][:, : 2 * i]
        songs[i] = SongCodes((chunk,), (0.0,))
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "fisher"))
    made = list(fingerprinter.many(songs))

    def features(some: slice) -> Features:
        vectors = np.concatenate([[one.vectors["M"] for one in made[some]]])
        return Features(vectors[None], np.array([[one.norms["M"] for one in made[some]]]))

    found = attribute(cache(METHODS["unlearning-linear"], features(slice(None))), features(slice(1)))[0]
    exact = first_order(model, songs[0], songs, model.fisher, Forgetting(layers="heads"))
    # The sketch and the first codebook, which channel M leaves out, are all that differs.
    assert spearmanr(found[1:], exact[1:]).statistic > 0.9
    assert found.argmax() == exact.argmax() == 0


def test_without_fisher_information_there_is_no_such_fingerprint(model: MusicModel) -> None:
    with pytest.raises(ModelError, match="lumina fisher"):
        Specification.for_model(open_model("nano"), "fisher")
    unsaved = tiny_music_model()
    specification = Specification.for_model(unsaved, "fisher")
    unsaved.fisher = None
    with pytest.raises(ModelError, match="in memory only"):
        Specification.for_model(unsaved, "fisher")
    unsaved.fisher = fisher_diagonal(unsaved, some_songs(1))
    with pytest.raises(SpecificationMismatch, match=r"fisher\.npz"):
        Fingerprinter(unsaved, specification)
