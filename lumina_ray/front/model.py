"""A model for Python users: open it by name, fingerprint audio files, compare them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.storage import AnyPath, locate
from lumina_ray.vocabulary import CHANNELS, Channel, Dtype, Kind

if TYPE_CHECKING:
    from lumina_ray.fingerprint import Fingerprinter, Specification
    from lumina_ray.model import AttributableModel


@dataclass(frozen=True, eq=False, repr=False)
class Similarity(Mapping[Channel, float]):
    """Similarity of two songs per channel: the inner product of their unit fingerprints, −1 to 1."""

    by_channel: Mapping[Channel, float]

    def __getitem__(self, channel: Channel) -> float:
        return self.by_channel[channel]

    def __iter__(self) -> Iterator[Channel]:
        return iter(self.by_channel)

    def __len__(self) -> int:
        return len(self.by_channel)

    def __repr__(self) -> str:
        return "  ".join(f"{channel} {value:.3f}" for channel, value in self.by_channel.items())


@dataclass(frozen=True, eq=False)
class SongFingerprint:
    """One song's fingerprint, with the numbers of a catalog job.

    Attributes:
        vectors: per channel float32 `[D]`, of unit length (or all zero when the gradient is exactly zero).
        specification: how the vectors were made; only fingerprints of one specification can be compared.
        audio_sha256: hash of the encoded file.
        codes_sha256: hash of its EnCodec codes, which the vectors follow from.
        duration_s: seconds of audio.
    """

    vectors: Mapping[Channel, np.ndarray]
    specification: "Specification"
    audio_sha256: str
    codes_sha256: str
    duration_s: float

    def similarity(self, other: "SongFingerprint") -> Similarity:
        """Inner products with another fingerprint, in float64, one per channel.

        Raises:
            SpecificationMismatch: the other was made by another model, kind, dtype or choice of channels.
        """
        if self.specification.sha256 != other.specification.sha256:
            ours, theirs = self.specification.to_dict(), other.specification.to_dict()
            name = next(name for name in ours if ours[name] != theirs[name])
            raise SpecificationMismatch(
                f"these fingerprints have different specifications ({name}: {ours[name]} and {theirs[name]}); make "
                "both with the same model, kind, channels and dtype"
            )
        return Similarity({c: float(v.astype(np.float64) @ other.vectors[c]) for c, v in self.vectors.items()})

    def __repr__(self) -> str:
        dims = ", ".join(f"{channel} {len(vector)}" for channel, vector in self.vectors.items())
        return f"SongFingerprint({self.specification.kind}, {self.duration_s:.1f} s, numbers: {dims})"


class Model:
    """A loaded model that fingerprints audio files; `open_model` makes one."""

    def __init__(self, music_model: "AttributableModel", dtype: Dtype) -> None:
        self.music_model = music_model
        self.dtype = dtype
        self._fingerprinters: dict[tuple[Kind, tuple[Channel, ...]], Fingerprinter] = {}

    @property
    def name(self) -> str:
        """The name that it was opened by."""
        return self.music_model.name

    @property
    def weights_sha256(self) -> str:
        """Hash of its weight files."""
        return self.music_model.weights_sha256

    def fingerprint(
        self, audio: AnyPath, kind: Kind | None = None, channels: Sequence[Channel] = CHANNELS
    ) -> SongFingerprint:
        """Fingerprint one audio file. The vectors have the bits of a catalog job on the same kind of machine.

        Args:
            audio: path of an audio file, or its address in a bucket.
            kind: a name in `lumina_ray.fingerprint.kinds.KINDS_OF`; by default that of a catalog job.
            channels: "P", "M" or both; one alone costs less.

        Raises:
            AudioError: the file cannot be used.
            UsageError: no such kind or channel.
        """
        from lumina_ray.audio import load_chunks
        from lumina_ray.fingerprint import encode_song
        from lumina_ray.fingerprint.default import default_kind_of

        fingerprinter = self._fingerprinter(kind or default_kind_of(self.music_model), tuple(channels))
        decoded = load_chunks(locate(audio))
        codes = encode_song(self.music_model, decoded.chunks)
        made = fingerprinter(codes)
        return SongFingerprint(
            vectors=made.vectors,
            specification=fingerprinter.specification,
            audio_sha256=decoded.sha256,
            codes_sha256=codes.sha256,
            duration_s=decoded.duration_s,
        )

    def _fingerprinter(self, kind: Kind, channels: tuple[Channel, ...]) -> "Fingerprinter":
        from lumina_ray.fingerprint import Fingerprinter, Specification, choose_chunks_in_flight

        if (kind, channels) not in self._fingerprinters:
            specification = Specification.for_model(self.music_model, kind, channels, self.dtype)
            # The batch that a job takes, since the last bits depend on it.
            chunks = choose_chunks_in_flight(self.music_model, specification)
            self._fingerprinters[kind, channels] = Fingerprinter(self.music_model, specification, chunks)
        return self._fingerprinters[kind, channels]

    def __repr__(self) -> str:
        return f"Model({self.name!r}, weights {self.weights_sha256[:12]}, {self.music_model.device})"


def open_model(name: str | os.PathLike[str] = "nano", device: str = "auto", dtype: Dtype = "float32") -> Model:
    """Load a model by name.

    Args:
        name: "nano", "nano-early", "nano-reference" or "nano-dit" (bundled), a hub name ("facebook/musicgen-large"), or
            a local folder of a MusicGen or of a latent diffusion transformer; "audiocraft:" before a MusicGen's name
            loads it through audiocraft.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        dtype: number format of the model's matrix products: "float32" (the reference), "bfloat16" or "float16".

    Raises:
        ModelError: the model is not at hand, or is none of these.
        UsageError: no such device or dtype.
    """
    import torch

    from lumina_ray.front.device import find_device
    from lumina_ray.model import open_model as open_music_model

    if dtype not in get_args(Dtype):
        raise UsageError(f"there is no dtype {dtype!r}; it must be one of {', '.join(get_args(Dtype))}")
    return Model(open_music_model(os.fspath(name), find_device(device), getattr(torch, dtype)), dtype)
