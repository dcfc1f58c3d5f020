"""Reports as a CSV file: a row for each query, channel and listed song. Safe to open in a spreadsheet."""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lumina_ray.attribution import Report
from lumina_ray.attribution.replay import Replay, ReplayedSong
from lumina_ray.files import atomic_path
from lumina_ray.report.json import report_sha256
from lumina_ray.report.rows import OWNERS, columns_of, payable_songs, row

_OWNERS = ("iswc", "publisher", "isrc", "master_owner", "splits")
COLUMNS = ["query", "audio_sha256", "report_sha256", "channel", "right", *columns_of(*_OWNERS)]
REPLAY_COLUMNS = ["replay_nats", "replay_rank", "replay_run_sha256"]
# A spreadsheet runs a text that begins with one of these, also after spaces. Full-width ones count as plain ones.
_FORMULA = r"[\s\"]*[=+\-@＝＋－＠]"
# Where the list separator is not a comma, a spreadsheet splits the file elsewhere, also inside quotes.
_PART = re.compile(rf"([;,\t\r\n|]\s*)(?={_FORMULA})")
_FIRST = re.compile(rf"[\t\r]|{_FORMULA}")


def write_csv(
    reports: Iterable[tuple[str, Report] | tuple[str, Report, Replay]],
    path: str | os.PathLike[str],
    *,
    replayed: bool = False,
) -> None:
    """Write a CSV file, whole or not at all; reports are taken one at a time.

    The file is UTF-8 with a byte order mark, by which spreadsheets know it. Texts are quoted. A text that could be a
    formula, or of which a part after one of `, ; | tab` or a line break could be one, gets an apostrophe before it and
    before each such part. Numbers stay as they are, in the shortest form that reads back to the same bits.

    Songs of equal audio share a row: `equal_song_ids` names the others, and facts that differ have " / " between them.

    Args:
        reports: each with the name of its query, such as the path of the audio file, and with a finding by replay.
        path: the file, written anew if it is there.
        replayed: whether reports come with such a finding, for which there are columns then (`REPLAY_COLUMNS`).
    """
    with atomic_path(Path(path)) as partial, partial.open("w", encoding="utf-8-sig", newline="") as file:
        columns = COLUMNS + REPLAY_COLUMNS * replayed
        writer = csv.DictWriter(file, columns, quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        for name, report, *found in reports:
            writer.writerows(_rows(name, report, *found))


def _rows(name: str, report: Report, replay: Replay | None = None) -> Iterator[dict[str, Any]]:
    sha256, payable = report_sha256(report), payable_songs(report)
    for channel, answer in report.near_copies.items():
        of_answer = {
            "query": name,
            "audio_sha256": report.query.audio_sha256,
            "report_sha256": sha256,
            "channel": channel,
            "right": answer.right,
        }
        for candidate in answer.candidates:
            values = of_answer | row(candidate, OWNERS[channel], payable)
            if replay is not None:
                values |= _replayed(replay, replay.of(channel, candidate.song.song_id))
            yield {key: _cell(value) for key, value in values.items()}


def _replayed(replay: Replay, song: ReplayedSong | None) -> dict[str, Any]:
    # What the training did not have has no effect, and no rank.
    numbers = (0.0, None) if song is None else (song.effect_nats, song.rank)
    return dict(zip(REPLAY_COLUMNS, (*numbers, replay.run_sha256), strict=True))


def _cell(value: Any) -> Any:
    return disarmed(value) if isinstance(value, str) else value


def disarmed(text: str) -> str:
    """The text, unchanged if no spreadsheet can take it for a formula, whatever it splits the file at."""
    parts = _PART.sub(r"\1'", text)
    return f"'{parts}" if parts != text or _FIRST.match(text) else text
