"""Writes MP3, for queries that must be recognised in spite of lossy compression."""

import os

import av
import numpy as np

from lumina_ray.storage import local
from lumina_ray.vocabulary import SAMPLE_RATE_HZ


def encode_mp3(samples: np.ndarray, path: str | os.PathLike[str], bit_rate: int) -> None:
    """Write samples as an MP3 file of constant bit rate.

    Args:
        samples: float32 `[n]`, mono, 32 kHz.
        path: file to write, on a file system.
        bit_rate: bits per second.

    Raises:
        UsageError: the path is an address in a bucket.
    """
    with av.open(str(local(path)), "w") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.rate = SAMPLE_RATE_HZ
        pieces = av.AudioResampler(stream.codec_context.format, "mono", SAMPLE_RATE_HZ, frame_size=1152)
        for piece in [*pieces.resample(frame), *pieces.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
