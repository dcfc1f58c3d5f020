"""A table of a method's scores, between a catalog's stores and queries' stores."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.methods.features import Features
from lumina_ray.methods.method import METHODS
from lumina_ray.methods.score import attribute, cache
from lumina_ray.vocabulary import Channel

# Stores load torch.
if TYPE_CHECKING:
    from lumina_ray.store import Store

METHOD_KEY, SONGS_KEY = b"lumina.method", b"lumina.songs"
"""Metadata of a table of scores: the method's name, and how many songs the catalog has, whatever `top` is."""


def score_table(
    name: str,
    catalog: Sequence["Store"],
    queries: Sequence["Store"],
    learning_rates: Sequence[float] = (),
    top: int = 10,
) -> pa.Table:
    """List the songs that a method finds most influential for each query.

    Args:
        name: the method's name, a key of `METHODS`.
        catalog: the catalog's stores, one for each checkpoint, oldest first.
        queries: the queries' stores, one for each checkpoint, oldest first.
        learning_rates: the training's learning rate at each checkpoint; TracIn needs them.
        top: how many songs to list for each query and channel; all songs where the catalog has fewer.

    Returns:
        Columns `query_id`, `channel`, `rank` (from 1), `song_id` and `score` (float64), sorted by the first three. Its
        metadata name the method, and how many songs the catalog has.

    Raises:
        UsageError: there is no such method; the stores hold another kind of fingerprint; or the numbers of stores and
            learning rates differ.
        SpecificationMismatch: the queries were not fingerprinted as the catalog was.
        StoreError: the stores of two checkpoints hold different songs.
    """
    if name not in METHODS:
        raise UsageError(f"no method {name!r}; there are {', '.join(METHODS)}")
    method = METHODS[name]
    if len(catalog) != len(queries):
        raise UsageError(
            f"{len(catalog)} catalog stores and {len(queries)} of queries: give one of each per checkpoint"
        )
    if learning_rates and len(learning_rates) != len(catalog):
        raise UsageError(f"{len(learning_rates)} learning rates for {len(catalog)} checkpoints: give one for each")
    for ours, theirs in zip(catalog, queries, strict=True):
        if ours.specification.sha256 != theirs.specification.sha256:
            raise SpecificationMismatch(
                f"{theirs.path} was not fingerprinted as {ours.path} was: use the same model and options for both"
            )
        if method.kind not in (None, ours.specification.kind):
            raise UsageError(
                f"method {name} works on {method.kind} fingerprints, {ours.path} holds {ours.specification.kind}: "
                f"run `lumina fingerprint {ours.path} --fingerprint {method.kind} --out NEW` on its codes"
            )
    rates = np.array(learning_rates) if learning_rates else None
    scores: dict[Channel, np.ndarray] = {}
    for channel in (channel for channel in method.channels if channel in catalog[0].specification.channels):
        songs, asked = (Features.of_stores(stores, channel, rates) for stores in (catalog, queries))
        scores[channel] = attribute(cache(method, songs), asked)
    return top_table(name, queries[0].song_ids, catalog[0].song_ids, scores, top)


def top_table(
    name: str, query_ids: Sequence[str], song_ids: Sequence[str], scores: Mapping[Channel, np.ndarray], top: int
) -> pa.Table:
    """List the songs with the largest scores; see `score_table`.

    Args:
        name: of the method.
        scores: float64 `[Q, N]` for each channel.
    """
    tables = []
    for channel, scores_QN in scores.items():
        order_Qk = np.argsort(-scores_QN, axis=1, kind="stable")[:, :top]
        k = order_Qk.shape[1]
        tables.append(
            pa.table({
                "query_id": np.repeat(query_ids, k),
                "channel": np.repeat(channel, len(query_ids) * k),
                "rank": np.tile(np.arange(1, k + 1), len(query_ids)),
                "song_id": np.array(song_ids)[order_Qk.ravel()],
                "score": np.take_along_axis(scores_QN, order_Qk, axis=1).ravel(),
            })
        )  # fmt: skip
    # P comes before M, as everywhere.
    order = [("query_id", "ascending"), ("channel", "descending"), ("rank", "ascending")]
    metadata = {METHOD_KEY: name, SONGS_KEY: str(len(song_ids))}
    return pa.concat_tables(tables).sort_by(order).replace_schema_metadata(metadata)
