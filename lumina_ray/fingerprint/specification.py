"""The specification: everything that a fingerprint's numbers depend on besides the song.

Vectors of two specifications never meet in one index. The specification's hash is how that is checked.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self, cast, get_args

from lumina_ray.audio import CHUNK_S, GATE_DBFS, LEVEL_DBFS, MIN_TAIL_S, SOUND_DBFS
from lumina_ray.errors import ModelError, StoreError, UsageError
from lumina_ray.fingerprint.kinds import KIND_NAMES, KINDS_OF, FingerprintKind, find_kind
from lumina_ray.model.tracked import CONDITION_TEXT, ROLES
from lumina_ray.vocabulary import CHANNELS, Channel, Draws, Dtype, Kind, RepresentationName

if TYPE_CHECKING:
    import torch

    from lumina_ray.embedding.interface import Embedder
    from lumina_ray.model import AttributableModel, MusicModel


# This number is raised whenever the same inputs would give other numbers, or more of them.
ALGORITHM_VERSION = 8

_PUBLISHED_CODEBOOK_WEIGHTS = (0.4, 1.2, 1.3, 1.4)
_LOSSES: dict[RepresentationName, str] = {
    "codes": "mean over valid positions per codebook, weighted mean over codebooks, chunks by valid codes",
    "latents": "squared error of the velocity, mean over draws and valid frames, mean over rows, chunks by frames",
}
# Without a scale, a fifth of a gradient's elements vanish in float16. With this one none does, and the largest are
# still a thousand times below the largest float16.
_FLOAT16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Specification:
    """How a song becomes a vector. It can be written as JSON, and equal specifications have equal hashes.

    Attributes:
        kind: kind of fingerprint, a name in `KINDS_OF`.
        weights_sha256: hash of the model's weights.
        dims: length of the vector of each channel that is computed.
        layers: tracked transformer layers of each channel; empty where output heads or codes are used instead.
        codebook_weights: weights of the losses of the codebooks, or of the latents' rows; only their ratios matter.
        seed: the projection's seed; 0 where nothing is projected.
        nonzeros: non-zero entries in each column of the projection; 0 where nothing is projected, or where the
            projection is dense.
        statistics_sha256: hash of the model's `MusicStatistics`, of its `Fisher` information, of its `Companions` or of
            an `Embedder`, where the fingerprint depends on them; otherwise empty.
        text: the text that the language model is conditioned on.
        chunk_s: length of a full chunk, in seconds.
        min_tail_s: a shorter last chunk is dropped, in seconds.
        gate_dbfs: songs without a louder chunk are silent, in dB relative to full scale.
        level_dbfs: level that all audio is brought to before it is encoded.
        sound_dbfs: frames that are quieter at that level are left out.
        dtype: number format of the language model's matrix products. float32 is the reference; the others run under
            autocast. The codec, the loss, positions, and all that is made of gradients stay in float32 or better.
        loss_scale: factor on the loss of the backward pass, a power of two. It is divided out again in float32.
        loss: what is differentiated, in words, or what stands in its place.
        algorithm_version: version of the algorithm that made the numbers.
        representation: what the model writes music down in.
        draws: what the loss is a mean over; None where it is not random.

    Raises:
        ValueError: a backward pass in float16 without a loss scale, or a loss scale that is not a power of two.
    """

    kind: Kind
    weights_sha256: str
    dims: dict[Channel, int]
    layers: dict[Channel, list[int]]
    codebook_weights: list[float]
    seed: int
    nonzeros: int
    statistics_sha256: str = ""
    text: str = CONDITION_TEXT
    chunk_s: float = CHUNK_S
    min_tail_s: float = MIN_TAIL_S
    gate_dbfs: float = GATE_DBFS
    level_dbfs: float = LEVEL_DBFS
    sound_dbfs: float = SOUND_DBFS
    dtype: Dtype = "float32"
    loss_scale: float = 1.0
    loss: str = _LOSSES["codes"]
    algorithm_version: int = ALGORITHM_VERSION
    representation: RepresentationName = "codes"
    draws: Draws | None = None

    def __post_init__(self) -> None:
        if self.dtype == "float16" and self._row.needs == "backward" and self.loss_scale == 1.0:
            raise ValueError("gradients in float16 need a loss scale: a fifth of their elements would vanish")
        if math.frexp(self.loss_scale)[0] != 0.5:
            raise ValueError(f"the loss scale must be a power of two, got {self.loss_scale}")

    @classmethod
    def for_model(
        cls, model: "AttributableModel", kind: Kind, channels: tuple[Channel, ...] = CHANNELS, dtype: Dtype = "float32"
    ) -> Self:
        """The specification of one kind of fingerprint under one model.

        Raises:
            UsageError: there is no such kind, channel or dtype; the message lists the right ones.
            ModelError: the model is too shallow for the layer bands, predicts codes of other than 4 codebooks, or lacks
                the Fisher information or the companion that the kind depends on; or the embedder is not at hand.
        """
        representation = model.representation
        row = find_kind(kind, representation.name)
        if not channels or not set(channels) <= set(CHANNELS):
            raise UsageError(f"channels must be one or more of {', '.join(CHANNELS)}, got {channels!r}")
        if dtype not in get_args(Dtype):
            raise UsageError(f"there is no dtype {dtype!r}; it must be one of {', '.join(get_args(Dtype))}")
        if representation.name == "codes" and representation.rows != len(_PUBLISHED_CODEBOOK_WEIGHTS):
            raise ModelError(
                f"model {model.name!r} has {representation.rows} codebooks; "
                f"MusicGen's {len(_PUBLISHED_CODEBOOK_WEIGHTS)} are needed"
            )
        seed, nonzeros = row.projection(channels, model)
        scaled = dtype == "float16" and row.needs == "backward"
        return cls(
            kind,
            model.weights_sha256,
            _dims(model, row, channels),
            {c: row.layers(c, model.n_layers) for c in channels},
            list(_PUBLISHED_CODEBOOK_WEIGHTS) if row.published_loss else [1.0] * representation.rows,
            seed,
            nonzeros,
            statistics_sha256=measured_sha256(model, kind),
            dtype=dtype,
            loss_scale=_FLOAT16_LOSS_SCALE if scaled else 1.0,
            loss=row.loss or _LOSSES[representation.name],
            representation=representation.name,
            draws=model.draws,
        )

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that are computed, P before M."""
        return tuple(c for c in CHANNELS if c in self.dims)

    def blocks(self, channel: Channel) -> int:
        """Number of equal pieces of a channel's vector that are each made of one tensor.

        It is 1 where every number mixes tensors. Preconditioners work block by block.
        """
        return self._row.blocks(len(self.layers[channel]), self.representation)

    @property
    def measured(self) -> str:
        """Name of what `statistics_sha256` is about: a file beside the model's weights, or an embedder's weights."""
        from lumina_ray.model.companion import COMPANION_FILE
        from lumina_ray.model.fisher import FISHER_FILE
        from lumina_ray.model.statistics import STATISTICS_FILE

        uses = {
            COMPANION_FILE: self._row.uses_companion,
            FISHER_FILE: self._row.uses_fisher,
            STATISTICS_FILE: self._row.uses_music_statistics,
        }
        others = f"{self._row.embedder} embedder" if self._row.embedder else ""
        return next((file for file, used in uses.items() if used), others)

    @property
    def _row(self) -> FingerprintKind:
        return find_kind(self.kind, self.representation)

    @property
    def torch_dtype(self) -> "torch.dtype":
        """`dtype` as torch's own type; loads torch."""
        import torch

        return getattr(torch, self.dtype)

    @property
    def sha256(self) -> str:
        """Hash of every field, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict:
        """Every field, and the names of the tracked tensors, as plain JSON values.

        What is true of all codes is left out for them: their specifications, and the hashes that stores and reports
        name, are those of versions that knew nothing else.
        """
        values = asdict(self) | {"tensors": list(ROLES[self.representation])}
        of_codes = (("representation", "codes"), ("draws", None))
        return {name: value for name, value in values.items() if (name, value) not in of_codes}

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            StoreError: another version of this software wrote it.
        """
        kinds = KINDS_OF.get(values.get("representation", "codes"), {})
        if (kind := values.get("kind")) not in kinds:
            raise StoreError(
                f"a fingerprint specification of another software version: kind {kind!r}, but this version knows "
                f"{', '.join(kinds or KIND_NAMES)}"
            )
        fields = {name: value for name, value in values.items() if name != "tensors"}
        try:
            if fields.get("draws") is not None:
                fields["draws"] = Draws(**fields["draws"])
            specification = cls(**fields)
        except TypeError as error:
            raise StoreError(f"a fingerprint specification of another software version: {error}") from error
        if specification.algorithm_version != ALGORITHM_VERSION:
            raise StoreError(
                f"fingerprints of algorithm version {specification.algorithm_version}, this software makes version "
                f"{ALGORITHM_VERSION}; fingerprint the catalog again, from its audio"
            )
        return specification


