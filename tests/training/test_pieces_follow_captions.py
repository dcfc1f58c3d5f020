"""Pieces that nano makes up under a caption sound like the songs that have the caption's instruments."""

import random
from collections import defaultdict

import numpy as np
import torch

from lumina_ray.audio import cut_chunks
from lumina_ray.demo.catalog import arrangement, perform
from lumina_ray.demo.songs import demo_songs
from lumina_ray.fingerprint.codes import encode_song
from lumina_ray.model import open_model
from lumina_ray.model.interface import MusicModel, SamplingSettings
from lumina_ray.model.sampling import sample
from lumina_ray.truth.measures import mean

N_SONGS, N_FRAMES = 40, 250


def instruments(caption: str) -> set[str]:
    return {part.strip() for part in caption.split(",")[1:]}


def histogram(model: MusicModel, codes_KT: np.ndarray) -> np.ndarray:
    """Square roots of each codebook's frequencies: their product is 1 for equal histograms, and 0 for disjoint ones."""
    counts_KC = np.stack([np.bincount(row, minlength=model.codebook_size) for row in codes_KT])
    return np.sqrt(counts_KC / counts_KC.sum()).ravel()


def pieces(model: MusicModel, captions: list[str]) -> list[np.ndarray]:
    """One piece under each caption, int64 `[K, T]`; texts of one length are sampled together."""
    conditions = {caption: model.embed(caption) for caption in captions}
    of_length: dict[int, list[str]] = defaultdict(list)
    for caption, condition_1ND in conditions.items():
        of_length[condition_1ND.shape[1]].append(caption)
    made: dict[str, np.ndarray] = {}
    for together in of_length.values():
        conditions_BND = torch.cat([conditions[caption] for caption in together])
        settings, seeds = SamplingSettings(model.sampling.top_k, guidance=3.0), range(len(together))
        made |= zip(together, sample(model, N_FRAMES, seeds, settings, conditions_BND).numpy(), strict=True)
    return [made[caption] for caption in captions]


def test_pieces_are_nearer_to_songs_with_their_captions_instruments() -> None:
    model = open_model("nano", "cpu")
    catalog = [song for song in demo_songs() if song.part == "catalog"]
    performed = [perform(song, arrangement(song, 0)) for song in random.Random(0).sample(catalog, N_SONGS)]
    songs = [
        histogram(model, np.concatenate(encode_song(model, cut_chunks(one.samples)).chunks, axis=1))
        for one in performed
    ]
    captions = sorted({one.caption for one in performed})
    alike_PS = np.stack([histogram(model, piece_KT) for piece_KT in pieces(model, captions)]) @ np.array(songs).T
    own, others = [], []
    for i, caption in enumerate(captions):
        shared = np.array([len(instruments(one.caption) & instruments(caption)) for one in performed])
        all_of_them = shared == len(instruments(caption))
        nearer_P = alike_PS[:, all_of_them].mean(axis=1) - alike_PS[:, shared == 0].mean(axis=1)
        own.append(nearer_P[i])
        # Some songs are nearer to whatever is made up. Pieces under other captions are the placebo.
        others.append(np.delete(nearer_P, i).mean())
    followed = mean(np.array(own) - np.array(others))
    print(f"{len(captions)} captions: nearer by {mean(np.array(own))}, more than pieces under others by {followed}")
    assert followed.low > 0
