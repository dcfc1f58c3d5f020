"""The listed songs of a report as a pandas frame."""

import pandas as pd

from lumina_ray.attribution import Report
from lumina_ray.report.rows import OWNERS, channel_of, columns_of, row

_MAY_BE_MISSING = ("share_low", "share_high", "membership_p")


def to_frame(report: Report, channel: str) -> pd.DataFrame:
    """A row for each listed song of a channel, by rank.

    Columns: rank (int), song_id, equal_song_ids (of the same audio, " / " between them), title, creator; the owners of
    the channel's right (P: iswc, publisher, splits; M: isrc, master_owner, splits); share with share_low and
    share_high, its 95 % interval; similarity; p_value, family_wise_p and q_value; qualified (bool); membership_p.
    Texts may be None and numbers NaN.

    Raises:
        UsageError: the report has no such channel.
    """
    candidates, owners = channel_of(report, channel).candidates, OWNERS[channel]  # type: ignore[index]  # checked there
    types = {"rank": "int64", "qualified": "bool", **dict.fromkeys(_MAY_BE_MISSING, "float64")}
    return pd.DataFrame([row(c, owners) for c in candidates], columns=columns_of(*owners)).astype(types)
