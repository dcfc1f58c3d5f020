"""Two scores of the factorial set, really rendered, encoded by nano and measured."""

from pathlib import Path

import numpy as np
import pytest

from lumina_ray.errors import UsageError
from lumina_ray.evidence import EVIDENCE
from lumina_ray.model import open_model
from lumina_ray.truth import factorial_music, factorial_set
from lumina_ray.truth.factorial_rows import as_dict, check_methods, evidence_rows, method_rows, save_rows

SCORES = ("bach/bwv434.mxl", "haydn/opus1no1/movement2.mxl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, factorial_set.FactorialSet]:
    folder = tmp_path_factory.mktemp("factorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factorial_music, "scores", lambda _part: SCORES)
        return folder, factorial_set.factorial_set("dev", folder, open_model("nano"))


def test_every_clip_has_codes_and_evidence(made: tuple[Path, factorial_set.FactorialSet]) -> None:
    folder, of = made
    assert len(of.clips) == len(of.songs) == 24
    assert of.codes_nKT.shape == (24, 4, 500)
    assert of.heard_nT.any(axis=1).all()
    for name in EVIDENCE:
        for vectors in (of.evidence[name], of.decoded[name]):
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # No audio is kept.
    assert [path.name for path in folder.iterdir()] == ["factorial-dev.npz"]


def test_what_was_made_is_read_and_never_made_again(
    made: tuple[Path, factorial_set.FactorialSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, of = made
    monkeypatch.setattr(factorial_music, "scores", lambda _part: SCORES)
    monkeypatch.setattr(factorial_set, "render_part", lambda _part: pytest.fail("it was rendered again"))
    again = factorial_set.factorial_set("dev", folder, open_model("nano"))
    np.testing.assert_array_equal(again.codes_nKT, of.codes_nKT)
    np.testing.assert_array_equal(again.evidence["sound"], of.evidence["sound"])


def test_rows_of_evidence_and_methods(made: tuple[Path, factorial_set.FactorialSet]) -> None:
    folder, of = made
    rows = [*evidence_rows(of), *method_rows(of, open_model("nano"), ["tokens", "random"])]
    assert [(row.name, row.channel) for row in rows] == [
        *(("composition", ""), ("sound", ""), ("composition, decoded", ""), ("sound, decoded", "")),
        *(("tokens", "P"), ("tokens", "M"), ("random", "P"), ("random", "M")),
    ]
    values = {row.name: row.measures["grid"]["score_over_sound"].value for row in rows}
    assert values["composition"] > 0.9
    assert values["sound"] < 0.1
    save_rows("dev", rows, folder / "factorial-dev.json")
    assert as_dict("dev", rows)["rows"][0]["measures"]["transposed"]["first_is_score"]["value"] > 0.9
    (folder / "factorial-dev.json").unlink()


def test_methods_that_cannot_stand_in_the_table_are_refused() -> None:
    with pytest.raises(UsageError, match="no method 'other'"):
        check_methods(["other"])
    with pytest.raises(UsageError, match="the query is one of them"):
        check_methods(["stats-kernel"])
