"""Likelihoods of a song by an audited model and its references: numbers that a job can hold of a million songs."""

from typing import NamedTuple


class Observed(NamedTuple):
    """Log-likelihoods of a song's valid codes that hold sound, in nats per code.

    Attributes:
        audited: their mean under the audited model.
        references: the same under each reference model.
        n_windows: windows of the song (`lumina_ray.fingerprint.likelihood.WINDOW_S`) that were compared.
        window_mean: of all windows, the mean of what the audited model finds beyond the mean of the references; NaN
            without windows.
        window_variance: the same windows' sample variance; 0 for fewer than two.
    """

    audited: float
    references: tuple[float, ...]
    n_windows: int
    window_mean: float
    window_variance: float
