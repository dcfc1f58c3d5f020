"""Whole diagnoses of scores whose structure is laid down, from Python and from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from lumina_ray.diagnostics.diagnosis import Settings, diagnose
from lumina_ray.diagnostics.feature_tables import read_features
from lumina_ray.diagnostics.reliability import ScoreSums, judge
from lumina_ray.diagnostics.score_tables import ScoreMatrix
from lumina_ray.errors import UsageError
from tests.cli.running import run_lumina
from tests.diagnostics.synthetic import (
    CLUSTER_Q,
    QUERIES,
    SONGS,
    clustered_scores,
    feature_table,
    score_table,
    write,
)

SIZES = Settings(sizes=(4, 8), random=400)


def matrix(scores_NQ: np.ndarray, method: str = "influence") -> ScoreMatrix:
    n, q = scores_NQ.shape
    return ScoreMatrix("P", QUERIES[:q], SONGS[:n], np.arange(n), scores_NQ, method)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return read_features(write(feature_table(), tmp_path_factory.mktemp("features") / "f.parquet"), SONGS)


def test_aspects_that_scores_follow_are_told_from_those_that_they_do_not(features) -> None:  # type: ignore[no-untyped-def]
    found = diagnose(matrix(clustered_scores()), features, settings=SIZES)
    of = {(row.aspect, row.size): row for row in found.homogeneity if not row.residual}
    for size in (4, 8):
        assert of["timbre", size].found.low > 1
        assert of["harmony", size].found.low > 1
        assert abs(of["rhythm", size].found.mean) < 0.8
        # The null's own share is near the normal one, as its skew is small, for vectors.
        assert 0.02 < of["timbre", size].null_significant < 0.09
    assert not found.reliability.collapsed
    assert found.reliability == judge(ScoreSums.of(clustered_scores()))
    assert found.normalisation == "z"
    assert [(one.size, one.residual) for one in found.groups] == [(4, False), (4, True), (8, False), (8, True)]


def test_a_fixed_group_is_one_observation_and_gone_without_the_first_axis(features) -> None:  # type: ignore[no-untyped-def]
    own_cluster_N = (np.arange(60) % 6 == 0).astype(float)
    scores_NQ = np.outer(5 * own_cluster_N + 1, np.linspace(1, 2, 24))
    scores_NQ += 0.01 * np.random.default_rng(0).standard_normal(scores_NQ.shape)
    found = diagnose(matrix(scores_NQ), features, settings=SIZES)
    assert found.reliability.collapsed
    timbre = {row.residual: row.found for row in found.homogeneity if (row.aspect, row.size) == ("timbre", 8)}
    assert timbre[False].mean > 2
    assert timbre[True].low < 1 < timbre[False].low
    assert found.residual is not None
    assert not found.residual.collapsed


def test_equal_scores_for_all_queries_leave_nothing(features) -> None:  # type: ignore[no-untyped-def]
    found = diagnose(matrix(np.outer(np.arange(60.0), np.ones(24))), features, settings=SIZES)
    assert found.residual is None
    assert [one.distinct for one in found.groups] == [1, 1]
    assert [one.songs for one in found.groups] == [4, 8]
    assert any("one axis" in note for note in found.notes)
    assert found.reliability.collapse == pytest.approx(1)


def test_homogeneity_needs_no_axis_of_its_own(features) -> None:  # type: ignore[no-untyped-def]
    found = diagnose(matrix(np.random.default_rng(2).standard_normal((60, 24))), features, settings=SIZES)
    for row in found.homogeneity:
        assert abs(row.found.mean) < 1
    assert set(found.alignments) == {"timbre", "rhythm"}
    for aspect in found.alignments.values():
        assert aspect.held_out < 0.2
    assert found.alignments["timbre"].adjusted is not None
    assert any("No alignment with harmony" in note for note in found.notes)


def test_methods_say_how_scores_are_brought_to_one_scale() -> None:
    scores_NQ = clustered_scores()
    for method, expected in (("influence", "z"), ("logra", "rank"), ("", "rank")):
        assert diagnose(matrix(scores_NQ, method)).normalisation == expected
    assert diagnose(matrix(scores_NQ, "logra"), settings=Settings(normalisation="z")).normalisation == "z"


def test_equal_input_gives_equal_output(features) -> None:  # type: ignore[no-untyped-def]
    scores_NQ = clustered_scores()
    assert diagnose(matrix(scores_NQ), features, settings=SIZES) == diagnose(
        matrix(scores_NQ), features, settings=SIZES
    )


def test_numbers_that_make_no_sense_are_refused() -> None:
    for settings, message in (
        (Settings(sizes=(60,)), "groups of 60 songs from a catalog of 60"),
        (Settings(random=1), "1 random groups"),
        (Settings(random=10**9), "1000000000 random groups"),
    ):
        with pytest.raises(UsageError, match=message):
            diagnose(matrix(clustered_scores()), settings=settings)


def test_the_command(tmp_path: Path) -> None:
    scores = str(write(score_table(clustered_scores()), tmp_path / "scores.parquet"))
    features = str(write(feature_table(), tmp_path / "features.parquet"))
    genres = tmp_path / "queries.csv"
    genres.write_text(
        "song_id,path,genre\n" + "".join(f"{q},x.wav,g{c % 2}\n" for q, c in zip(QUERIES, CLUSTER_Q, strict=True))
    )
    command = ["diagnose", scores, "--features", features, "--genres", str(genres), "--size", "4", "--random", "200"]
    done = run_lumina(*command, "--json", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.stderr
    body = json.loads(done.stdout)
    assert body == json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    p, m = body["channels"]
    assert (p["channel"], m["channel"]) == ("P", "M")
    assert p["homogeneity"] == m["homogeneity"]
    assert p["reliability"]["collapsed"] is False
    assert [row["genre"] for row in p["genres"][0]["rows"]] in (["g0", "g1"], ["g1", "g0"])
    assert sum(row["n"] for row in p["genres"][0]["rows"]) == 24
    assert (tmp_path / "out" / "diagnosis.png").read_bytes()[:4] == b"\x89PNG"
    shown = run_lumina(*command, "--channels", "P")
    assert shown.exit_code == 0
    assert "each query has a ranking mostly of its own" in shown.stdout
    for word in ("κ̄", "by chance", "timbre", "rest", "g1", "held-out"):
        assert word in shown.stdout
    assert max(map(cell_len, shown.stdout.splitlines())) <= 80


def test_the_command_without_features(tmp_path: Path) -> None:
    scores = str(write(score_table(np.outer(np.arange(60.0), np.ones(24))), tmp_path / "scores.parquet"))
    done = run_lumina("diagnose", scores, "--channels", "M")
    assert done.exit_code == 0, done.stderr
    assert "M: COLLAPSED (collapse 1.00" in done.stdout
    assert run_lumina("diagnose", scores, "--out", str(tmp_path / "out")).exit_code == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--genres", "x.csv"], "--genres divides homogeneity by genre, which needs --features too"),
        (["--size", "60"], "groups of 60 songs from a catalog of 60: 2 to 59"),
        (["--features", "no.parquet"], "no.parquet: no such file"),
    ],
)
def test_mistakes_are_one_line(more: list[str], message: str, tmp_path: Path) -> None:
    scores = str(write(score_table(clustered_scores()), tmp_path / "scores.parquet"))
    done = run_lumina("diagnose", scores, *more)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_where_a_song_has_one_score_the_scale_changes_no_group(features) -> None:  # type: ignore[no-untyped-def]
    """Both scales keep the order within a query; they differ where segments are averaged."""
    scores_NQ = np.exp(clustered_scores())
    z, rank = (
        diagnose(matrix(scores_NQ), features, settings=Settings(sizes=(5,), random=50, normalisation=one))
        for one in ("z", "rank")
    )
    assert z.homogeneity == rank.homogeneity
    assert z.alignments != rank.alignments
