"""Build a ground-truth bank of an operator's own model and catalog, on Ray: one model per GPU, or per CPU.

Resumable: what is on disk is not redone.

lumina truth build --base MODEL --catalog STORE --controls CONTROL_STORE --out BANK
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from rich.console import Console
from torch import Tensor

from cluster.session import one_line, ray_session, root_cause, stoppable
from cluster.truth import Workplace, begin, run_missing, training_device
from lumina_ray.calibration import MIN_CONTROLS
from lumina_ray.calibration.calibration import check_controls
from lumina_ray.calibration.effects import catalog_sha256
from lumina_ray.calibration.vectors import usable_songs
from lumina_ray.errors import ClusterError, LuminaError, UsageError
from lumina_ray.files import atomic_path
from lumina_ray.model.companion import COMPANION_FILE
from lumina_ray.model.files import absolute_model
from lumina_ray.storage import read_parquet
from lumina_ray.store.run import MANIFEST_FILE
from lumina_ray.store.stream import StreamedStore, codes_of
from lumina_ray.truth.own_bank import MODEL_FOLDER, OWN_VERSION, OwnBank, save_own_bank
from lumina_ray.truth.own_model import ask, known_caption, open_decoder, open_maker, save_model, train_own
from lumina_ray.truth.own_music import OwnMusic, OwnSong, cut_songs, own_orders, own_queries, whole
from lumina_ray.truth.own_recipe import WHOLE, OwnRecipe, own_trainings
from lumina_ray.truth.pieces import Order, make_pieces
from lumina_ray.truth.queries import Piece, Query
from lumina_ray.truth.recipe import Training


def build_own_bank(
    base: str,
    catalog: StreamedStore,
    controls: StreamedStore,
    out: Path,
    recipe: OwnRecipe = OwnRecipe(),
    console: Console | None = None,
) -> OwnBank:
    """Build a bank in `out`, or go on where an earlier run was interrupted.

    Args:
        base: name of the model that is fine-tuned; it made the codes of both stores.
        controls: music that is no part of the catalog.

    Raises:
        ModelError: the base model is not at hand, or cannot be fine-tuned.
        SpecificationMismatch: other weights made a store, or `out` was begun with another model, music or recipe.
        StoreError: damaged, or the same audio in both stores.
        UsageError: too few songs.
        ClusterError: the cluster cannot run it.
    """
    console, place, name = console or Console(stderr=True), Workplace(out.resolve()), absolute_model(base)
    check_controls(catalog, controls)
    opened = open_maker(base, name, catalog.specification.weights_sha256, catalog.path)
    (rows, _), captions = usable_songs(catalog), captions_of(catalog)
    ids = [catalog.song_ids[row] for row in rows]
    songs = [OwnSong(song_id, known_caption(opened, captions.get(song_id))) for song_id in ids]
    base_sha256, music_sha256 = opened.weights_sha256, _music_sha256(catalog, rows)
    del opened
    trainings = own_trainings(recipe, len(songs))
    begin(
        place,
        {"own bank version": OWN_VERSION, "base": base_sha256, "catalog": music_sha256}
        | {"controls": _music_sha256(controls, usable_songs(controls)[0])}
        | {"captions": hashlib.sha256(json.dumps([song.caption for song in songs]).encode()).hexdigest()}
        | asdict(recipe),
    )
    music, of_controls = _read_music(catalog, songs), _read_controls(controls, recipe)
    whole_model, model_file = str(place.out / MODEL_FOLDER), place.out / MODEL_FOLDER / COMPANION_FILE
    of_base, of_whole, *of_parts = trainings
    with ray_session(), stoppable(), causes():
        run, device = partial(run_missing, console=console, gpus=1), training_device()
        shared = ray.put(music)
        run("Model of the whole catalog", _train_whole, [(model_file, (name, recipe, of_whole, shared, device))])
        wanted = own_orders(recipe, music)
        pieces = place.pieces(WHOLE)
        run("Pieces", _make, [(pieces, (whole_model, recipe, wanted, shared, device))])
        queries = list(own_queries(recipe, music, wanted, _read_pieces(pieces, len(wanted))))
        asked = ray.put(queries)
        run("Losses of base model and whole catalog", _ask, [
            (place.losses(training.name), (model, asked, device))
            for training, model in ((of_base, name), (of_whole, whole_model))
        ])  # fmt: skip
        run("Retrained models", _retrain, [
            (place.losses(training.name), (name, recipe, training, shared, asked, device)) for training in of_parts
        ])  # fmt: skip
    bank = OwnBank(
        recipe,
        base,
        base_sha256,
        music_sha256,
        Path(whole_model),
        music.songs,
        music.learned,
        of_controls,
        queries,
        list(trainings),
        np.stack([_read_losses(place.losses(training.name)) for training in trainings]),
    )
    save_own_bank(bank, place.out)
    return bank


def _train_whole(base: str, recipe: OwnRecipe, training: Training, music: OwnMusic, device: str, path: Path) -> None:
    """Train the model of the whole catalog, and keep it."""
    torch.set_num_threads(1)
    model = open_decoder(base, device)
    train_own(model, recipe, training, music.codes, music.captions)
    save_model(model, base, music.learned, path.parent)


def _make(model: str, recipe: OwnRecipe, wanted: tuple[Order, ...], music: OwnMusic, device: str, path: Path) -> None:
    """Sample what is ordered from a model."""
    torch.set_num_threads(1)
    made = make_pieces(recipe, open_decoder(model, device), wanted, music.codes)
    _save(path, {str(i): codes_BKT.numpy().astype(np.uint16) for i, codes_BKT in enumerate(made)})


def _ask(model: str, queries: Sequence[Query], device: str, path: Path) -> None:
    """Ask a finished model about all queries."""
    torch.set_num_threads(1)
    _save(path, {"losses": ask(open_decoder(model, device), queries)})


def _retrain(
    base: str,
    recipe: OwnRecipe,
    training: Training,
    music: OwnMusic,
    queries: Sequence[Query],
    device: str,
    path: Path,
) -> None:
    """Train a model of a part of the catalog, ask it about all queries, and forget it."""
    torch.set_num_threads(1)
    model = open_decoder(base, device)
    train_own(model, recipe, training, music.codes, music.captions)
    _save(path, {"losses": ask(model, queries)})


def _read_music(catalog: StreamedStore, songs: Sequence[OwnSong]) -> OwnMusic:
    codes = codes_of(catalog, [song.song_id for song in songs])
    return cut_songs(songs, [codes[song.song_id] for song in songs])


def _read_controls(controls: StreamedStore, recipe: OwnRecipe) -> list[Piece]:
    rows, _ = usable_songs(controls)
    # A recording that occurs twice is one observation.
    distinct = {controls.songs["codes_sha256"][int(row)].as_py(): controls.song_ids[row] for row in rows}
    if len(distinct) < MIN_CONTROLS:
        raise UsageError(f"{controls.path}: {len(distinct)} distinct controls; a bank needs at least {MIN_CONTROLS}")
    ids = [distinct[sha256] for sha256 in sorted(distinct)][: recipe.controls]
    codes = codes_of(controls, ids)
    return [whole(codes[song_id]) for song_id in ids]


def captions_of(catalog: StreamedStore) -> dict[str, str]:
    """Captions in the manifests that a catalog was made from, by song."""
    found: dict[str, str] = {}
    for segment in catalog.segments:
        path = segment.folder / MANIFEST_FILE
        rows = read_parquet(path) if path.is_file() else None
        if rows is not None and "caption" in rows.column_names:
            found |= dict(zip(rows["song_id"].to_pylist(), rows["caption"].to_pylist(), strict=True))
    return found


def _music_sha256(store: StreamedStore, rows: np.ndarray) -> str:
    return catalog_sha256(store.songs["codes_sha256"].take(rows).to_pylist())


def _read_pieces(path: Path, n: int) -> list[Tensor]:
    with np.load(path) as arrays:
        return [torch.from_numpy(arrays[str(i)].astype(np.int64)) for i in range(n)]


def _read_losses(path: Path) -> np.ndarray:
    with np.load(path) as arrays:
        return arrays["losses"]


def _save(path: Path, arrays: dict[str, Any]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


@contextmanager
def causes() -> Iterator[None]:
    """Raise what stopped a task as one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = root_cause(error)
        if isinstance(cause, LuminaError):
            raise cause from None
        raise ClusterError(
            f"the bank could not be built on the cluster: {one_line(error)}; the same command goes on from there"
        ) from error
