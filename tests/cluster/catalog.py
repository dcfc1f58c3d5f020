"""A small catalog of real files: good ones in several formats, and everything that a catalog should not hold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

GOOD = ("stereo", "telephone", "two chunks, größer ♪")
BAD = {
    "text": "audio.undecodable",
    "empty": "audio.empty",
    "missing": "audio.missing",
    "folder": "audio.not_a_file",
    "silence": "audio.silent",
    "nan": "audio.not_finite",
}


def write_tone(path: Path, duration_s: float, rate_hz: int = 32_000, channels: int = 1, seed: int = 0) -> None:
    """A chord of drifting tones over noise, different for every seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    tones = [0.1 * np.sin(2 * np.pi * f * t + np.sin(3 * t)) for f in rng.uniform(80, 1500, 4)]
    samples = sum(tones) + 0.02 * rng.standard_normal(len(t))
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate_hz)


def write_catalog(folder: Path) -> Path:
    """Write the files and a manifest of relative paths; returns the manifest."""
    write_tone(folder / "stereo.flac", 4, rate_hz=44_100, channels=2, seed=1)
    write_tone(folder / "telephone.ogg", 3, rate_hz=8_000, seed=2)
    write_tone(folder / "two chunks, größer ♪.wav", 16, seed=3)
    (folder / "text.wav").write_text("This is not audio.")
    (folder / "empty.wav").touch()
    (folder / "folder.wav").mkdir()
    soundfile.write(folder / "silence.wav", np.zeros(64_000), 32_000)
    soundfile.write(folder / "nan.wav", np.full(64_000, np.nan), 32_000, subtype="FLOAT")
    paths = {"stereo": "stereo.flac", "telephone": "telephone.ogg"}
    ids = [*GOOD, *BAD]
    return write_manifest(
        folder / "manifest.parquet",
        ids,
        [paths.get(song_id, f"{song_id}.wav") for song_id in ids],
        title=[song_id.upper() for song_id in ids],
    )


def write_manifest(path: Path, ids: list[str], paths: list[str], **columns: list[str]) -> Path:
    pq.write_table(pa.table({"song_id": ids, "path": paths, **columns}), path)
    return path
