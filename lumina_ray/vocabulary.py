"""Names, rates and plain data that all packages use. This module imports only errors, and never torch.

Shape legend: K = codebooks, T = frames (50 per second), D = fingerprint dimensions, n = chunks.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

from lumina_ray.errors import StoreError

# `lumina --help` needs these names, and no arrays.
if TYPE_CHECKING:
    import numpy as np

Channel = Literal["P", "M"]
"""Channel of a fingerprint: "P" stands for composition (publishing right), "M" for production (master right)."""
CHANNELS: tuple[Channel, ...] = get_args(Channel)


def codebooks_of(channel: Channel, n_codebooks: int) -> list[int]:
    """The codebooks that a channel looks at where it looks at codes or at output heads: the first (P), the others (M).

    The first codebook of a residual quantiser carries the content of a song, such as melody and harmony. The other
    codebooks refine its sound. So they are the natural proxies for composition and production, until ground truth
    gives better ones.
    """
    return [0] if channel == "P" else list(range(1, n_codebooks))


Evidence = Literal["composition", "sound"]
"""Kind of shared evidence: notes, whatever plays them in whatever key; or sound, whatever is played."""
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)
Compared = Literal["composition", "sound", "harmony", "rhythm"]
"""A part of shared evidence that is compared: a kind of it, or one of the aspects that its composition has."""
COMPARED: tuple[Compared, ...] = get_args(Compared)
Aspect = Literal["harmony", "rhythm", "timbre"]
"""Musical aspect along which two recordings are alike; timbre is all of their sound."""
ASPECTS: "dict[Aspect, Compared]" = {"harmony": "harmony", "rhythm": "rhythm", "timbre": "sound"}
EVIDENCE_VERSION = "evidence_version"
"""Column of a store that says which version of the software made the shared evidence of a row."""
EVIDENCE_COLUMNS = (EVIDENCE_VERSION, *EVIDENCE)

Kind = str
"""Name of a kind of fingerprint: a row of the tables `lumina_ray.fingerprint.kinds.KINDS_OF`."""

Dtype = Literal["float32", "bfloat16", "float16"]
"""Number format of the language model's matrix products."""

DEFAULT_METHOD = "companion"
"""The method that must beat all floors, and that is fitted and put to the test unless another one is named."""
DEFAULT_POLICY = "calibrated"
DEFAULT_TOP_K = 256
"""Songs of each channel that an answer judges, the most similar ones."""
DEFAULT_CANDIDATES = 20
"""Songs of each channel that a report lists besides all that qualify."""

SAMPLE_RATE_HZ = 32_000
"""Sample rate of all decoded audio, which is the codec's rate."""

MAX_DURATION_S = 3_600.0
"""Longer audio is refused everywhere, in seconds."""


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, in the plural where it is not 1: `2 songs`."""
    return f"{n} {noun}" if n == 1 else f"{n} {plural or noun + 's'}"


StreamReason = Literal["default", "first_with_sound", "no_sound"]
"""Why one of several audio streams was taken: it is the one marked as the default; it is the first with sound; it is
the first, and no stream has sound."""


@dataclass(frozen=True)
class AudioStream:
    """Which of a file's several audio streams was taken, and why.

    Attributes:
        number: counted from 1.
        of: how many the file has, at least 2.
        reason: see `StreamReason`.
    """

    number: int
    of: int
    reason: StreamReason

    def __str__(self) -> str:
        """Give the text that stores keep: `2 of 3, the first with sound`."""
        why = {
            "default": "the default",
            "first_with_sound": "the first with sound",
            "no_sound": "none of which has sound",
        }
        return f"{self.number} of {self.of}, {why[self.reason]}"


RepresentationName = Literal["codes", "latents"]
"""What a model writes music down in: codes of K codebooks (MusicGen), or latents of K rows (latent diffusion)."""


@dataclass(frozen=True)
class Representation:
    """How a model writes music down, frame by frame.

    Attributes:
        name: codes or latents. It is also the name of the column that stores keep them in.
        rows: K, the numbers of a frame: one code of each codebook, or one latent of each row.
        size: codes of each codebook; 0 for latents, which are any numbers.
    """

    name: RepresentationName
    rows: int
    size: int = 0

    @property
    def dtype(self) -> str:
        """NumPy's name of what a model computes with: int64 for codes, float32 for latents."""
        return "int64" if self.name == "codes" else "float32"

    def counted(self, heard_T: "np.ndarray") -> list[int]:
        """Number of each row's numbers that a loss counts, K of them, for bool `[T]`: which frames hold sound.

        Under MusicGen's delay pattern, codebook k is predicted up to the last frame but k. Latents all count.
        """
        unpredicted = range(self.rows) if self.name == "codes" else [0] * self.rows
        return [int(heard_T[: max(len(heard_T) - k, 0)].sum()) for k in unpredicted]


@dataclass(frozen=True)
class Draws:
    """Random numbers that a loss is a mean over. They are hashes of their positions, and the same for all songs.

    Attributes:
        count: how many draws of time and noise, an even number: at every time there is a noise and its opposite.
        seed: of the hash; other seeds give other draws.

    Raises:
        ValueError: a count that is odd or not positive.
    """

    count: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < 2 or self.count % 2:
            raise ValueError(f"draws come in pairs, got {self.count}")


