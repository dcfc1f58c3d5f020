"""Calibration: the noise between control tracks and a catalog, and p-values from it."""

from lumina_ray.calibration.calibration import (
    CALIBRATION_FILE,
    SONG_NOISE_FILE,
    Calibration,
    calibrate_store,
    noise_columns,
    read_calibration,
    song_noise_of,
    write_calibration,
)
from lumina_ray.calibration.controls import ALPHA, Guarantee, bar_rank, controls_needed
from lumina_ray.calibration.gate import Gate
from lumina_ray.calibration.null import MIN_CONTROLS, CatalogNoise, ChannelCalibration, calibrate, joint_scores
from lumina_ray.calibration.profile import ModelProfile
from lumina_ray.calibration.standard import QueryLevel, Reference, SongNoise
from lumina_ray.calibration.vectors import catalog_centre, store_sha256, usable_songs

__all__ = [
    "ALPHA",
    "CALIBRATION_FILE",
    "MIN_CONTROLS",
    "SONG_NOISE_FILE",
    "Calibration",
    "CatalogNoise",
    "ChannelCalibration",
    "Gate",
    "Guarantee",
    "ModelProfile",
    "QueryLevel",
    "Reference",
    "SongNoise",
    "bar_rank",
    "calibrate",
    "calibrate_store",
    "catalog_centre",
    "controls_needed",
    "joint_scores",
    "noise_columns",
    "read_calibration",
    "song_noise_of",
    "store_sha256",
    "usable_songs",
    "write_calibration",
]