def measured_sha256(model: "AttributableModel", kind: Kind) -> str:
    """Hash of what was measured on a model's catalog and a kind depends on; empty where it depends on nothing.

    Raises:
        ModelError: the kind needs the model's Fisher information or companion, or an embedder, and there is none.
        SpecificationMismatch: that was measured with other weights.
    """
    row = find_kind(kind, model.representation.name)
    if row.embedder:
        return _embedder(model, row).sha256
    if row.uses_companion:
        from lumina_ray.model.companion import companions_of

        return companions_of(cast("MusicModel", model)).sha256
    if row.uses_fisher:
        from lumina_ray.model.fisher import fisher_of

        return fisher_of(model).sha256
    # Kinds of codes alone use them, and companions.
    return cast("MusicModel", model).statistics.sha256 if row.uses_music_statistics else ""


def _dims(model: "AttributableModel", row: FingerprintKind, channels: tuple[Channel, ...]) -> dict[Channel, int]:
    if row.embedder:
        return dict.fromkeys(channels, _embedder(model, row).dims)
    return {c: row.dims(c, model) for c in channels}


def _embedder(model: "AttributableModel", row: FingerprintKind) -> "Embedder":
    from lumina_ray.embedding.open import open_embedder

    return open_embedder(row.embedder, model.device)
