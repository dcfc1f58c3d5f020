"""Reliability against direct computation, its identities as properties, its floors against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.diagnostics import reliability
from lumina_ray.diagnostics.reliability import (
    Diagnostics,
    Reliability,
    ScoreSums,
    chance,
    diagnostics,
    leading_axis,
    sum_parts,
    without_axis,
)
from lumina_ray.errors import UsageError
from tests.diagnostics.published import TABLE_1, TABLE_2


def of(scores_NQ: np.ndarray) -> Diagnostics:
    return diagnostics(ScoreSums.of(scores_NQ))


def judge(scores_NQ: np.ndarray) -> Reliability:
    return reliability.judge(ScoreSums.of(scores_NQ))


def test_the_threshold_is_where_half_of_the_variance_is_shared() -> None:
    """Columns that are a common profile and one of their own, in equal parts, correlate by a half."""
    rng = np.random.default_rng(0)
    profile_N, own_NQ = rng.standard_normal((20_000, 1)), rng.standard_normal((20_000, 30))
    for shared, collapsed in ((0.45, False), (0.55, True)):
        judged = judge(np.sqrt(shared) * profile_N + np.sqrt(1 - shared) * own_NQ)
        assert judged.collapse == pytest.approx(shared, abs=0.02)
        assert judged.collapsed is collapsed


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """Scores with an axis, an offset and scales of their own, of any of these strengths, some columns constant."""
    n, q = draw(st.integers(3, 40)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shared, offset, own = (draw(st.sampled_from([0.0, 0.1, 1.0, 30.0])) for _ in range(3))
    scores = own * rng.standard_normal((n, q)) + shared * np.outer(rng.standard_normal(n), rng.standard_normal(q))
    scores += offset * rng.standard_normal(q) + 1e-3 * rng.standard_normal((n, q))
    scores[:, rng.random(q) < draw(st.sampled_from([0.0, 0.2]))] = draw(st.sampled_from([0.0, 2.5, 0.1]))
    scores[0, 0] += 1  # Not all of it is 0.
    return scores * draw(st.sampled_from([1e-6, 1.0, 1e6]))


def direct(scores_NQ: np.ndarray) -> Diagnostics:
    """By the definitions, from the whole matrix at once: singular values and numpy's correlations."""
    n, q = scores_NQ.shape
    constant = np.ptp(scores_NQ, axis=0) == 0
    correlations = []
    for i in range(q):
        for j in range(i):
            pair = scores_NQ[:, [i, j]] / np.abs(scores_NQ[:, [i, j]]).max(axis=0).clip(1e-300)
            correlations.append(1.0 if constant[i] or constant[j] else abs(np.corrcoef(pair.T)[0, 1]))
    singular = np.linalg.svd(scores_NQ, compute_uv=False) ** 2
    centred_matrix = scores_NQ - scores_NQ.mean(axis=0)
    centred_matrix[:, constant] = 0
    centred = np.linalg.svd(centred_matrix, compute_uv=False) ** 2
    c = [1.0 if constant[i] else n * scores_NQ[:, i].mean() ** 2 / (scores_NQ[:, i] ** 2).sum() for i in range(q)]
    return Diagnostics(
        float(np.mean(correlations)),
        singular[0] / singular.sum(),
        singular[1:5].sum() / singular.sum(),
        float(np.mean(c)),
        centred[0] / centred.sum() if centred.sum() else 0.0,
        centred[1:5].sum() / centred.sum() if centred.sum() else 0.0,
    )


def close(one: Diagnostics, other: Diagnostics, tolerance: float = 1e-9) -> None:
    for name in Diagnostics.__dataclass_fields__:
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=tolerance), name


@given(matrices())
def test_it_is_what_the_definitions_say(scores_NQ: np.ndarray) -> None:
    close(of(scores_NQ), direct(scores_NQ))


