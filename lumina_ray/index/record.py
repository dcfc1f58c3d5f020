"""The record of a snapshot, `manifest.json`: what the snapshot was made of, and the sha256 of its other files."""

import json
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import from_json

from lumina_ray.errors import StoreError
from lumina_ray.index.files import FORMAT_VERSION, MANIFEST_FILE
from lumina_ray.storage import Location
from lumina_ray.vocabulary import Channel


class _Frozen(BaseModel):
    # A later version may record more.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ChannelRecord(_Frozen):
    """The FAISS index of one channel. Fields with a default of None are those of an approximate index."""

    kind: str = Field(description="FAISS factory string.")
    exact: bool = Field(description="Whether every vector is compared with every query.")
    shards: tuple[str, ...] = Field(description="Index files, of consecutive songs each.")
    memory_bytes: int = Field(description="Size of the index files.")
    parameters: dict[str, int] = Field(default={}, description="`nprobe` or `efSearch`, if the kind has one.")
    oversampling: int | None = Field(None, description="Candidates scored again, as a multiple of those asked for.")
    recall_at_100: float | None = Field(None, description="Share of the 100 nearest songs that a search finds.")
    recall_bound: float | None = Field(None, description="Smallest recall@100 that the build accepted.")
    recall_queries: int | None = Field(None, description="Queries that recall was measured on.")

    @model_validator(mode="after")
    def _approximate_indexes_are_tuned(self) -> Self:
        if not self.exact and self.oversampling is None:
            raise ValueError("an approximate index has an oversampling")
        return self


class SnapshotRecord(_Frozen):
    """The origin of a snapshot, its settings, and the hashes of its files."""

    format_version: int
    key: str = Field(description="sha256 of specification and catalog data.")
    model: str = Field(description="Name of the audited model when the catalog was fingerprinted.")
    specification: dict = Field(description="How audio becomes a fingerprint.")
    specification_sha256: str
    data_sha256: str = Field(description="sha256 of ids, codes and vectors of the catalog store.")
    generation: int | None = Field(None, description="Generation of the living catalog; None for a store.")
    catalog: str | None = Field(None, description="Identity of the living catalog; None for a store.")
    calibration_sha256: str
    n_songs: int = Field(ge=1)
    n_excluded: int = Field(description="Songs of the store that are left out.")
    excluded: dict[str, str] = Field(description="Song id → why it is left out.")
    dims: dict[Channel, int] = Field(description="Channel → numbers of a vector.")
    indexes: dict[Channel, ChannelRecord]
    files: dict[str, str] = Field(description="Name → sha256 of every other file.")
    software: dict[str, str] = Field(description="Name → version of what built the snapshot.")
    created: str = Field(description="ISO 8601, UTC.")

    @field_validator("files")
    @classmethod
    def _in_the_snapshots_own_folder(cls, files: dict[str, str]) -> dict[str, str]:
        if outside := [name for name in files if "/" in name]:
            raise ValueError(f"{outside[0]} is not a name in the snapshot's folder")
        return files

    def to_json(self) -> str:
        """The contents of `manifest.json`; fields that were not given are left out."""
        values = self.model_dump(mode="json", exclude_unset=True)
        return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read_record(folder: Location) -> SnapshotRecord:
    """Read the record of a snapshot.

    Raises:
        StoreError: the file is missing or damaged, of another format, or no record of a snapshot.
    """
    file = folder / MANIFEST_FILE
    try:
        values = from_json(file.read_bytes())
        found = values.get("format_version", FORMAT_VERSION)
    except FileNotFoundError as error:
        raise StoreError(f"{file} does not exist: it is no complete snapshot, build the index again") from error
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{file} is damaged ({error}): build the index again") from error
    if found != FORMAT_VERSION:
        raise StoreError(
            f"{folder} has format version {found}, this software reads {FORMAT_VERSION}: build the index again"
        )
    try:
        return SnapshotRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = "/".join(str(part) for part in first["loc"])
        raise StoreError(f"{file} is damaged ({field}: {first['msg']}): build the index again") from error
