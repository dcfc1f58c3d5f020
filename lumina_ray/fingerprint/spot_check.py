"""A check during a job that its vectors are right, on a sample of the job's songs."""

from dataclasses import replace

import numpy as np

from lumina_ray.errors import NumericsError
from lumina_ray.fingerprint.fingerprint import Fingerprint, Fingerprinter
from lumina_ray.vocabulary import SongCodes

# One song in 64 is checked. The choice follows from the song's codes, so that it does not depend on the worker.
_EVERY = 64
# The largest 1 − cosine from float32 that rounding explains; docs/performance.md has the measurements.
TOLERANCE = {"bfloat16": 5e-3, "float16": 1e-4}


class SpotCheck:
    """Computes a sample of songs again, each alone and in float32, and compares.

    Vectors of a job in float32 must have the same bits; others must be close. The first song that a worker sees is
    always in the sample, so that a bad worker is found at once.
    """

    def __init__(self, fingerprinter: Fingerprinter) -> None:
        specification = replace(fingerprinter.specification, dtype="float32", loss_scale=1.0)
        self._dtype = fingerprinter.specification.dtype
        # Equal bits need a batch of equal size. A comparison by distance does not, and float32 needs more memory than
        # the job's batch was chosen for.
        chunks_in_flight = fingerprinter.chunks_in_flight if self._dtype == "float32" else 1
        self._reference = Fingerprinter(fingerprinter.model, specification, chunks_in_flight)
        self._seen_any = False

    def __call__(self, name: str, codes: SongCodes, fingerprint: Fingerprint) -> None:
        """Check a song if it is in the sample.

        Raises:
            NumericsError: the song's vectors are further from float32 than rounding explains.
        """
        if self._seen_any and int(codes.sha256[:8], 16) % _EVERY:
            return
        self._seen_any = True
        reference = self._reference(codes)
        for channel, vector in fingerprint.vectors.items():
            expected = reference.vectors[channel]
            if self._dtype == "float32":
                length, expected_length = fingerprint.norms[channel], reference.norms[channel]
                if not np.array_equal(vector, expected) or length != expected_length:
                    difference = max(np.abs(vector - expected).max(), abs(length - expected_length))
                    raise NumericsError(
                        f"{name}: channel {channel} computed twice differs by up to {difference:.1e}; "
                        "this machine's memory, processor or libraries cannot be trusted with the rest"
                    )
                continue
            distance = 1 - float(vector.astype(np.float64) @ expected)
            if not distance <= TOLERANCE[self._dtype]:
                raise NumericsError(
                    f"{name}: channel {channel} in {self._dtype} is {distance:.1e} (1 − cosine) from float32, more "
                    f"than {TOLERANCE[self._dtype]:.0e}; run this model with --dtype float32"
                )
