"""A whole bank in miniature: really rendered, trained, sampled and asked, and read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster import truth
from lumina_ray.truth.bank import load_bank
from lumina_ray.truth.corpus import Recording, corpus, members
from lumina_ray.truth.models import with_weights
from lumina_ray.truth.queries import losses
from lumina_ray.truth.recipe import SMALL

TINY = replace(
    SMALL, n_layers=1, dim=32, base_epochs=1.0, epochs=1.0, subsets=2, removals=1, repeats=1, references=2, captions=2,
    free=1,
)  # fmt: skip
_SOME = {"twin": 4, "cell": 4, "plain": 2, "outside": 4, "base": 2, "control": 2}

pytestmark = pytest.mark.soak


def some_recordings() -> tuple[Recording, ...]:
    """A few of each role; both recordings of a twin follow each other, as all of a cell's do."""
    whole = corpus(0)
    of_role = {role: [recording for recording in whole if recording.role == role] for role in _SOME}
    return tuple(recording for role, n in _SOME.items() for recording in of_role[role][:n])


def test_a_bank_is_built_and_an_interrupted_one_is_the_same(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = some_recordings()
    monkeypatch.setattr(truth, "corpus", lambda seed: recordings)
    monkeypatch.setattr("lumina_ray.truth.queries._ALTERED_SONGS", 1)
    bank = truth.build_bank(tmp_path, TINY)
    catalog = members(recordings, "A")
    names = [training.name for training in bank.trainings]
    assert names[:4] == ["A", "A-second", "B", "reference"]
    assert [n for n in names if n.startswith("single-")] == [f"single-{i:03}" for i in range(len(catalog))]
    assert {"base", "A", "A-early", "A-second", "B", "B-early", "reference", "reference-early", "reference-1"} == set(
        bank.models
    )
    kinds = {query.kind for query in bank.queries}
    assert kinds >= {"excerpt", "generated", "captioned", "guided", "continued", "prompted", "foreign", "altered"}
    assert np.isfinite(bank.losses_RQK).all()

    read = load_bank(tmp_path)
    model = with_weights(read.recipe, read.models["A"], text=read.text)
    asked = losses(model, [query.codes_KT for query in read.queries], [query.caption for query in read.queries])
    np.testing.assert_array_equal(asked, read.losses_RQK[0])

    for lost in (truth.Workplace(tmp_path).losses("half-001"), truth.Workplace(tmp_path).model("A")):
        lost.unlink()
    again = truth.build_bank(tmp_path, TINY)
    np.testing.assert_array_equal(again.losses_RQK, bank.losses_RQK)
