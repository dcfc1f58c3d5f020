"""What a bank is made of: roles that do not overlap, halves that are halves, the same whenever it is asked."""

from collections import Counter

import pytest

from lumina_ray.errors import UsageError
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.recipe import SMALL, Recipe, retrainings, whole_catalogs

RECORDINGS = corpus(0)


def test_catalogs_hold_opposite_twins_and_the_reference_shares_nothing() -> None:
    a, b, reference = (set(members(RECORDINGS, name)) for name in ("A", "B", "reference"))
    assert {RECORDINGS[i].role for i in a & b} == {"plain"}
    assert not reference & (a | b)
    twins = [RECORDINGS[i] for i in a if RECORDINGS[i].role == "twin"]
    assert len({twin.work for twin in twins}) == len(twins) == 64
    # Chance, not the order of the table, says which of two is trained on.
    assert 20 < sum(twin.variant == "original" for twin in twins) < 44
    assert len(a) == len(b) >= 99


def test_every_work_has_one_role_and_no_control_shares_a_composer_with_a_catalog() -> None:
    roles = {(recording.work, recording.role) for recording in RECORDINGS}
    assert len(roles) == len({work for work, _ in roles})
    controls = {r.song.creator for r in RECORDINGS if r.role == "control"}
    assert not controls & {r.song.creator for r in RECORDINGS if r.role != "control"}
    assert len({recording.recording_id for recording in RECORDINGS}) == len(RECORDINGS)


def test_cells_are_balanced_over_scores_and_instrumentations() -> None:
    cells = [recording for recording in RECORDINGS if recording.role == "cell"]
    in_a = [cell for cell in cells if cell.side == "A"]
    assert set(Counter(cell.work for cell in in_a).values()) == {2}
    assert set(Counter(cell.variant for cell in in_a).values()) == {4}


def test_halves_are_halves_of_the_catalog_and_repeats_differ_in_their_seed_alone() -> None:
    catalog = set(members(RECORDINGS, "A"))
    trainings = {training.name: training for training in retrainings(SMALL, RECORDINGS)}
    halves = [training for name, training in trainings.items() if name.startswith("half-")]
    assert len({half.songs for half in halves}) == SMALL.subsets == 64
    assert all(set(half.songs) < catalog and len(half.songs) == len(catalog) // 2 for half in halves)
    assert trainings["again-003"].songs == trainings["half-003"].songs
    seeds = [training.seed for training in (*trainings.values(), *whole_catalogs(SMALL, RECORDINGS))]
    assert len(set(seeds)) == len(seeds)


def test_a_catalog_without_a_creator_has_none_of_that_creators_songs() -> None:
    catalog = set(members(RECORDINGS, "A"))
    left_out = [
        {RECORDINGS[i].song.creator for i in catalog - set(training.songs)}
        for training in retrainings(SMALL, RECORDINGS)
        if training.name.startswith("without-creator")
    ]
    assert {"Johann Sebastian Bach"} in left_out
    assert all(len(creators) == 1 for creators in left_out)


def test_the_same_seed_gives_the_same_bank_and_another_one_another() -> None:
    assert corpus(0) == corpus(0) != corpus(1)
    assert retrainings(SMALL, RECORDINGS) == retrainings(SMALL, corpus(0))


def test_more_repeats_than_subsets_are_refused() -> None:
    with pytest.raises(UsageError, match=r"repeats \(3\) must not be more than subsets \(2\)"):
        Recipe(subsets=2, repeats=3)
