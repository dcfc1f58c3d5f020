"""Power of policies where it is known who is in a query."""

import numpy as np
import pytest
import scipy.stats
import torch

from lumina_ray.truth.power import Power, power
from lumina_ray.truth.queries import Query, QueryKind
from lumina_ray.vocabulary import CHANNELS
from tests.calibration.synthetic import World, mixture

CODES = torch.zeros((4, 10), dtype=torch.int64)
SONGS = tuple(range(100, 200))


def query(kind: QueryKind, recording: int, alteration: str = "") -> Query:
    return Query(kind, "A", recording, "test", CODES, alteration)


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], Power]:
    worlds = {c: World(np.random.default_rng(i), 64) for i, c in enumerate(CHANNELS)}
    catalog = {c: world.music(len(SONGS)) for c, world in worlds.items()}
    controls = {c: world.music(60) for c, world in worlds.items()}
    # Eight copies of songs, forty pieces of other music, and eight queries of a song that is hardly in them.
    asked = {
        c: np.concatenate([
            np.stack([mixture(catalog[c][i], world.music(1)[0], 0.9) for i in range(8)]),
            world.music(40),
            np.stack([mixture(catalog[c][i], world.music(1)[0], 0.05) for i in range(8)]),
        ])
        for c, world in worlds.items()
    }  # fmt: skip
    queries = [query("altered", SONGS[i], "mp3") for i in range(8)]
    queries += [query("outside", 7)] * 40 + [query("excerpt", SONGS[i]) for i in range(8)]
    return {(one.policy, one.queries): one for one in power(catalog, controls, asked, queries, SONGS)}


def test_copies_are_named_and_what_is_hardly_there_is_not(found: dict[tuple[str, str], Power]) -> None:
    copies, hardly = found["calibrated", "altered mp3"], found["calibrated", "excerpt"]
    assert (copies.n_queries, copies.own_song.value, copies.any_song.value) == (8, 1.0, 1.0)
    assert hardly.own_song.value <= 0.25
    # All of eight: the lower end is the eighth root of 0.025, and not 1 as a bootstrap has it.
    assert copies.own_song.low == pytest.approx(0.025 ** (1 / 8))
    assert copies.own_song.high == 1


def test_music_of_no_song_has_none_to_name_and_false_alarms_with_their_interval(
    found: dict[tuple[str, str], Power],
) -> None:
    outside = found["calibrated", "outside"]
    assert outside.own_song is None
    n = round(outside.any_song.value * 40)
    assert n <= 6
    ends = scipy.stats.beta.ppf(0.025, n, 41 - n) if n else 0, scipy.stats.beta.ppf(0.975, n + 1, 40 - n)
    assert (outside.any_song.low, outside.any_song.high) == pytest.approx(ends)
    assert found["v8", "outside"].any_song.value == 1
