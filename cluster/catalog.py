"""Songs into a living catalog: only what is new is fingerprinted, as a store of its own."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cluster.fingerprint import DEFAULT_MAX_FAILED_FRACTION, JobSummary, run_fingerprint_job
from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.errors import UsageError
from lumina_ray.fingerprint import CHANNELS, Channel, Dtype, Kind
from lumina_ray.index.withdrawn import withdraw_removed
from lumina_ray.storage import Location
from lumina_ray.store.generations import (
    SEGMENTS_FOLDER,
    Generation,
    add_segment,
    check_addition,
    is_living,
    next_segment,
    read_generation,
)
from lumina_ray.store.run import read_run


@dataclass(frozen=True)
class Wanted:
    """How a catalog is fingerprinted; what is None is as the catalog has it, or the default for a new one."""

    model: str | None = None
    kind: Kind | None = None
    channels: tuple[Channel, ...] | None = None
    dtype: Dtype | None = None


def add_songs(
    catalog: Path,
    manifest: Location,
    wanted: Wanted,
    *,
    replacing: bool = False,
    device: str = "auto",
    workers: int | None = None,
    max_failed_fraction: float = DEFAULT_MAX_FAILED_FRACTION,
    console: Console | None = None,
) -> tuple[Generation, JobSummary]:
    """Fingerprint the songs of a manifest and make them part of a catalog, which is begun if it is not there.

    Interrupted, the same call goes on. The catalog changes at the very end, and as a whole.

    Args:
        replacing: the songs' ids are in the catalog, and what they stood for is left out from now on.

    Raises:
        UsageError: ids that are there, or are not there to be replaced; another fingerprint than the catalog's.
        LuminaError: see `run_fingerprint_job`.
    """
    ids = read_manifest(manifest)["song_id"].to_pylist()
    check_addition(catalog, ids, replacing=replacing)
    settings = _settings(catalog, wanted)
    segment = next_segment(catalog)
    summary = run_fingerprint_job(
        manifest,
        segment,
        model=settings.model or "nano",
        kind=settings.kind or "influence",
        channels=settings.channels or CHANNELS,
        dtype=settings.dtype or "float32",
        device=device,
        workers=workers,
        max_failed_fraction=max_failed_fraction,
        console=console,
    )
    generation = add_segment(catalog, segment, replacing=replacing)
    withdraw_removed(catalog)
    return generation, summary


def _settings(catalog: Path, wanted: Wanted) -> Wanted:
    if not is_living(catalog):
        return wanted
    run = read_run(catalog / SEGMENTS_FOLDER / read_generation(catalog).segments[0])
    specification = run.specification
    settings = Wanted(wanted.model or run.model, specification.kind, specification.channels, specification.dtype)
    for name in ("kind", "channels", "dtype"):
        asked, has = getattr(wanted, name), getattr(settings, name)
        if asked is not None and asked != has:
            raise UsageError(f"{catalog} is fingerprinted with {name} {has}, not {asked}; leave the option out")
    return settings
