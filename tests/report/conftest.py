import json

import numpy as np
import pytest

from lumina_ray.attribution import Report, attribute
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.calibration.membership import write_membership
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.index.withdrawn import WITHDRAWN_FILE
from tests.calibration.synthetic import DIMS, demo_stores, membership_evidence, mixture, query, unit

# Titles come from catalogs that others wrote.
HOSTILE_TITLE = (
    "<script>alert({})</script> $\\frac{{1}}$ & \"x\" 'y' ]]> \x1b[31m \x00 \u202e [bold]夜曲[/bold] \N{MUSICAL NOTE}"
)


@pytest.fixture(scope="session")
def reports(tmp_path_factory) -> dict[str, Report]:
    """One report per policy of a query of which two of four chunks are partly song 17, and one of unrelated music.

    "membership" is that of policy `calibrated` again, by an index that has membership evidence of song 17 alone.
    "nothing v8" and so on are of a catalog whose songs are all withdrawn.
    """
    folder = tmp_path_factory.mktemp("reports")
    store, controls, worlds = demo_stores(folder, title=HOSTILE_TITLE)
    write_calibration(calibrate_store(store, controls), store.path)
    snapshot = load_snapshot(build_index(store, folder / "index"))
    chunks = {c: worlds[c].music(4) for c in DIMS}
    for c in DIMS:
        for i in (1, 2):
            chunks[c][i] = mixture(store.vectors(c)[17], chunks[c][i], 0.85)
    derived = query({c: unit(chunks[c].mean(axis=0)).astype(np.float32) for c in DIMS}, chunks)
    noise = query({c: worlds[c].music(1)[0] for c in DIMS})
    write_membership(membership_evidence(store, controls, [17]), store.path)
    with_evidence = load_snapshot(build_index(store, folder / "index"))
    policies = ("calibrated", "v8", "v7")
    gone = list(zip(store.song_ids, store.songs["codes_sha256"].to_pylist(), [2] * len(store.song_ids), strict=True))
    (folder / "index" / WITHDRAWN_FILE).write_text(json.dumps({"songs": gone}))
    empty = load_snapshot(folder / "index" / snapshot.version)
    empty.withdrawals._generation = 1  # of a living catalog
    return (
        {p: attribute(derived, snapshot, p) for p in policies}
        | {f"nothing {p}": attribute(derived, empty, p) for p in policies}
        | {"noise": attribute(noise, snapshot), "membership": attribute(derived, with_evidence)}
    )


def with_shared(report: Report) -> Report:
    """The report as if the clip shared notes with its first song, none with the second, and no more is known."""
    values = report.model_dump(mode="json")
    ids = (one["song"]["song_id"] for of in values["near_copies"].values() for one in of["candidates"])
    first, second, *others = dict.fromkeys(ids)
    alike, chance = {"similarity": 0.7, "z": 5.14, "p_value": 0.02}, {"similarity": 0.1, "z": 0.31, "p_value": 0.8}
    faint, clear = ({"harmony": z, "rhythm": 0.2, "timbre": 0.31} for z in (0.4, 5.9))
    songs = [
        {"song_id": first, "composition": alike, "sound": chance, "shares": ["composition"], "aspects": clear},
        {"song_id": second, "composition": chance, "sound": chance, "shares": [], "aspects": faint},
        *({"song_id": other, "composition": None, "sound": None, "shares": [], "aspects": {}} for other in others),
    ]
    values["shared"] = {
        "alpha": 0.025,
        "n_controls": 50,
        "n_references": 128,
        "resolution": 1 / 51,
        "file_sha256": "d" * 64,
        "alike_z": 2.0,
        "chance": {"harmony": 0.031, "rhythm": 0.024, "timbre": 0.02},
        "songs": sorted(songs, key=lambda one: one["song_id"]),
    }
    return Report.model_validate(values)


def all_qualify(report: Report, n: int) -> Report:
    """The report as if the first `n` songs of each channel had qualified."""
    values = report.model_dump(mode="json")
    for channel in values["near_copies"].values():
        channel["qualified"] = n
        for candidate in channel["candidates"][:n]:
            candidate["qualified"] = True
    return Report.model_validate(values)
