"""Scores of a method between stores, as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.methods.features import Features
from lumina_ray.methods.method import METHODS
from lumina_ray.methods.score import attribute, cache

# With it comes torch.
if TYPE_CHECKING:
    from lumina_ray.store import Store


def score_table(
    name: str,
    catalog: Sequence["Store"],
    queries: Sequence["Store"],
    learning_rates: Sequence[float] = (),
    top: int = 10,
) -> pa.Table:
    """The songs that a method finds most influential for each query.

    Args:
        catalog, queries: a store for each checkpoint, oldest first.
        learning_rates: of the training at each checkpoint; TracIn needs them.
        top: songs of each query and channel; those of the whole catalog where it is smaller.

    Returns:
        Columns `query_id`, `channel`, `rank` (from 1), `song_id` and `score` (float64), sorted by the first three.

    Raises:
        UsageError: there is no such method, stores do not hold its fingerprint, or their numbers differ.
        SpecificationMismatch: queries were not fingerprinted as the catalog was.
        StoreError: stores of checkpoints hold different songs.
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
    song_ids, query_ids = np.array(catalog[0].song_ids), queries[0].song_ids
    parts = []
    for channel in (channel for channel in method.channels if channel in catalog[0].specification.channels):
        songs, asked = (Features.of_stores(stores, channel, rates) for stores in (catalog, queries))
        scores_QN = attribute(cache(method, songs), asked)
        order_Qk = np.argsort(-scores_QN, axis=1, kind="stable")[:, :top]
        k = order_Qk.shape[1]
        parts.append(
            pa.table({
                "query_id": np.repeat(query_ids, k),
                "channel": np.repeat(channel, len(query_ids) * k),
                "rank": np.tile(np.arange(1, k + 1), len(query_ids)),
                "song_id": song_ids[order_Qk.ravel()],
                "score": np.take_along_axis(scores_QN, order_Qk, axis=1).ravel(),
            })
        )  # fmt: skip
    # P before M, as everywhere.
    order = [("query_id", "ascending"), ("channel", "descending"), ("rank", "ascending")]
    return pa.concat_tables(parts).sort_by(order)
