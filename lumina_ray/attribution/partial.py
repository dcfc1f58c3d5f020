"""Reports on a part of the catalog, where the rest could not be asked."""

from collections.abc import Sequence

from lumina_ray.attribution.schema import Report, Unsearched


def as_partial(report: Report, missing: Sequence[range], n_songs: int) -> Report:
    """Say in a report which songs of the catalog it was made without.

    Args:
        missing: rows of the catalog.
        n_songs: of the whole catalog.
    """
    left_out = sum(len(rows) for rows in missing)
    warning = (
        f"{left_out} of the catalog's {n_songs} songs were not searched, as their part of the index did not answer: "
        "nothing is known of them, and shares leave them out."
    )
    return Report.model_validate(
        report.model_dump()
        | {
            "format_version": 2,
            "unsearched": [Unsearched(first_row=rows.start, n_songs=len(rows)) for rows in missing],
            "channels": {
                name: channel.model_copy(update={"warnings": (warning, *channel.warnings)})
                for name, channel in report.channels.items()
            },
        }
    )
