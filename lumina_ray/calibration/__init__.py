"""Calibration: the noise between control tracks and a catalog, and p-values from it."""

from lumina_ray.calibration.calibration import (
    CALIBRATION_FILE,
    Calibration,
    calibrate_store,
    read_calibration,
    write_calibration,
)
from lumina_ray.calibration.null import ALPHA, MIN_CONTROLS, ChannelCalibration, calibrate
from lumina_ray.calibration.vectors import song_means, store_sha256, usable_songs

__all__ = [
    "ALPHA",
    "CALIBRATION_FILE",
    "MIN_CONTROLS",
    "Calibration",
    "ChannelCalibration",
    "calibrate",
    "calibrate_store",
    "read_calibration",
    "song_means",
    "store_sha256",
    "usable_songs",
    "write_calibration",
]
