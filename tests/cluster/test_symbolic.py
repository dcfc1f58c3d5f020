"""A symbolic bank in miniature: scores really read, models really trained, and an interrupted build that goes on."""

import json
from pathlib import Path

import numpy as np
import pytest

from cluster import symbolic
from cluster.truth import Workplace
from lumina_ray.errors import SpecificationMismatch
from lumina_ray.symbolic.bank import load_bank
from lumina_ray.symbolic.card import make_card
from lumina_ray.symbolic.gradients import passages, projected
from lumina_ray.symbolic.pieces import excerpts
from lumina_ray.symbolic.recipe import SMALL, TINY, trainings, untrained_seed
from lumina_ray.symbolic.training import new_model


def test_a_bank_is_built_and_an_interrupted_one_is_the_same(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chorales = [song for song in symbolic.scores() if song.song_id.startswith("bach-bwv")][:14]
    monkeypatch.setattr(symbolic, "scores", lambda: tuple(chorales))
    bank = symbolic.build_symbolic_bank(tmp_path, TINY)
    assert len(bank.names) == TINY.pieces
    assert bank.losses_RQ.shape == (TINY.halves, TINY.excerpts + TINY.generated)
    assert {name: of.pieces_CND.shape[0] for name, of in bank.gradients.items()} == {
        "whole": len(TINY.checkpoints), "ensemble": TINY.ensemble, "untrained": 1,
    }  # fmt: skip
    for mask_N, training in zip(bank.masks_RN, trainings(TINY, TINY.pieces)[1:], strict=False):
        assert np.flatnonzero(mask_N).tolist() == list(training.pieces)

    # Each file holds what its function makes.
    pieces = [
        piece for path in sorted((tmp_path / "parts" / "music").iterdir()) for piece in symbolic._read_pieces(path)
    ]
    pieces = symbolic.chosen(pieces, TINY)
    found, vectors_nD = projected(new_model(TINY, untrained_seed(TINY)), passages(pieces, excerpts(TINY, pieces)))
    np.testing.assert_allclose(
        bank.gradients["untrained"].pieces_CND[0], vectors_nD[: TINY.pieces], rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(bank.untrained_Q[: TINY.excerpts], found[TINY.pieces :], rtol=1e-5)

    place = Workplace(tmp_path)
    for lost in (place.losses("half-001"), place.model("whole"), tmp_path / "parts" / "gradients" / "ensemble-001.npz"):
        lost.unlink()
    again = symbolic.build_symbolic_bank(tmp_path, TINY)
    np.testing.assert_array_equal(again.losses_RQ, bank.losses_RQ)
    assert make_card(load_bank(tmp_path)) == make_card(bank)
    with pytest.raises(SpecificationMismatch, match="was begun with pieces = 12, not 120"):
        symbolic.build_symbolic_bank(tmp_path, SMALL)
    assert json.loads((tmp_path / "parts" / "recipe.json").read_text())["symbolic bank version"] == 1
