"""Tables of a ground-truth bank that `lumina diagnose` takes: a method's scores for excerpts, and songs' features.

    uv run --no-sync python -m benchmarks.bank_tables --out TABLES --method tokens
    uv run --no-sync lumina diagnose TABLES/scores-tokens.parquet --features TABLES/features.parquet \
        --genres TABLES/queries.csv

Features are computed with librosa on what the codec makes of the bank's codes, as a bank holds no audio: onset
intervals for rhythm, mean chroma and tonnetz for harmony, mean and deviation of MFCC and CQT for timbre. A query's
genre is the word of its recording's caption that names the style, such as metal or baroque.
"""

from pathlib import Path
from typing import Annotated

import librosa
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
import typer

from lumina_ray.methods import METHODS
from lumina_ray.methods.table import METHOD_KEY, SONGS_KEY
from lumina_ray.model import open_model
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.fingerprints import FingerprintKey, Fingerprints, make_fingerprints
from lumina_ray.truth.floors import floor_set
from lumina_ray.truth.queries import QUERY_FRAMES, QueryKind, Split
from lumina_ray.truth.scores import scores
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

_INTERVAL_BINS, _LONGEST_INTERVAL_S = 16, 2.0
_HOP = 512


def song_features(samples: np.ndarray, rate_hz: int) -> dict[str, list[float]]:
    """Compute the features of one song.

    Args:
        samples: float32 mono.
    """
    onsets_s = librosa.onset.onset_detect(y=samples, sr=rate_hz, hop_length=_HOP, units="time")
    counts = np.histogram(np.diff(onsets_s), _INTERVAL_BINS, (0, _LONGEST_INTERVAL_S))[0]
    chroma = librosa.feature.chroma_cqt(y=samples, sr=rate_hz, hop_length=_HOP)
    mfcc = librosa.feature.mfcc(y=samples, sr=rate_hz, n_mfcc=13, hop_length=_HOP)
    cqt = librosa.amplitude_to_db(np.abs(librosa.cqt(samples, sr=rate_hz, hop_length=_HOP, n_bins=84)))
    return {
        "rhythm.onset_intervals": (counts / max(counts.sum(), 1)).tolist(),
        "harmony.chroma": chroma.mean(axis=1).tolist(),
        "harmony.tonnetz": librosa.feature.tonnetz(chroma=chroma, sr=rate_hz).mean(axis=1).tolist(),
        "timbre.mfcc": [*mfcc.mean(axis=1).tolist(), *mfcc.std(axis=1).tolist()],
        "timbre.cqt": [*cqt.mean(axis=1).tolist(), *cqt.std(axis=1).tolist()],
    }


def excerpt_scores(bank: Bank, method: str, split: Split, queries: QueryKind = "excerpt") -> pa.Table:
    """Score the catalog for queries of one kind by a method of one checkpoint, in both channels, as `lumina scores`."""
    asked, one = floor_set(bank, split), METHODS[method]
    assert one.kind is not None
    made: dict[FingerprintKey, Fingerprints] = {("A", "A", one.kind): make_fingerprints(bank, "A", one.kind, asked)}
    places, n = asked.of_kind(queries), asked.n_catalog
    tables = []
    for channel in one.channels:
        scores_QN = scores(bank, one, channel, asked, n, made, weights=("A",))[places]
        tables.append(
            pa.table({
                "query_id": np.repeat([f"{queries} {q:03}" for q in places], n),
                "channel": np.repeat(channel, n * len(places)),
                "song_id": np.tile([song_id(i) for i in asked.songs], len(places)),
                "score": scores_QN.ravel(),
            })
        )  # fmt: skip
    return pa.concat_tables(tables).replace_schema_metadata({METHOD_KEY: method, SONGS_KEY: str(n)})


def genres(bank: Bank, split: Split, queries: QueryKind = "excerpt") -> pa.Table:
    """Make a manifest of the queries of one kind, by the ids of `excerpt_scores`, with the genre of each."""
    asked = floor_set(bank, split)
    places = asked.of_kind(queries)
    # A caption begins with its tempo, and goes on with the style.
    styles = [bank.captions[asked.queries[q].recording].split()[1] for q in places]
    ids = [f"{queries} {q:03}" for q in places]
    # A manifest names a file of each song; a bank holds codes.
    return pa.table({"song_id": ids, "path": [f"{name}.wav" for name in ids], "genre": styles})


def song_id(recording: int) -> str:
    """Name a recording of the bank."""
    return f"recording {recording:03}"


def main(
    out: Annotated[Path, typer.Option(help="Folder for the tables.")],
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    method: Annotated[list[str] | None, typer.Option(help="Method; may be given several times.")] = None,
    split: Annotated[Split, typer.Option(help="dev is for choosing.")] = "dev",
    features: Annotated[bool, typer.Option(help="Compute features, too.")] = True,
) -> None:
    """Write scores of excerpts by some methods, and features of the songs."""
    torch.set_num_threads(1)
    loaded = load_bank(bank)
    out.mkdir(parents=True, exist_ok=True)
    for name in method or ():
        pq.write_table(excerpt_scores(loaded, name, split), out / f"scores-{name}.parquet")
    pa.csv.write_csv(genres(loaded, split), out / "queries.csv")
    if not features:
        return
    model, rows = open_model("nano"), []
    for i in floor_set(loaded, split).songs:
        samples = model.decode(loaded.codes[i][:, :QUERY_FRAMES])
        rows.append({"song_id": song_id(i), **song_features(samples, SAMPLE_RATE_HZ)})
    pq.write_table(pa.Table.from_pylist(rows), out / "features.parquet")


if __name__ == "__main__":
    typer.run(main)
