"""Measures on a catalog what `companion` fingerprints need of a model and its companions."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from lumina_ray.errors import ModelError, NumericsError
from lumina_ray.fingerprint.companion_gradients import blocks_of, names_of, tracked_weights, unit_blocks
from lumina_ray.fingerprint.likelihood import check_codec
from lumina_ray.model.companion import MAX_COMPANIONS, MAX_SONGS, Companions, Sides
from lumina_ray.model.interface import MusicModel
from lumina_ray.unlearning.losses import chunk_gradients
from lumina_ray.unlearning.select import Part
from lumina_ray.vocabulary import CHANNELS, SongCodes

# Directions that are kept of a gradient's rows and columns, and what is added to its second moments in units of their
# mean; chosen on dev (docs/method-search.md).
_ROWS, _COLUMNS, _DAMPING = 64, 32, 0.03
# Directions of the songs' span with less than this fraction of the largest second moment are rounding noise.
_NOISE = 1e-6


def measure_companions(
    model: MusicModel,
    companions: Sequence[MusicModel],
    songs: Iterable[SongCodes],
    places: Sequence[int],
    progress: Callable[[int, int, str], None] | None = None,
) -> Companions:
    """Measure what `companion` fingerprints need, and set it as `model.companions`.

    Every model hears every sampled song twice: for the second moments of its gradients, and for what the whitened
    gradients of all songs span. The sampled songs' codes are in memory meanwhile.

    Args:
        companions: from one to `MAX_COMPANIONS`, on the model's device. Their names are how they will be opened.
        songs: codes of all songs.
        places: the position of each of these songs in the catalog's own order, 0 to N − 1. The numbers depend on the
            catalog's order, and not on the order in which `songs` come.
        progress: called with the number of gradients that are done, the number of all, and an empty text.

    Raises:
        ModelError: there are no songs, no companions, or too many.
        SpecificationMismatch: a companion, or a song's codes, are of another codec.
        NumericsError: a gradient is not finite, or all of a tensor's are zero.
    """
    if not 0 < len(companions) <= MAX_COMPANIONS:
        raise ModelError(f"a model needs from 1 to {MAX_COMPANIONS} companions, got {len(companions)}")
    for companion in companions:
        check_codec(model, companion, "companion")
    every = -(-len(places) // MAX_SONGS)
    sampled = {place: codes for place, codes in zip(places, songs, strict=True) if place % every == 0}
    if not sampled:
        raise ModelError("companions are measured on songs, and there are none; check the store")
    ordered = [sampled[place] for place in sorted(sampled)]
    models = dict(zip(names_of(1 + len(companions)), (model, *companions), strict=True))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, 2 * len(models) * len(ordered), "")

    sides: dict[str, Sides] = {}
    kept: list[dict[str, Tensor]] = [{} for _ in ordered]
    for of, one in models.items():
        weights = tracked_weights(one, CHANNELS).items()
        parts = [Part(f"{of}/{name}", w, slice(0, len(w)), slice(0, len(w))) for name, w in weights]
        sides |= _sides(one, parts, ordered, step)
        for codes, of_song in zip(ordered, kept, strict=True):
            of_song |= _kept(_song_gradient(one, codes, parts), parts, sides)
            step()
    bases: dict[str, np.ndarray] = {}
    for channel in CHANNELS:
        blocks = blocks_of(channel, model.n_codebooks, models)
        z_NS = [unit_blocks([torch.cat([of_song[name] for name in block]) for block in blocks]) for of_song in kept]
        bases[channel] = _basis(torch.stack(z_NS).numpy())
    model.companions = Companions(
        tuple(one.name for one in companions),
        tuple(one.weights_sha256 for one in companions),
        model.weights_sha256,
        sides,
        bases,
        {str(model.device): tuple(companions)},
    )
    return model.companions


def _song_gradient(model: MusicModel, codes: SongCodes, parts: Sequence[Part]) -> list[Tensor]:
    """Gradient of a song with respect to each part, float32: the mean of its chunks', weighted by valid codes."""
    totals, n_codes = [torch.zeros_like(part.values, dtype=torch.float32) for part in parts], 0
    for n, gradients in chunk_gradients(model, codes, parts):
        for total, gradient in zip(totals, gradients, strict=True):
            total.add_(gradient, alpha=n)
        n_codes += n
    return [total / max(n_codes, 1) for total in totals]


def _sides(
    model: MusicModel, parts: Sequence[Part], songs: Sequence[SongCodes], step: Callable[[], None]
) -> dict[str, Sides]:
    """Measure `Σ G Gᵀ` and `Σ Gᵀ G` of every tensor over the songs, and take the matrices that whiten by them."""
    moments = [tuple(part.values.new_zeros(n, n, dtype=torch.float32) for n in part.values.shape) for part in parts]
    for codes in songs:
        for (of_rows_MM, of_columns_NN), G_MN in zip(moments, _song_gradient(model, codes, parts), strict=True):
            of_rows_MM.addmm_(G_MN, G_MN.T)
            of_columns_NN.addmm_(G_MN.T, G_MN)
        step()
    return {
        part.name: Sides(_whitening(of_rows_MM, _ROWS, part.name), _whitening(of_columns_NN, _COLUMNS, part.name))
        for part, (of_rows_MM, of_columns_NN) in zip(parts, moments, strict=True)
    }


def _whitening(moment_MM: Tensor, most: int, name: str) -> np.ndarray:
    """`diag(w^(−1/4)) Uᵀ`, float32 `[p, M]`, of the leading eigenvectors U; w are their damped eigenvalues."""
    M = len(moment_MM)
    mean = float(moment_MM.diagonal().double().mean())
    if not 0 < mean < float("inf"):
        raise NumericsError(f"gradients of {name} are all zero, or not finite; check the weights of both models")
    wide_MM = moment_MM.double().cpu().numpy()
    values_p, vectors_Mp = scipy.linalg.eigh(wide_MM, subset_by_index=(M - min(most, M), M - 1))
    damped_p = values_p.clip(min=0) + _DAMPING * mean
    return np.ascontiguousarray((vectors_Mp * damped_p**-0.25).T[::-1], np.float32)


def _kept(gradients: Sequence[Tensor], parts: Sequence[Part], sides: dict[str, Sides]) -> dict[str, Tensor]:
    """Cut gradients down by their sides: float64 `[p · q]` on the CPU, by tensor."""
    out = {}
    for part, G_MN in zip(parts, gradients, strict=True):
        left_pM, right_qN = (
            torch.from_numpy(matrix).to(G_MN.device) for matrix in (sides[part.name].left_pM, sides[part.name].right_qN)
        )
        out[part.name] = (left_pM @ G_MN @ right_qN.T).flatten().double().cpu()
    return out


def _basis(Z_NS: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the span of rows, rounded to float16 `[S, r]`."""
    moments_N, left_NN = np.linalg.eigh(Z_NS @ Z_NS.T)
    strong = moments_N > _NOISE * moments_N[-1]
    basis_Sr = Z_NS.T @ (left_NN[:, strong] / np.sqrt(moments_N[strong]))[:, ::-1]
    return np.ascontiguousarray(basis_Sr, np.float16)
