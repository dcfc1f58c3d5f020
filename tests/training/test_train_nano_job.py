"""The Ray Train job on a catalog of three songs: killed, started again, and finished."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
import soundfile
import torch
from transformers import EncodecModel

from cluster.train_nano import Stage, begin_stage, take_codec, train_nano
from lumina_ray.catalog.manifest import write_manifest
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.model import open_model
from lumina_ray.vocabulary import SAMPLE_RATE_HZ
from tests.training.synthetic import melody


@pytest.fixture
def manifests(tmp_path: Path) -> tuple[Path, Path]:
    """Two songs to train on and one control, each long enough for the language model's windows."""
    for seed, name in enumerate(("one", "two", "control")):
        soundfile.write(tmp_path / f"{name}.flac", melody(seed, 11.0), SAMPLE_RATE_HZ)
    written = []
    for manifest, names in (("catalog", ["one", "two"]), ("controls", ["control"])):
        path = tmp_path / f"{manifest}.parquet"
        songs = {"song_id": names, "path": [str(tmp_path / f"{name}.flac") for name in names]}
        write_manifest(pa.table(songs | {"caption": [f"melody {name}, bells" for name in names]}), path)
        written.append(path)
    return written[0], written[1]


def test_what_was_begun_with_other_arguments_does_not_go_on(manifests: tuple[Path, Path], tmp_path: Path) -> None:
    catalog, controls = map(str, manifests)
    config = {"out": str(tmp_path), "catalog": catalog, "controls": controls, "seed": 0, "threads": 1}
    codec = config | {"schedule": {"autoencoder": 4, "decoder": 2}}
    weights = tmp_path / "codec" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    for _ in range(2):
        begin_stage(Stage.CODEC, codec)
        begin_stage(Stage.LM, config | {"schedule": {"total": 2, "early": 1}})
        begin_stage(Stage.DIT, config | {"schedule": {"total": 2, "batch": 1}})
    with pytest.raises(SpecificationMismatch, match=r"training of codec was begun with seed = 0, not 1; .* --out"):
        begin_stage(Stage.CODEC, codec | {"seed": 1})
    with pytest.raises(SpecificationMismatch, match="catalog_sha256"):
        begin_stage(Stage.CODEC, codec | {"catalog": controls})
    weights.write_bytes(b"another")
    with pytest.raises(SpecificationMismatch, match="codec_sha256"):
        begin_stage(Stage.LM, config | {"schedule": {"total": 2, "early": 1}})
    with pytest.raises(SpecificationMismatch, match="training of dit was begun with codec_sha256"):
        begin_stage(Stage.DIT, config | {"schedule": {"total": 2, "batch": 1}})


def test_a_codec_is_taken_once_and_another_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        take_codec(str(tiny_model_dir), tmp_path / "codec")
    codec = EncodecModel.from_pretrained(tmp_path / "codec").eval()
    wave_11N = torch.from_numpy(melody(0, 2.0))[None, None]
    with torch.no_grad():
        codes_KT = codec.encode(wave_11N).audio_codes[0, 0]
    assert torch.equal(codes_KT, open_model(str(tiny_model_dir)).encode(melody(0, 2.0)))
    with pytest.raises(SpecificationMismatch, match="holds another codec than nano; choose another --out"):
        take_codec("nano", tmp_path / "codec")
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]
    with pytest.raises(UsageError, match="leave out --codec, or --stage codec"):
        train_nano(tmp_path, tmp_path, tmp_path, stage="codec", codec_of="nano")


@pytest.mark.timeout(600)
@pytest.mark.soak
def test_killed_training_goes_on_and_ships_both_models(manifests: tuple[Path, Path], tmp_path: Path) -> None:
    """Every driver has a Ray of its own, which ends with it."""
    out = tmp_path / "out"
    command: list[str | Path] = [sys.executable, "-m", "lumina_ray", "train-nano"]
    command += ["--catalog", manifests[0], "--controls", manifests[1], "--out", out]
    command += ["--codec-steps", "4", "2", "--lm-steps", "2", "1", "--report-every", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while len(_history(out, "codec")) < 3 and driver.poll() is None:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    said = driver.communicate()[1]
    before = _history(out, "codec")
    assert driver.returncode == -signal.SIGKILL, said
    assert 3 <= len(before) < 6

    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stderr
    after = _history(out, "codec")
    assert [entry["step"] for entry in after] == [1, 2, 3, 4, 5, 6]
    # The time it took is the same: the first step was not trained again. The last ones may have been, as Ray notes a
    # checkpoint a little after it is reported, but to the same losses.
    assert after[0] == before[0]
    assert [_losses(entry) for entry in after[: len(before)]] == [_losses(entry) for entry in before]
    assert [entry["step"] for entry in _history(out, "lm")] == [1, 2]
    figures = json.loads((out / "lm-figures.json").read_text())
    assert {name: figure["step"] for name, figure in figures.items()} == {"untrained": 0, "nano-early": 1, "nano": 2}
    for loss in ("catalog_loss", "catalog_caption_loss"):
        assert figures["nano"][loss] < figures["untrained"][loss]
    assert open_model(str(out / "nano")).weights_sha256 != open_model(str(out / "nano-early")).weights_sha256


@pytest.mark.timeout(600)
@pytest.mark.soak
def test_a_killed_training_of_the_diffusion_transformer_goes_on(manifests: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command: list[str | Path] = [sys.executable, "-m", "lumina_ray", "train-nano"]
    command += ["--catalog", manifests[0], "--controls", manifests[1], "--out", out]
    command += ["--codec", "nano", "--stage", "dit", "--dit-steps", "6", "--report-every", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while len(_history(out, "dit")) < 3 and driver.poll() is None:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    said = driver.communicate()[1]
    before = _history(out, "dit")
    assert driver.returncode == -signal.SIGKILL, said
    assert 3 <= len(before) < 6

    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stderr
    after = _history(out, "dit")
    assert [entry["step"] for entry in after] == [1, 2, 3, 4, 5, 6]
    assert after[0] == before[0]
    assert [entry["catalog_loss"] for entry in after[:3]] == [entry["catalog_loss"] for entry in before[:3]]
    figures = json.loads((out / "dit-figures.json").read_text())
    assert {name: figure["step"] for name, figure in figures.items()} == {"untrained": 0, "nano-dit": 6}
    assert figures["nano-dit"]["catalog_loss"] < figures["untrained"]["catalog_loss"]
    low, high = figures["nano-dit"]["catalog_loss_interval"]
    assert low <= figures["nano-dit"]["catalog_loss"] <= high
    opened = open_model(str(out / "nano-dit"))
    assert opened.representation.rows == 64
    assert sum(path.stat().st_size for path in (out / "nano-dit").rglob("*") if path.is_file()) < 15e6


def _losses(entry: dict[str, float]) -> tuple[float, float]:
    return entry["spectral"], entry["waveform"]


def _history(out: Path, stage: str) -> list[dict[str, float]]:
    path = out / f"{stage}-history.json"
    return json.loads(path.read_text()) if path.exists() else []
