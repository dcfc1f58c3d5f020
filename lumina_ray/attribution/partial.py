"""Reports on a part of the catalog, where the rest could not be asked."""

from collections.abc import Sequence

from lumina_ray.attribution.schema import PartNotSearched, Report, Unsearched


def as_partial(report: Report, missing: Sequence[range], n_songs: int) -> Report:
    """Add to a report the songs of the catalog that were not searched for it.

    It has no finding of influence: shares of what is left of a catalog would be read as shares of the catalog.

    Args:
        missing: rows of the catalog.
        n_songs: of the whole catalog.
    """
    warning = PartNotSearched(not_searched=sum(len(rows) for rows in missing), n_songs=n_songs)
    return Report.model_validate(
        report.model_dump()
        | {
            "unsearched": [Unsearched(first_row=rows.start, n_songs=len(rows)) for rows in missing],
            "influence": None,
            "near_copies": {
                name: channel.model_copy(update={"warnings": (warning, *channel.warnings)})
                for name, channel in report.near_copies.items()
            },
        }
    )
