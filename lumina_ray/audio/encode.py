"""Writing MP3, for queries that must be recognised all the same."""

from pathlib import Path

import av
import numpy as np

from lumina_ray.audio.decode import SAMPLE_RATE_HZ


def encode_mp3(samples: np.ndarray, path: Path, bit_rate: int) -> None:
    """Write float32 mono samples at 32 kHz as an MP3 of constant bit rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.rate = SAMPLE_RATE_HZ
        pieces = av.AudioResampler(stream.codec_context.format, "mono", SAMPLE_RATE_HZ, frame_size=1152)
        for piece in [*pieces.resample(frame), *pieces.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
