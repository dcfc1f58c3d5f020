"""A worker that takes a fixed time per song and computes nothing. A process that runs it does not import torch."""

import time

import numpy as np
import pyarrow as pa


class FixedTimeWorker:
    """Makes rows as large as a `FingerprintWorker`'s, and sleeps for the rest of the fixed time.

    The rows' codes are those that come with the songs. The fixed time contains the time to make the rows, as a model's
    time does.
    """

    def __init__(self, *_: object, schema: pa.Schema, song_s: float) -> None:
        """Accept and ignore the arguments of a `FingerprintWorker`.

        Args:
            schema: the columns of a store.
            song_s: the time that a song takes, in seconds.
        """
        self._schema = schema
        self._song_s = song_s
        self._dims = {f.name: f.type.list_size for f in schema if pa.types.is_fixed_size_list(f.type)}
        self._norms = {f"{channel}_norm": 1.0 for channel in self._dims}
        self._rng = np.random.default_rng(0)

    def __call__(self, rows: pa.Table) -> pa.Table:
        end_s = time.monotonic() + self._song_s * len(rows)
        known = rows.select([name for name in rows.column_names if name in self._schema.names])
        made = {"status": "ok"} | self._norms
        table = pa.Table.from_pylist(
            [row | made | self._vectors() | {"codes_sha256": row["audio_sha256"]} for row in known.to_pylist()],
            schema=self._schema,
        )
        time.sleep(max(0.0, end_s - time.monotonic()))
        return table

    def _vectors(self) -> dict[str, np.ndarray]:
        """Random vectors, because a file compresses them as little as real ones."""
        return {channel: self._rng.standard_normal(n, np.float32) for channel, n in self._dims.items()}
