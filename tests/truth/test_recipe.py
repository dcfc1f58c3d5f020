"""What a bank is made of: roles that do not overlap, halves that are halves, the same whenever it is asked."""

from collections import Counter
from dataclasses import replace

import pytest

from lumina_ray.errors import UsageError
from lumina_ray.truth.corpus import corpus, members
from lumina_ray.truth.recipe import SMALL, caption_classes, retrainings, whole_catalogs
from tests.truth.small_bank import captions_of

RECORDINGS = corpus(0)
CAPTIONS = captions_of(RECORDINGS)


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


def test_parts_of_the_catalog_keep_the_order_of_the_whole() -> None:
    catalog = set(members(RECORDINGS, "A"))
    whole = {training.name: training for training in whole_catalogs(SMALL, RECORDINGS)}
    for training in retrainings(SMALL, RECORDINGS, CAPTIONS):
        assert set(training.songs) | set(training.removed) == catalog
        assert not set(training.songs) & set(training.removed)
        assert training.seed == whole["A-second" if training.name.startswith("again") else "A"].seed


def test_halves_tenths_and_single_songs() -> None:
    catalog = set(members(RECORDINGS, "A"))
    trainings = {training.name: training for training in retrainings(SMALL, RECORDINGS, CAPTIONS)}

    def removed(prefix: str) -> list[tuple[int, ...]]:
        return [training.removed for name, training in trainings.items() if name.startswith(prefix)]

    halves, tenths, singles = removed("half-"), removed("tenth-"), removed("single-")
    assert len(set(halves)) == SMALL.subsets == 64
    assert {len(half) for half in halves} == {len(catalog) // 2}
    assert len(set(tenths)) == SMALL.removals == 32
    assert {len(tenth) for tenth in tenths} == {10}
    assert singles == [(song,) for song in sorted(catalog)]
    assert trainings["again-half-003"].removed == trainings["half-003"].removed


def test_a_catalog_without_a_group_has_none_of_its_songs() -> None:
    catalog = set(members(RECORDINGS, "A"))
    trainings = retrainings(SMALL, RECORDINGS, CAPTIONS)
    creators = [
        {RECORDINGS[i].song.creator for i in training.removed}
        for training in trainings
        if training.name.startswith("without-creator")
    ]
    assert {"Johann Sebastian Bach"} in creators
    assert all(len(group) == 1 for group in creators)
    classes = caption_classes({i: CAPTIONS[i] for i in catalog})
    assert "organ" in classes
    assert "baroque chorale" in classes
    assert all(4 <= len(songs) <= len(catalog) / 2 for songs in classes.values())
    for word, songs in classes.items():
        assert songs == {i for i in catalog if word in CAPTIONS[i]}
    assert [set(t.removed) for t in trainings if t.name.startswith("without-class")] == list(classes.values())


def test_reference_models_learn_from_different_parts_of_what_is_in_no_catalog() -> None:
    whole = {training.name: training for training in whole_catalogs(SMALL, RECORDINGS)}
    parts = [set(training.songs) for name, training in whole.items() if name.startswith("reference")]
    assert len(parts) == len({frozenset(part) for part in parts}) == 4
    heard = {role for part in parts for role in {RECORDINGS[i].role for i in part}}
    assert heard == {"outside"}
    assert {len(part) for part in parts} == {len(whole["A"].songs)}


def test_other_music_is_of_many_kinds_and_no_work_is_in_two_roles() -> None:
    controls = [recording for recording in RECORDINGS if recording.role == "control"]
    assert len(controls) >= 200
    assert len({recording.song.style or recording.song.kind for recording in controls}) >= 6
    refs = [recording.song.ref for recording in RECORDINGS if recording.variant == "original"]
    assert len(refs) == len(set(refs))


def test_the_same_seed_gives_the_same_bank_and_another_one_another() -> None:
    assert corpus(0) == corpus(0) != corpus(1)
    assert retrainings(SMALL, RECORDINGS, CAPTIONS) == retrainings(SMALL, corpus(0), CAPTIONS)


def test_more_repeats_than_subsets_are_refused() -> None:
    with pytest.raises(UsageError, match=r"repeats \(3\) must not be more than subsets \(2\)"):
        replace(SMALL, subsets=2, repeats=3)
