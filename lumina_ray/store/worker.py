"""Decoded rows → store rows: the step of a catalog job that needs the model, as a plain callable without Ray.

Bad audio raises nothing: one row in is one row out, so that one bad song can neither stop a job nor harm the songs
beside it. The worker does raise when its own numbers are wrong.
"""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lumina_ray.catalog.decode import decoded_chunks
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.errors import NumericsError, SpecificationMismatch, StoreError
from lumina_ray.fingerprint import Specification, encode_song
from lumina_ray.store.schema import norm_column, store_schema
from lumina_ray.vocabulary import EVIDENCE_COLUMNS, STORED_AS, SongCodes

# Tasks that only read or write import this module too, and need no torch.
if TYPE_CHECKING:
    from lumina_ray.fingerprint import Fingerprint

_PASSED_ON = ("song_id", "path", *METADATA_COLUMNS)
_CODE_COLUMNS = ("audio_sha256", "duration_s", "heard", "chunk_frames", "chunk_starts_s")

NOT_FINITE = "numerics.not_finite"
NO_MEMORY = "memory.gpu"
_RESCUABLE = {NOT_FINITE, NO_MEMORY}


class FingerprintWorker:
    """Owns one loaded model and turns decoded rows, or rows that already hold codes, into store rows.

    The same object runs in a Ray Data actor, in a Serve replica and in a unit test.
    """

    def __init__(
        self,
        model_name: str,
        specification: dict,
        device: str = "cpu",
        chunks_in_flight: int = 1,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Load the model.

        Args:
            model_name: a bundled name, a hub name, or a folder.
            specification: `Specification.to_dict()`; the dictionary travels between processes.
            device: "cpu" or "cuda".
            chunks_in_flight: chunks in each batch of the model.
            environment: environment of the run (`run.json`); this process must have the same one.

        Raises:
            ModelError: the model is not at hand.
            SpecificationMismatch: this process has another environment; shows both values of the first difference.
        """
        from lumina_ray.fingerprint import Fingerprinter, SmallerBatches, SpotCheck, describe_environment
        from lumina_ray.model import open_model

        self.specification = Specification.from_dict(specification)
        self.model = open_model(model_name, device, self.specification.torch_dtype)
        if environment:
            _check_environment(environment, describe_environment(self.model, chunks_in_flight))
        self.fingerprinter = Fingerprinter(self.model, self.specification, chunks_in_flight)
        self._smaller_batches = SmallerBatches(self.fingerprinter)
        self._spot_check = SpotCheck(self.fingerprinter)
        self._fault: NumericsError | None = None
        self._schema = store_schema(self.specification)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Fingerprint every row; short songs share a batch.

        Returns:
            One row for each song, with the columns of `store_schema`.

        Raises:
            NumericsError: a spot check failed, now or before; the worker's earlier rows may be wrong too.
        """
        if self._fault is not None:
            raise self._fault
        prepared = [(_passed_on(row), self._codes_or_failure(row)) for row in rows.to_pylist()]
        fingerprints = iter(self._fingerprints([codes for _, codes in prepared if isinstance(codes, SongCodes)]))
        stored = [
            kept
            | (self._ok_or_failure(kept["song_id"], made, next(fingerprints)) if isinstance(made, SongCodes) else made)
            for kept, made in prepared
        ]
        return pa.Table.from_pylist(stored, schema=self._schema)

    def _codes_or_failure(self, row: dict) -> SongCodes | dict:
        # A song that overflowed may not do so in another precision, and memory may be free by now; the codes are there.
        if row.get("error_code") and row["error_code"] not in _RESCUABLE:
            return _failed(row["error_code"], row["error"])
        try:
            return self._codes(row)
        except StoreError as error:
            return _failed(error.code, f"{row['song_id']}: {error}")

    def _fingerprints(self, songs: Sequence[SongCodes]) -> "list[Fingerprint | None]":
        """A fingerprint of each song; None where the GPU's memory does not suffice for one of the same bits."""
        import torch

        from lumina_ray.fingerprint import SpotCheck

        try:
            return list(self.fingerprinter.many(songs))
        except torch.cuda.OutOfMemoryError:
            pass  # The retry is outside this block: the exception keeps the tensors that did not fit.
        torch.cuda.empty_cache()
        if smaller := self._smaller_batches.below(self.fingerprinter):
            self.fingerprinter = smaller
            self._spot_check = SpotCheck(smaller)
            return self._fingerprints(songs)
        return [made for song in songs for made in self._fingerprints([song])] if len(songs) > 1 else [None]

    def _ok_or_failure(self, song_id: str, codes: SongCodes, fingerprint: "Fingerprint | None") -> dict:
        codes_columns = {
            "codes_sha256": codes.sha256,
            self.specification.representation: codes.to_bytes(),
            "heard": codes.heard_bytes(),
            "chunk_frames": codes.frames,
            "chunk_starts_s": list(codes.starts_s),
        }
        if fingerprint is None:
            return codes_columns | _failed(
                NO_MEMORY,
                f"{song_id}: the GPU has no memory for {self.fingerprinter.chunks_in_flight} chunks at once; "
                "fewer do not fit or do not make the same bits. See what else uses it (`nvidia-smi`), then use this "
                "store as the manifest of another",
            )
        if not all(np.isfinite(vector).all() for vector in fingerprint.vectors.values()):
            reason = f"{song_id}: its gradients overflow in {self.specification.dtype}"
            advice = "" if self.specification.dtype == "float32" else "; use --dtype float32, on this store if you like"
            return codes_columns | _failed(NOT_FINITE, reason + advice)
        try:
            self._spot_check(song_id, codes, fingerprint)
        except NumericsError as fault:
            self._fault = fault
            raise
        norms = {norm_column(channel): norm for channel, norm in fingerprint.norms.items()}
        return {"status": "ok"} | codes_columns | fingerprint.vectors | norms

    def _codes(self, row: dict) -> SongCodes:
        name, n_rows = self.specification.representation, self.model.representation.rows
        if row.get(name) is not None:
            return SongCodes.from_bytes(
                row[name], row["heard"], n_rows, row["chunk_frames"], row["chunk_starts_s"], name
            )
        return encode_song(self.model, decoded_chunks(row))


def _check_environment(wanted: dict[str, str], own: dict[str, str]) -> None:
    for name, value in wanted.items():
        if own.get(name) != value:
            raise SpecificationMismatch(
                f"{socket.gethostname()} has {name} = {own.get(name)}, the run has {value}: vectors would differ in "
                "their last bits; use nodes of one kind and one software"
            )


def _passed_on(row: dict) -> dict:
    of_audio = ("audio_sha256", "audio_stream", "duration_s", *EVIDENCE_COLUMNS)
    return {column: row.get(column) for column in (*_PASSED_ON, *of_audio)}


def _failed(code: str, reason: str) -> dict:
    return {"status": "failed", "error_code": code, "error": reason}


def has_codes(table: pa.Table) -> bool:
    """Whether rows have codes or latents, as the rows of another store do; then nothing needs to be decoded."""
    names = set(table.column_names)
    return names.issuperset(_CODE_COLUMNS) and not names.isdisjoint(STORED_AS)
