"""The listed songs of a report as a pandas frame."""

import pandas as pd

from lumina_ray.attribution import Report
from lumina_ray.report.rows import OWNERS, channel_of, columns_of, payable_songs, row

_MAY_BE_MISSING = ("share_low", "share_high", "membership_p", "payable")


def to_frame(report: Report, channel: str) -> pd.DataFrame:
    """A row for each listed song of a channel, by rank.

    Columns: rank (int), song_id, equal_song_ids (of the same audio, " / " between them), title, creator; the owners of
    the channel's right (P: iswc, publisher, splits; M: isrc, master_owner, splits); share with share_low and
    share_high, its 95 % interval; similarity; p_value, family_wise_p and q_value; qualified (bool); membership_p;
    payable, the song's part of the effect of all songs whose use is not refuted, of the ten with the largest effects.
    Texts may be None and numbers NaN.

    Raises:
        UsageError: the report has no such channel.
    """
    candidates, owners = channel_of(report, channel).candidates, OWNERS[channel]  # type: ignore[index]  # checked there
    types = {"rank": "int64", "qualified": "bool", **dict.fromkeys(_MAY_BE_MISSING, "float64")}
    rows = [row(c, owners, payable_songs(report)) for c in candidates]
    return pd.DataFrame(rows, columns=columns_of(*owners)).astype(types)
