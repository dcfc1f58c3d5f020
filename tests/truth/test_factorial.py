"""What scores follow, score or sound: against scipy's U test, by construction, and for every set of scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from lumina_ray.truth.factorial import MEASURES, Labels, measure, per_query, similarities

WORKS, SOUNDS = 7, 4
GRID = Labels(
    tuple(f"score {w}" for w in range(WORKS) for _ in range(SOUNDS)),
    tuple(f"sound {s}" for _ in range(WORKS) for s in range(SOUNDS)),
)
SAME_SCORE = np.equal.outer(np.array(GRID.scores), np.array(GRID.scores))
SAME_SOUND = np.equal.outer(np.array(GRID.sounds), np.array(GRID.sounds))


def values(scores_NN: np.ndarray) -> dict[str, float]:
    return {name: estimate.value for name, estimate in measure(scores_NN, GRID, GRID).items()}


def test_scores_that_follow_the_score_alone() -> None:
    assert values(SAME_SCORE.astype(float)) == {
        "score_over_sound": 1.0,
        "sound_over_score": 0.0,
        "score_over_neither": 1.0,
        "sound_over_neither": 0.5,
        "first_is_score": 1.0,
        "first_is_sound": 0.0,
    }


def test_scores_that_say_nothing_are_coins() -> None:
    found = values(np.zeros((28, 28)))
    # Of the 27 others, 3 have the score and 6 the sound.
    assert found == pytest.approx(dict(zip(MEASURES, [0.5, 0.5, 0.5, 0.5, 3 / 27, 6 / 27], strict=True)))


def test_every_query_by_scipy() -> None:
    scores_NN = np.random.default_rng(0).integers(5, size=(28, 28)).astype(float)
    found = per_query(scores_NN, GRID, GRID)
    for q in range(28):
        cells = {
            "score": SAME_SCORE[q] & ~SAME_SOUND[q],
            "sound": SAME_SOUND[q] & ~SAME_SCORE[q],
            "neither": ~SAME_SCORE[q] & ~SAME_SOUND[q],
        }
        of = {name: scores_NN[q, cell] for name, cell in cells.items()}
        for first, second in (("score", "sound"), ("score", "neither"), ("sound", "neither"), ("sound", "score")):
            u = mannwhitneyu(of[first], of[second]).statistic
            assert found[f"{first}_over_{second}"][q] == pytest.approx(u / (len(of[first]) * len(of[second])))
        others = [i for i in range(28) if i != q]
        best = [i for i in others if scores_NN[q, i] == max(scores_NN[q, others])]
        assert found["first_is_score"][q] == pytest.approx(np.mean([SAME_SCORE[q, i] for i in best]))


@given(st.integers(0, 2**32 - 1))
def test_sounds_and_scores_are_treated_alike(seed: int) -> None:
    scores_NN = np.random.default_rng(seed).normal(size=(28, 28))
    exchanged = Labels(GRID.sounds, GRID.scores)
    ours, theirs = per_query(scores_NN, GRID, GRID), per_query(scores_NN, exchanged, exchanged)
    for name in MEASURES:
        other = name.replace("score", "×").replace("sound", "score").replace("×", "sound")
        np.testing.assert_allclose(ours[name], theirs[other])


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(-5, 5))
def test_only_the_order_within_a_query_counts(seed: int, factor: float, offset: float) -> None:
    scores_NN = np.random.default_rng(seed).normal(size=(28, 28))
    factors = np.linspace(1, factor, 28)[:, None]
    ours, theirs = per_query(scores_NN, GRID, GRID), per_query(np.exp(factors * scores_NN + offset), GRID, GRID)
    for name in MEASURES:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_interval_is_over_scores_and_not_over_queries() -> None:
    """One score whose clips are all found, six whose are not: however many clips, the interval is that of 1 in 7."""
    scores_NN = np.where(SAME_SCORE & (np.array(GRID.scores) == "score 0")[:, None], 1.0, SAME_SOUND * 0.5)
    estimate = measure(scores_NN, GRID, GRID)["score_over_sound"]
    assert estimate.value == pytest.approx(1 / 7)
    assert estimate.low == 0
    assert 2 / 7 <= estimate.high <= 4 / 7


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="28 queries"):
        measure(np.zeros((27, 28)), GRID, GRID)
    with pytest.raises(ValueError, match="not finite"):
        measure(np.full((28, 28), np.nan), GRID, GRID)
    with pytest.raises(ValueError, match="no clips to compare with"):
        measure(np.zeros((28, 4)), GRID, GRID.take(range(4)))
    with pytest.raises(ValueError, match="one of each"):
        Labels(("a",), ())


def test_similarities_are_cosines() -> None:
    rng = np.random.default_rng(1)
    one_QD, other_ND = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    one_QD[1] = 0
    expected = [
        [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) if a.any() else 0 for b in other_ND] for a in one_QD
    ]
    np.testing.assert_allclose(similarities(one_QD, other_ND), expected, atol=1e-6)