STORED_AS: dict[RepresentationName, str] = {"codes": "<u2", "latents": "<f2"}
"""NumPy's names of the numbers in stores."""


@dataclass(frozen=True)
class SongCodes:
    """EnCodec codes, or latents, of the chunks of one song that are fingerprinted.

    Attributes:
        chunks: one array `[K, T_c]` per chunk, not padded: uint16 codes, or float16 latents.
        starts_s: each chunk's start in the song, in seconds.
        heard: one bool array `[T_c]` per chunk: whether each frame holds sound. Losses, gradients and statistics leave
            the others out. All frames where none are given.
    """

    chunks: "tuple[np.ndarray, ...]"
    starts_s: tuple[float, ...]
    heard: "tuple[np.ndarray, ...]" = ()

    def __post_init__(self) -> None:
        if not self.heard:
            import numpy as np

            object.__setattr__(self, "heard", tuple(np.ones(chunk.shape[1], bool) for chunk in self.chunks))

    @property
    def frames(self) -> list[int]:
        """Number of frames of each chunk."""
        return [chunk.shape[1] for chunk in self.chunks]

    @property
    def representation(self) -> RepresentationName:
        """Whether these are codes or latents."""
        return "codes" if self.chunks[0].dtype.kind in "iu" else "latents"

    @property
    def sha256(self) -> str:
        """Hash of the codes or latents. Equal hashes mean equal vectors under one specification."""
        import numpy as np

        digest = hashlib.sha256(b"" if self.representation == "codes" else self.representation.encode())
        digest.update(np.array(self.frames, "<u4").tobytes())
        digest.update(self.to_bytes())
        digest.update(self.heard_bytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """All chunks as little-endian uint16 or float16 `[K, ΣT_c]`, row by row."""
        import numpy as np

        return np.concatenate(self.chunks, axis=1).astype(STORED_AS[self.representation]).tobytes()

    def heard_bytes(self) -> bytes:
        """`heard` of all chunks, one bit a frame."""
        import numpy as np

        return np.packbits(np.concatenate(self.heard)).tobytes()

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        heard: bytes,
        n_rows: int,
        frames: Sequence[int],
        starts_s: Sequence[float],
        representation: RepresentationName = "codes",
    ) -> Self:
        """Read what `to_bytes` and `heard_bytes` wrote.

        Args:
            data, heard: the bytes.
            n_rows: K.
            frames: number of frames of each chunk.
            starts_s: each chunk's start in the song, in seconds.
            representation: whether the bytes are codes or latents.

        Raises:
            StoreError: the lengths contradict each other, or a latent is not finite.
        """
        import numpy as np

        n_frames = sum(frames)
        whole = len(data) == 2 * n_rows * n_frames and len(heard) == -(-n_frames // 8)
        if not whole or len(frames) != len(starts_s) or not frames:
            raise StoreError(
                f"damaged {representation}: {len(data)} and {len(heard)} bytes for {n_rows} rows and chunks of "
                f"{frames} frames"
            )
        codes_KT = np.frombuffer(data, STORED_AS[representation]).reshape(n_rows, n_frames)
        codes_KT = codes_KT.astype(codes_KT.dtype.newbyteorder("="))
        if not np.isfinite(codes_KT).all():
            raise StoreError(f"damaged {representation}: not all are finite numbers")
        heard_T = np.unpackbits(np.frombuffer(heard, np.uint8), count=n_frames).astype(bool)
        ends = np.cumsum(frames)[:-1]
        return cls(tuple(np.split(codes_KT, ends, axis=1)), tuple(starts_s), tuple(np.split(heard_T, ends)))


@dataclass(frozen=True)
class ChannelQuery:
    """A query in one channel.

    Attributes:
        vector: float32 `[D]`, the unit vector of the whole query.
        chunk_vectors: float32 `[n, D]`, the unit vector of each chunk.
    """

    vector: "np.ndarray"
    chunk_vectors: "np.ndarray"


@dataclass(frozen=True)
class QueryFingerprint:
    """A fingerprinted query: everything that attribution needs to know of it.

    Attributes:
        audio_sha256: hash of the encoded file, as it was handed in.
        codes_sha256: hash of the codes that the vectors were made from.
        duration_s: length of the audio, in seconds.
        specification_sha256: hash of the specification that the vectors were made with.
        weights_sha256: hash of the weights of the model that made the vectors.
        channels: the query's vectors in each channel.
        chunk_starts_s: each chunk's start in the audio, in seconds; n numbers.
        chunk_durations_s: each chunk's length, in seconds; n numbers.
        chunk_weights: each chunk's fraction of the query's valid codes; n numbers that add up to 1.
        environment: adapter, device and versions that made the vectors; an equal environment repeats them bit for bit.
        audio_stream: which of the file's several audio streams was fingerprinted; None where it has one, or where
            nobody knows the file.
        evidence: shared evidence of the chunks that ask, float16 `[m, D]` of each kind; None where nobody has the
            audio.
    """

    audio_sha256: str
    codes_sha256: str
    duration_s: float
    specification_sha256: str
    weights_sha256: str
    channels: dict[Channel, ChannelQuery]
    chunk_starts_s: tuple[float, ...]
    chunk_durations_s: tuple[float, ...]
    chunk_weights: tuple[float, ...]
    environment: dict[str, str]
    audio_stream: AudioStream | None = None
    evidence: "dict[Evidence, np.ndarray] | None" = None
