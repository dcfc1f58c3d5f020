"""Adding songs to a living catalog: the new songs alone are fingerprinted, as a store of their own."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cluster.fingerprint import DEFAULT_MAX_FAILED_FRACTION, JobSummary, run_fingerprint_job
from cluster.progress import say
from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.errors import UsageError
from lumina_ray.files import check_lasting
from lumina_ray.fingerprint.default import default_kind
from lumina_ray.index.withdrawn import withdraw_removed
from lumina_ray.storage import AnyPath, local
from lumina_ray.store.changes import add_segment, check_addition, next_segment
from lumina_ray.store.equal_audio import equal_audio
from lumina_ray.store.generations import SEGMENTS_FOLDER, Generation, is_living, read_generation
from lumina_ray.store.run import read_run
from lumina_ray.vocabulary import CHANNELS, Channel, Dtype, Kind


@dataclass(frozen=True)
class CatalogSettings:
    """Model and fingerprint of a catalog. None stands for the catalog's own setting, or the default of a new one."""

    model: str | None = None
    kind: Kind | None = None
    channels: tuple[Channel, ...] | None = None
    dtype: Dtype | None = None


def add_songs(
    catalog: AnyPath,
    manifest: AnyPath,
    settings: CatalogSettings = CatalogSettings(),
    *,
    replacing: bool = False,
    device: str = "auto",
    workers: int | None = None,
    max_failed_fraction: float = DEFAULT_MAX_FAILED_FRACTION,
    console: Console | None = None,
) -> tuple[Generation, JobSummary]:
    """Fingerprint the songs of a manifest and make them part of a catalog. A new catalog is begun where there is none.

    After an interruption, the same call goes on. The catalog changes at the very end, in one step.

    Args:
        replacing: the songs' ids are in the catalog; the earlier songs with those ids are left out from now on.

    Returns:
        The new generation, and the summary of the job.

    Raises:
        UsageError: ids that are there, or are not there to be replaced; another fingerprint than the catalog's.
        LuminaError: see `run_fingerprint_job`.
    """
    catalog = local(catalog)
    check_lasting(catalog)
    ids = read_manifest(manifest)["song_id"].to_pylist()
    check_addition(catalog, ids, replacing=replacing)
    settings = _complete(settings, catalog)
    segment = next_segment(catalog)
    console = console or Console(stderr=True)
    model = settings.model or "nano"
    summary = run_fingerprint_job(
        manifest,
        segment,
        model=model,
        kind=settings.kind or default_kind(model),
        channels=settings.channels or CHANNELS,
        dtype=settings.dtype or "float32",
        device=device,
        workers=workers,
        max_failed_fraction=max_failed_fraction,
        console=console,
    )
    generation = add_segment(catalog, segment, replacing=replacing)
    # The job compared the new songs with each other alone.
    if (found := equal_audio(catalog)).recordings and found != summary.equal_audio:
        say(console, f"In the whole catalog, {found.sentence}")
    withdraw_removed(catalog)
    return generation, summary


def _complete(settings: CatalogSettings, catalog: Path) -> CatalogSettings:
    """Fill in the settings of a catalog that is there already.

    Raises:
        UsageError: a setting contradicts the catalog's.
    """
    if not is_living(catalog):
        return settings
    run = read_run(catalog / SEGMENTS_FOLDER / read_generation(catalog).segments[0])
    specification = run.specification
    own = CatalogSettings(settings.model or run.model, specification.kind, specification.channels, specification.dtype)
    for name in ("kind", "channels", "dtype"):
        given, has = getattr(settings, name), getattr(own, name)
        if given is not None and given != has:
            raise UsageError(f"{catalog} is fingerprinted with {name} {has}, not {given}; leave the option out")
    return own