@given(matrices(), st.lists(st.integers(1, 39), max_size=4))
def test_parts_add_up(scores_NQ: np.ndarray, cuts: list[int]) -> None:
    parts = [part for part in np.split(scores_NQ, sorted(min(cut, len(scores_NQ)) for cut in cuts)) if len(part)]
    sums, whole = sum_parts(parts), ScoreSums.of(scores_NQ)
    assert sums.n_rows == whole.n_rows
    np.testing.assert_array_equal(sums.constant(), whole.constant())
    scale = np.abs(whole.gram()).max()
    np.testing.assert_allclose(sums.gram(), whole.gram(), rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(whole.gram(), scores_NQ.T @ scores_NQ, rtol=0, atol=1e-12 * scale)
    again = sum_parts(parts)
    assert again.products_QQ.tobytes() == sums.products_QQ.tobytes()
    close(diagnostics(sums), diagnostics(whole))


def test_blocks_are_added_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    scores_NQ = np.random.default_rng(0).standard_normal((100, 5)) + 7
    whole = of(scores_NQ)
    monkeypatch.setattr(reliability, "_NUMBERS_AT_ONCE", 35)
    close(of(scores_NQ), whole, 1e-12)


@given(matrices())
def test_identities(scores_NQ: np.ndarray) -> None:
    found, (n, q) = of(scores_NQ), scores_NQ.shape
    squares_Q = (scores_NQ**2).sum(axis=0)
    weighted_c = n * (scores_NQ.mean(axis=0) ** 2).sum() / squares_Q.sum()
    assert found.r1 >= weighted_c - 1e-9
    assert found.r2_5 <= min(1 - found.r1, 4 * found.r1) + 1e-9
    assert found.r1 >= 1 / min(n, q) - 1e-9
    for name in Diagnostics.__dataclass_fields__:
        assert -1e-12 <= getattr(found, name) <= 1 + 1e-9, name


@given(matrices(), st.integers(0, 2**32 - 1))
def test_kappa_does_not_change_under_affine_maps_of_columns(scores_NQ: np.ndarray, seed: int) -> None:
    rng, q = np.random.default_rng(seed), scores_NQ.shape[1]
    # Shifts of a column's own size, so that its digits stay.
    moved_NQ = scores_NQ * rng.choice([-2.0, 0.5, 4.0], q) + np.abs(scores_NQ).max(axis=0) * rng.choice([0.0, -1, 1], q)
    if (ScoreSums.of(moved_NQ).constant() == ScoreSums.of(scores_NQ).constant()).all() and np.any(moved_NQ):
        assert of(moved_NQ).kappa == pytest.approx(of(scores_NQ).kappa, abs=1e-9)


@given(matrices(), st.floats(-100, 100))
def test_the_centred_variant_does_not_see_offsets(scores_NQ: np.ndarray, offset: float) -> None:
    moved_NQ = scores_NQ + offset * np.abs(scores_NQ).max()
    if np.any(moved_NQ) and (ScoreSums.of(moved_NQ).constant() == ScoreSums.of(scores_NQ).constant()).all():
        found, moved = of(scores_NQ), of(moved_NQ)
        assert moved.r1_centred == pytest.approx(found.r1_centred, abs=1e-6)
        assert moved.r2_5_centred == pytest.approx(found.r2_5_centred, abs=1e-6)


def test_offsets_change_r1_and_c() -> None:
    scores_NQ = np.random.default_rng(3).standard_normal((200, 6))
    plain, moved = of(scores_NQ), of(scores_NQ + 20)
    assert plain.r1 < 0.3
    assert plain.c < 0.05
    assert moved.r1 > 0.99
    assert moved.c > 0.99
    assert moved.kappa == pytest.approx(plain.kappa, abs=1e-9)


def test_almost_constant_scores_keep_their_digits() -> None:
    """Cosines of raw embeddings lie in a narrow band; products of scores as they are would lose what differs."""
    own_NQ = np.random.default_rng(1).standard_normal((500, 4))
    assert of(own_NQ * 2**-30 + 1).kappa == pytest.approx(of(own_NQ).kappa, abs=1e-6)


def test_what_collapse_means() -> None:
    profile_N = np.random.default_rng(0).standard_normal(50)
    one_ranking = of(np.outer(profile_N, [1, 2, 3, -4]) + np.array([5, 6, 7, 8]))
    assert one_ranking.kappa == pytest.approx(1)
    judged = judge(np.outer(profile_N, [1, 2, 3, -4]) + np.array([5, 6, 7, 8]))
    assert judged.found == one_ranking
    assert judged.chance == chance(50, 4)
    assert judged.collapse == pytest.approx(1)
    assert judged.collapsed
    assert (judged.rows, judged.queries, judged.constant) == (50, 4, 0)
    unrelated = judge(np.random.default_rng(1).standard_normal((500, 20)))
    assert unrelated.collapse == pytest.approx(0, abs=0.01)
    assert not unrelated.collapsed
    assert sum(unrelated.spectrum[:5]) == pytest.approx(unrelated.found.r1 + unrelated.found.r2_5)
    close(of(np.ones((5, 3))), Diagnostics(1.0, 1.0, 0.0, 1.0, 0.0, 0.0))


@given(matrices())
def test_the_rank_one_component_is_the_best(scores_NQ: np.ndarray) -> None:
    U, s, Vt = np.linalg.svd(scores_NQ, full_matrices=False)
    axis_Q = leading_axis(ScoreSums.of(scores_NQ))
    rest_NQ = without_axis(scores_NQ, axis_Q)
    # By energy, which is unique where two axes are equally strong and the axes are not.
    assert (rest_NQ**2).sum() == pytest.approx((s[1:] ** 2).sum(), abs=1e-9 * (s**2).sum())
    np.testing.assert_allclose(rest_NQ @ axis_Q, 0, atol=1e-9 * s[0])
    if s[1] < 0.9 * s[0]:
        np.testing.assert_allclose(rest_NQ, scores_NQ - s[0] * np.outer(U[:, 0], Vt[0]), atol=1e-7 * s[0])
    assert axis_Q[np.abs(axis_Q).argmax()] > 0


@pytest.mark.parametrize(("n", "q"), [(104, 50), (104, 178), (5000, 178), (1_000_000, 50), (12, 40)])
def test_floors_are_those_of_closed_forms(n: int, q: int) -> None:
    floor = chance(n, q)
    # |r| of independent normal columns has this mean exactly; it goes to √(2/(πN)).
    exact = math.exp(math.lgamma((n - 1) / 2) - math.lgamma(n / 2)) / math.sqrt(math.pi)
    assert floor.kappa == pytest.approx(exact, rel=0.01)
    assert floor.kappa == pytest.approx(math.sqrt(2 / (math.pi * n)), rel=0.01 + 1 / n)
    assert floor.c == pytest.approx(1 / n, rel=0.1)
    # The edge of the Marchenko–Pastur law; the mean lies a little below it.
    edge = (1 + math.sqrt(q / n)) ** 2 / q
    assert 0.8 * edge < floor.r1 <= edge
    assert chance(n, q) == floor


@pytest.mark.parametrize(("n", "q"), [(30, 8), (60, 20)])
def test_drawn_sums_are_those_of_drawn_scores(n: int, q: int) -> None:
    rng = np.random.default_rng(5)
    drawn = [of(rng.standard_normal((n, q))) for _ in range(400)]
    floor = chance(n, q)
    for name in Diagnostics.__dataclass_fields__:
        values = [getattr(one, name) for one in drawn]
        # Both are means of draws, of which the floor has 100.
        assert getattr(floor, name) == pytest.approx(np.mean(values), abs=5 * np.std(values) / 10), name


def test_published_floors() -> None:
    floor = chance(5000, 178)
    assert (round(floor.kappa, 3), round(floor.r1, 3)) == (0.011, 0.008)
    assert round(chance(104, 50).kappa, 3) == 0.079


@pytest.mark.parametrize("r1_r25_c_kappa", [*TABLE_2.values(), *(row[1:] for row in TABLE_1.values())])
def test_published_rows_obey_the_identities(r1_r25_c_kappa: tuple[float, float, float, float]) -> None:
    """Within the rounding of three decimals; they would not in another order of the columns, whose heads are lost."""
    r1, r2_5, c, _ = r1_r25_c_kappa
    assert r1 >= c - 0.001
    assert r2_5 <= min(1 - r1, 4 * r1) + 0.002


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones((0, 3)), "matrix .* with rows"),
        (np.ones(4), "matrix"),
        (np.ones((4, 1)), "1 queries.*2 to 10000"),
        (np.array([[1.0, 2.0], [np.nan, 3.0]]), "row 1, query 0 is nan"),
        (np.array([[1.0, 2.0], [1.0, np.inf]]), "row 1, query 1 is inf"),
        (np.array([[1e200, 2.0], [-1e200, 3.0]]), "so large"),
        (np.full((3, 2), 1e200), "so large"),
    ],
)
def test_what_is_no_matrix_of_scores_is_refused(scores: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ScoreSums.of(scores)


def test_zeros_and_parts_of_two_matrices_are_refused() -> None:
    with pytest.raises(UsageError, match="every score is 0"):
        of(np.zeros((4, 3)))
    with pytest.raises(UsageError, match="2 rows"):
        judge(np.array([[1.0, 2.0], [3.0, 1.0]]))
    with pytest.raises(UsageError, match="3 and 2 queries"):
        sum_parts([np.ones((2, 3)), np.ones((2, 2))])
    with pytest.raises(UsageError, match="no scores at all"):
        sum_parts([])
