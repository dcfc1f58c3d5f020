import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumina_ray.calibration import (
    CALIBRATION_FILE,
    SONG_NOISE_FILE,
    calibrate,
    calibrate_store,
    read_calibration,
    song_noise_of,
    store_sha256,
    write_calibration,
)
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from tests.calibration.synthetic import DIMS, World, demo_stores, specification, write_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return demo_stores(tmp_path_factory.mktemp("stores"))


def music(n: int, seed: int = 9) -> dict[str, np.ndarray]:
    return {c: World(np.random.default_rng(seed), d).music(n) for c, d in DIMS.items()}


def test_each_channel_is_calibrated_by_itself_and_pinned_to_its_data(stores):
    catalog, controls, _ = stores
    calibration = calibrate_store(catalog, controls)
    assert set(calibration.channels) == {"P", "M"}
    # Reference songs are looked for in the order of codes, here "song0", "song1", "song10" and so on.
    order = np.argsort([f"song{i}" for i in range(130)], kind="stable")
    of_catalog, of_controls = ({c: store.vectors(c) for c in DIMS} for store in (catalog, controls))
    noise = calibrate(of_catalog, of_controls, order)
    assert (calibration.channels, calibration.gates) == (noise.channels, noise.gates)
    assert set(calibration.gates) == {"P", "M", "PM"}
    for c, songs in song_noise_of(calibration, catalog.song_ids, catalog.path).items():
        np.testing.assert_array_equal(songs.mean, noise.songs[c].mean)
        np.testing.assert_array_equal(songs.spread, noise.songs[c].spread)
    np.testing.assert_array_equal(np.flatnonzero(calibration.songs["reference"]), noise.reference_rows)
    for c in ("P", "M"):
        control_id, song_id, similarity = calibration.closest[c][0]
        row, column = controls.song_ids.index(control_id), catalog.song_ids.index(song_id)
        assert similarity == pytest.approx(float(controls.vectors(c)[row] @ catalog.vectors(c)[column]), abs=1e-6)
        assert similarity == pytest.approx(calibration.channels[c].control_maxima_similarity[0], abs=1e-6)
    assert calibration.specification_sha256 == catalog.specification.sha256
    assert calibration.catalog_sha256 == store_sha256(catalog)
    assert calibration.controls_sha256 == store_sha256(controls)


def test_reads_back_bit_for_bit(stores, tmp_path):
    catalog, controls, _ = stores
    calibration = calibrate_store(catalog, controls)
    path = write_calibration(calibration, tmp_path)
    assert path == tmp_path / CALIBRATION_FILE
    for source in (tmp_path, path):
        again = read_calibration(source)
        assert again == calibration
        assert again.sha256 == calibration.sha256
    assert path.read_text(encoding="utf-8") == calibration.to_json()
    assert sorted(p.name for p in tmp_path.iterdir()) == [CALIBRATION_FILE, SONG_NOISE_FILE]


def test_missing_and_damaged_files_say_what_to_do(tmp_path):
    with pytest.raises(StoreError, match=r"does not exist: run `lumina calibrate .* --controls CONTROL_STORE`"):
        read_calibration(tmp_path)
    for text in ('{"format_version": 2, "channels": {}}', "[]", "{", "\0"):
        (tmp_path / CALIBRATION_FILE).write_text(text)
        with pytest.raises(StoreError, match="not a calibration of this software version"):
            read_calibration(tmp_path)


@pytest.mark.parametrize("text", ['{"channels": {}}', '{"format_version": 1}', '{"format_version": 99}'])
def test_a_calibration_of_another_version_says_what_to_run(tmp_path, text):
    (tmp_path / CALIBRATION_FILE).write_text(text)
    with pytest.raises(StoreError, match=r"an earlier or a later version.*`lumina calibrate .*`lumina index`"):
        read_calibration(tmp_path)


def test_noise_of_songs_that_is_not_the_calibrations_is_refused(stores, tmp_path):
    catalog, controls, _ = stores
    calibration = calibrate_store(catalog, controls)
    write_calibration(calibration, tmp_path)
    with pytest.raises(StoreError, match="lumina calibrate"):
        song_noise_of(calibration, catalog.song_ids[1:], tmp_path)
    table = calibration.songs
    name = "M_noise_mean"
    changed = table.set_column(table.column_names.index(name), name, pa.array(table[name].to_numpy() + 1e-9))
    pq.write_table(changed, tmp_path / SONG_NOISE_FILE)
    with pytest.raises(StoreError, match="does not belong to"):
        song_noise_of(read_calibration(tmp_path), catalog.song_ids, tmp_path)
    (tmp_path / SONG_NOISE_FILE).unlink()
    with pytest.raises(StoreError, match="is missing"):
        song_noise_of(read_calibration(tmp_path), catalog.song_ids, tmp_path)


def test_other_specification(stores, tmp_path):
    catalog, _, _ = stores
    other = write_store(tmp_path / "c", music(25), prefix="control", spec=specification("f" * 64))
    with pytest.raises(SpecificationMismatch, match=catalog.specification.sha256[:12]):
        calibrate_store(catalog, other)


def test_catalog_songs_among_the_controls_are_named(stores, tmp_path):
    catalog, _, _ = stores
    codes = [f"control{i}" for i in range(25)]
    codes[3], codes[8] = "song17", "song5"
    controls = write_store(tmp_path / "c", music(25), prefix="control", codes_sha256=codes)
    message = r"2 control track\(s\) are catalog songs: control-0003 \(in the catalog as song-0017\), control-0008"
    with pytest.raises(StoreError, match=message):
        calibrate_store(catalog, controls)


def test_the_same_control_twice_counts_once(stores, tmp_path):
    catalog, _, _ = stores
    vectors = music(25)
    codes = [f"control{i}" for i in range(25)]
    codes[24] = codes[0]
    calibration = calibrate_store(catalog, write_store(tmp_path / "c", vectors, codes_sha256=codes, prefix="control"))
    assert calibration.duplicate_controls == 1
    assert calibration.channels["P"].n_controls == 24
    of_catalog = {c: catalog.vectors(c) for c in DIMS}
    assert calibration.channels == calibrate(of_catalog, {c: v[:24] for c, v in vectors.items()}).channels


def test_too_few_controls_names_the_store(stores, tmp_path):
    catalog, _, _ = stores
    controls = write_store(tmp_path / "few", music(5), prefix="control")
    with pytest.raises(UsageError, match="few: 5 control tracks are too few"):
        calibrate_store(catalog, controls)


def test_unusable_songs_are_left_out(stores, tmp_path):
    _, controls, worlds = stores
    vectors = {c: w.music(40) for c, w in worlds.items()}
    vectors["P"][3] = 0
    vectors["M"][9] = np.nan
    calibration = calibrate_store(write_store(tmp_path / "s", vectors), controls)
    assert calibration.channels["P"].n_songs == calibration.channels["M"].n_songs == 38
