"""Confirms a report by forgetting: are the songs that it lists those that a model loses with the query?

The model forgets the query by a small step (`lumina_ray.unlearning`), and the losses of the listed songs are compared
with those of songs drawn at random from the catalog. The work is bounded: so many chunks of the query and of each song.

Shape legend: N = songs, R = repeats.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from lumina_ray.attribution.confirmation import Confirmation, ConfirmedSong
from lumina_ray.attribution.schema import Report
from lumina_ray.errors import UnlearningError, UsageError
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.interface import AttributableModel
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import rises
from lumina_ray.unlearning.unlearn import Forgetting
from lumina_ray.vocabulary import Channel, SongCodes

RANDOM_SONGS = 100
QUERY_CHUNKS = 6
"""Chunks of a query that are asked about, at most."""
# An even number: each half of the query is forgotten, and so is the other half.
_REPEATS = 4
_SONG_CHUNKS = 2
# Neighbouring frames are not independent: halves are made of blocks of this many.
_BLOCK_FRAMES = 50
_MIN_BLOCKS = 4


def listed_songs(report: Report, most: int | None = None) -> dict[Channel, list[str]]:
    """Ids of the songs that a report lists in each channel, in its order; of many, the first `most`."""
    return {
        name: [one.song.song_id for one in channel.candidates[:most]] for name, channel in report.near_copies.items()
    }


def draw_random_songs(catalog: Sequence[str], listed: Sequence[str], seed: str, n: int = RANDOM_SONGS) -> list[str]:
    """Draw songs that are not listed, the same for equal arguments.

    Args:
        catalog: ids of all songs.
        listed: ids that are left out.
        seed: hexadecimal digits, such as the hash of the query's codes.
    """
    others = sorted(set(catalog) - set(listed))
    rng = np.random.default_rng(int(seed[:16], 16))
    return sorted(np.array(others)[rng.permutation(len(others))[:n]].tolist())


def confirm(
    model: AttributableModel,
    fisher: Fisher,
    query: SongCodes,
    listed: Mapping[Channel, Sequence[str]],
    random_songs: Sequence[str],
    codes: Mapping[str, SongCodes],
    how: Forgetting = Forgetting(),
    go_on: Callable[[], object] = lambda: None,
) -> Confirmation:
    """Forget a query, and rank listed songs by what becomes of their losses among songs drawn at random.

    Args:
        query: its codes; of a long one, chunks at equal distances.
        listed: ids by channel.
        random_songs: ids.
        codes: of all of them.
        go_on: called before each song's loss is computed; what it raises ends the work, and the model is as before.

    Raises:
        UsageError: there are no songs to compare with.
        Others as `lumina_ray.unlearning.unlearn.unlearned`.
    """
    if not random_songs:
        raise UsageError("the catalog has no songs besides those that the report lists: nothing to compare them with")
    ids = list(dict.fromkeys([*(song for songs in listed.values() for song in songs), *random_songs]))
    songs, asked = [thinned(codes[song_id], _SONG_CHUNKS) for song_id in ids], thinned(query, QUERY_CHUNKS)

    def one_by_one() -> Iterator[SongCodes]:
        for song in songs:
            go_on()
            yield song

    before = [code_losses(model, song) for song in one_by_one()]
    found, forgotten = rises(model, asked, one_by_one(), before, fisher, how)
    halves = [rises(model, half, one_by_one(), before, fisher, how)[0] for half in halves_of(asked, how)]
    at = {song_id: n for n, song_id in enumerate(ids)}
    of_random = [at[song_id] for song_id in random_songs]
    rows: list[ConfirmedSong] = []
    means: dict[Channel, float] = {}
    spreads: dict[Channel, float] = {}
    for channel, of_channel in listed.items():
        effects_N = found.of("plain", channel)
        noise_N = half_sample_error(np.stack([half.of("plain", channel) for half in halves])) if halves else None
        random_R = effects_N[of_random]
        means[channel], spreads[channel] = float(random_R.mean()), float(random_R.std())
        compared = effects_N[[*(at[song_id] for song_id in of_channel), *of_random]]
        for place, song_id in enumerate(of_channel, start=1):
            effect = float(effects_N[at[song_id]])
            rows.append(
                ConfirmedSong(
                    channel=channel,
                    song_id=song_id,
                    listed_rank=place,
                    rank=1 + int((compared > effect).sum()),
                    effect_nats=effect,
                    noise_nats=None if noise_N is None else float(noise_N[at[song_id]]),
                    p_value=(1 + int((random_R >= effect).sum())) / (1 + len(random_R)),
                )
            )
    return Confirmation(
        query_codes_sha256=query.sha256,
        weights_sha256=model.weights_sha256,
        fisher_sha256=fisher.sha256,
        settings=asdict(how),
        rise_nats=forgotten.rise_nats,
        repeats=len(halves),
        n_random=len(random_songs),
        random_mean_nats=means,
        random_sd_nats=spreads,
        songs=tuple(rows),
    )


def halves_of(query: SongCodes, how: Forgetting = Forgetting()) -> list[SongCodes]:
    """Random halves of a query, in pairs that make up the whole; none where it has too few frames.

    A half is half of the blocks of a second that hold sound. They follow from the query's codes alone.
    """
    heard = how.masked(query).heard
    blocks = [
        (chunk, begin)
        for chunk, heard_T in enumerate(heard)
        for begin in range(0, len(heard_T), _BLOCK_FRAMES)
        # A codebook's last frames are not predicted: a half must not consist of these.
        if heard_T[begin : begin + _BLOCK_FRAMES].sum() > _BLOCK_FRAMES // 2
    ]
    if len(blocks) < _MIN_BLOCKS:
        return []
    rng = np.random.default_rng(int(query.sha256[:16], 16))
    halves = []
    for _ in range(_REPEATS // 2):
        order = rng.permutation(len(blocks))
        for some in (order[: len(blocks) // 2], order[len(blocks) // 2 :]):
            kept = [np.zeros_like(heard_T) for heard_T in heard]
            for chunk, begin in (blocks[i] for i in some):
                where = slice(begin, begin + _BLOCK_FRAMES)
                kept[chunk][where] = heard[chunk][where]
            halves.append(replace(query, heard=tuple(kept)))
    return halves


def half_sample_error(halves_RN: np.ndarray) -> np.ndarray:
    """Standard error of a mean, float64 `[N]`, from the same mean over pairs of complementary halves.

    The variance of the mean over a half that is drawn without replacement is that of the mean over all independent
    terms: `σ²/(n/2) · (1 − 1/2) = σ²/n` (McCarthy 1969, balanced half-samples).

    Args:
        halves_RN: the mean over each half.
    """
    pairs = halves_RN.reshape(-1, 2, halves_RN.shape[1])
    return np.sqrt((((pairs[:, 0] - pairs[:, 1]) / 2) ** 2).mean(axis=0))


def thinned(codes: SongCodes, n: int) -> SongCodes:
    """Keep at most n chunks of a song, those that hold sound at equal distances.

    Raises:
        UnlearningError: none holds sound.
    """
    heard = [i for i, heard_T in enumerate(codes.heard) if heard_T.any()]
    if not heard:
        raise UnlearningError("nothing is heard in a song or query: nothing can be forgotten or compared")
    kept = [heard[round(i)] for i in np.linspace(0, len(heard) - 1, min(n, len(heard)))]
    return SongCodes(*(tuple(of[i] for i in kept) for of in (codes.chunks, codes.starts_s, codes.heard)))
