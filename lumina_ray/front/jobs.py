"""Jobs over whole catalogs: fingerprint songs on Ray, and calibrate their store."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lumina_ray.files import check_lasting
from lumina_ray.front.device import check_job_device
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.storage import AnyPath, locate
from lumina_ray.vocabulary import CHANNELS, Channel, Dtype, Kind

if TYPE_CHECKING:
    from cluster.fingerprint import JobSummary
    from lumina_ray.calibration import Calibration, Guarantee


def fingerprint(
    manifest: AnyPath,
    out: AnyPath,
    *,
    model: str | os.PathLike[str] = "nano",
    kind: Kind | None = None,
    channels: Sequence[Channel] = CHANNELS,
    dtype: Dtype = "float32",
    device: str = "auto",
    workers: int | None = None,
    decoders: int | None = None,
    max_failed_fraction: float = 0.5,
) -> "JobSummary":
    """Fingerprint every song of a catalog on Ray: one row of the store for each. The same call resumes it.

    The job uses the Ray that this process is connected to, else the cluster in RAY_ADDRESS, else a local one for as
    long as it takes.

    Args:
        manifest: a manifest (.parquet or .csv), or a finished store, whose codes are then used again.
        out: the store to write, or to resume: a folder, or an address in a bucket.
        model: "nano", "nano-early", "nano-reference", "nano-dit", a hub name, or a folder.
        kind: a name in `lumina_ray.fingerprint.kinds.KINDS_OF`; by default `companion` for a model that comes with
            companion.npz, else `influence`, or `gradient` where music is latents.
        channels: "P", "M" or both; one alone costs less.
        dtype: number format of the model's matrix products; "float32" is the reference.
        device: "auto", "cpu" or "cuda".
        workers: models loaded at once; by default one for each GPU, or for each CPU.
        decoders: songs decoded at once; by default what the cluster holds.
        max_failed_fraction: when more of the songs failed, that is an error, after everything is stored.

    Returns:
        What the job did: counts of songs, seconds, first failures.

    Raises:
        ManifestError, StoreError: the manifest is unusable, or `out` is something else's.
        ModelError: the model is not at hand or unsuitable.
        UsageError: no such kind, channel or device.
        SpecificationMismatch: `out` was begun with other songs or another model.
        ClusterError: the cluster cannot run the job as asked.
        TooManyFailures: see `max_failed_fraction`.
        StoreBusy: another job is filling `out`.
    """
    check_lasting(locate(out))
    check_job_device(device)
    check_ray_address()
    from cluster.fingerprint import run_fingerprint_job
    from lumina_ray.fingerprint.default import default_kind

    return run_fingerprint_job(
        locate(manifest),
        locate(out),
        model=os.fspath(model),
        kind=kind or default_kind(os.fspath(model)),
        channels=tuple(channels),
        dtype=dtype,
        device=device,
        workers=workers,
        decoders=decoders,
        max_failed_fraction=max_failed_fraction,
    )


def calibrate(
    store: AnyPath,
    controls: AnyPath,
    *,
    guarantee: "Guarantee" = "mean",
    queries: AnyPath | None = None,
    pieces: AnyPath | None = None,
    other_pieces: Mapping[str, AnyPath] | None = None,
) -> "Calibration":
    """Measure what unrelated music looks like, so that confidence means something. Written into the store.

    Args:
        store: a finished catalog store, or a living catalog.
        controls: a finished store of tracks that the model never saw, made with the same model and kind.
        guarantee: "mean": at most 5 % of unrelated tracks have any song qualify, on average over draws of controls.
            "tolerance": that is so with 95 % confidence for these controls; it takes 59 of them, or more.
        queries: a finished store of queries, made likewise; the reliability of their scores is then measured too.
        pieces: a finished store, made likewise, of pieces that the audited model made up: reports then tell whether a
            clip is its output.
        other_pieces: the same of other models, by name: reports then tell them apart.

    Returns:
        The noise of each channel, and whether each control has a ranking of its own.

    Raises:
        StoreError: not a finished store, or the same audio in both.
        SpecificationMismatch: the stores were made by different specifications.
        UsageError: too few controls or pieces.
    """
    from lumina_ray.calibration import calibrate_store, write_calibration
    from lumina_ray.store import stream_store

    calibration = calibrate_store(
        stream_store(locate(store)),
        stream_store(locate(controls)),
        guarantee=guarantee,
        queries=queries,
        pieces=pieces,
        other_pieces=other_pieces,
    )
    write_calibration(calibration, locate(store))
    return calibration
