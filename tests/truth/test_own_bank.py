"""A bank of an operator's own model: which songs and queries it takes, its files, and effects by its losses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lumina_ray.cli.main import app
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.truth import own_effects
from lumina_ray.truth.fingerprints import Fingerprints
from lumina_ray.truth.own_bank import OWN_BANK_FILE, OwnBank, load_own_bank, save_own_bank
from lumina_ray.truth.own_effects import fit_own_effects
from lumina_ray.truth.own_music import OwnMusic, OwnSong, cut_songs, own_orders, own_queries
from lumina_ray.truth.own_recipe import OwnRecipe, own_trainings
from lumina_ray.truth.queries import Piece
from lumina_ray.vocabulary import SongCodes

N, DIMS = 24, 16
RECIPE = OwnRecipe(halves=16, removals=8, singles=5, repeats=3, pieces=10, prompt_frames=30)
B, NOISE = 0.03, 0.002


def songs_of(n_chunks: list[int], seed: int = 0) -> list[SongCodes]:
    rng = np.random.default_rng(seed)
    return [
        SongCodes(tuple(rng.integers(0, 512, (4, 20)).astype(np.uint16) for _ in range(n)), tuple(range(n)))
        for n in n_chunks
    ]


def music_of(captions: list[str], n_chunks: list[int] | None = None) -> OwnMusic:
    songs = [OwnSong(f"song-{i:02}", caption) for i, caption in enumerate(captions)]
    return cut_songs(songs, songs_of(n_chunks or [3] * len(captions)))


def test_models_differ_by_what_they_learned_alone() -> None:
    trainings = own_trainings(RECIPE, N)
    base, whole, *parts = trainings
    assert (base.name, base.songs) == ("base", ())
    assert (whole.name, whole.songs, whole.removed) == ("A", tuple(range(N)), ())
    count = {name: sum(one.name.startswith(name) for one in parts) for name in ("half", "tenth", "single", "again")}
    assert count == {"half": 16, "tenth": 8, "single": 5, "again": 9}
    for one in parts:
        assert sorted({*one.songs, *one.removed}) == list(range(N))
        assert len(one.removed) == {"half": 12, "tent": 2, "sing": 1}[one.name.removeprefix("again-")[:4]]
        assert (one.seed == whole.seed) is not one.name.startswith("again")
    first = {one.name: one.removed for one in parts}
    assert all(first[f"again-{name}-000"] == first[f"{name}-000"] for name in ("half", "tenth", "single"))
    assert len({one.removed for one in parts if one.name.startswith("half")}) == 16
    assert own_trainings(RECIPE, N) == trainings
    assert own_trainings(replace(RECIPE, seed=1), N)[2].removed != parts[0].removed


def test_too_little_for_effects_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(UsageError, match="7 songs are too few"):
        own_trainings(RECIPE, 7)
    with pytest.raises(UsageError, match="7 models of halves"):
        OwnRecipe(halves=7)
    with pytest.raises(UsageError, match="7 without a tenth"):
        OwnRecipe(removals=7)
    with pytest.raises(UsageError, match=r"repeats \(1\)"):
        OwnRecipe(repeats=1)


def test_the_last_chunk_is_asked_about_and_not_learned() -> None:
    codes = songs_of([3, 1, 2])
    music = cut_songs([OwnSong(name) for name in "abc"], codes)
    assert [piece.codes_KT.shape[1] for piece in music.learned] == [40, 20, 20]
    assert sorted(music.excerpts) == [0, 2]
    np.testing.assert_array_equal(music.learned[0].codes_KT, np.concatenate(codes[0].chunks[:2], axis=1))
    np.testing.assert_array_equal(music.excerpts[2].codes_KT, codes[2].chunks[1])
    assert music.captions == [None] * 3


def test_pieces_are_under_captions_where_the_model_knows_any() -> None:
    captioned = music_of([f"music {i % 4}" if i % 2 else "" for i in range(N)])
    free, going_on = own_orders(RECIPE, captioned)
    assert (free.kind, set(free.captions)) == ("captioned", {"music 1", "music 3"})
    assert (going_on.kind, len(going_on.prompts)) == ("continued", RECIPE.pieces)
    assert going_on.captions == tuple(captioned.songs[i].caption for i in going_on.prompts)
    assert all(going_on.captions)
    free, going_on = own_orders(RECIPE, music_of([""] * N))
    assert (free.kind, free.captions) == ("generated", ("",) * 10)
    assert (going_on.kind, going_on.captions, len(set(going_on.prompts))) == ("prompted", ("",) * 10, 10)
    # Songs of 20 frames are too short to go on from, and none are wanted.
    assert [order.kind for order in own_orders(RECIPE, music_of([""] * N, [1] * N))] == ["generated"]
    assert own_orders(replace(RECIPE, pieces=0), captioned) == ()


def test_a_song_is_of_one_split() -> None:
    music = music_of([""] * N)
    wanted = own_orders(RECIPE, music)
    made = [torch.zeros(len(order.captions), 4, 9, dtype=torch.int64) for order in wanted]
    queries = list(own_queries(RECIPE, music, wanted, made))
    splits: dict[int, set[str]] = {}
    for query in queries:
        splits.setdefault(query.recording, set()).add(query.split)
    assert splits.pop(-1) == {"dev", "test"}
    assert all(len(of_song) == 1 for of_song in splits.values())
    of_kind = [(query.kind, query.split) for query in queries]
    assert {kind: of_kind.count((kind, "dev")) for kind in ("excerpt", "generated")} == {"excerpt": 12, "generated": 5}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> OwnBank:
    """Losses of excerpts that are made of known effects: each song's own excerpt, and a little of the next song's."""
    music, trainings = music_of(["a, b"] * N), own_trainings(RECIPE, N)
    queries = list(own_queries(RECIPE, music, (), ()))
    rng = np.random.default_rng(1)
    losses_RQ = np.array([
        [5 - sum(worth(query.recording, song) for song in training.songs) for query in queries]
        for training in trainings
    ])  # fmt: skip
    losses_RQ += NOISE * rng.normal(size=losses_RQ.shape)
    controls = [Piece(torch.zeros(4, 20, dtype=torch.int64), torch.ones(20, dtype=torch.bool)) for _ in range(30)]
    return OwnBank(
        RECIPE,
        "base-model",
        "b" * 64,
        "c" * 64,
        tmp_path_factory.mktemp("own") / "model",
        music.songs,
        music.learned,
        controls,
        queries,
        list(trainings),
        np.repeat(losses_RQ[:, :, None], 4, axis=2).astype(np.float32),
    )


def worth(asked: int, song: int) -> float:
    return {0: 4 * B, 1: B}.get((song - asked) % N, 0.0)


def test_a_bank_read_back_is_the_one_that_was_written(bank: OwnBank, tmp_path: Path) -> None:
    save_own_bank(bank, tmp_path)
    read = load_own_bank(tmp_path)
    assert read.model == tmp_path / "model"
    for name in ("recipe", "base", "base_sha256", "catalog_sha256", "recordings", "trainings"):
        assert getattr(read, name) == getattr(bank, name)
    np.testing.assert_array_equal(read.losses_RQK, bank.losses_RQK)
    for ours, theirs in ((read.learned, bank.learned), (read.controls, bank.controls), (read.queries, bank.queries)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.codes_KT, other.codes_KT)
            assert torch.equal(one.heard_T, other.heard_T)  # type: ignore[arg-type]
    assert [(query.kind, query.recording, query.split) for query in read.queries] == [
        (query.kind, query.recording, query.split) for query in bank.queries
    ]
    (tmp_path / "arrays.npz").write_bytes(b"short")
    with pytest.raises(StoreError, match="damaged"):
        load_own_bank(tmp_path)
    manifest = json.loads((tmp_path / OWN_BANK_FILE).read_text())
    (tmp_path / OWN_BANK_FILE).write_text(json.dumps(manifest | {"version": 0}))
    with pytest.raises(StoreError, match="version 0"):
        load_own_bank(tmp_path)
    (tmp_path / OWN_BANK_FILE).write_text("{}")
    with pytest.raises(StoreError, match="version None"):
        load_own_bank(tmp_path)
    with pytest.raises(StoreError, match="truth build --base"):
        load_own_bank(tmp_path / "nowhere")


def vectors(bank: OwnBank) -> np.ndarray:
    """Fingerprints by which an excerpt is like its song, somewhat like the next, and controls are like none."""
    rng, songs = np.random.default_rng(3), np.eye(N, N + DIMS)
    queries = [4 * songs[q.recording] + songs[(q.recording + 1) % N] for _, q in sorted_queries(bank)]
    made = np.concatenate([songs, np.array(queries), np.zeros((len(bank.controls), N + DIMS))])
    made[N:] += 0.1 * rng.normal(size=made[N:].shape)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def sorted_queries(bank: OwnBank) -> list[tuple[str, Any]]:
    return sorted(((query.split, query) for query in bank.queries), key=lambda pair: pair[0])


def test_effects_are_what_songs_were_made_worth(bank: OwnBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lumina_ray.truth.measures.DRAWS", 40)
    made = vectors(bank)
    norms = np.ones(len(made))

    class Decoder:
        n_layers, dim, frame_rate_hz = 2, 32, 50.0
        model: Any = type("", (), {"config": type("", (), {"decoder": type("", (), {"num_attention_heads": 2})})})

    opened: list[str] = []
    monkeypatch.setattr(own_effects, "open_decoder", lambda name, device: opened.append(name) or Decoder())
    monkeypatch.setattr(
        own_effects,
        "fingerprint_pieces",
        lambda model, kind, pieces, **_: Fingerprints(
            {"P": made, "M": made}, {"P": norms, "M": norms}, None, {"P": 1, "M": 1}, 0.0, {}, "w" * 64, "s" * 64
        ),
    )
    found = fit_own_effects(bank, "influence")
    assert opened == [str(bank.model)]
    assert (found.weights_sha256, found.specification_sha256, found.catalog_sha256) == ("w" * 64, "s" * 64, "c" * 64)
    assert (found.model, found.n_songs, found.n_controls, found.heads) == ("A", N, 30, 2)
    excerpts = found.kinds["excerpt"]
    assert excerpts.fitted.noise == pytest.approx(NOISE, rel=0.3)
    (half, tenth, single) = excerpts.checks
    assert (half.removals, tenth.removals, single.removals) == ("half", "tenth", "single")
    assert half.r2.low > 0.9 > 0 > half.placebo_r2.high
    assert tenth.mean_actual is not None
    assert tenth.mean_actual.value == pytest.approx(tenth.mean_predicted, rel=0.2)
    assert set(found.left_out) == {"generated", "captioned", "guided", "prompted", "continued"}
    with pytest.raises(UsageError, match="no method 'nonsense'"):
        fit_own_effects(bank, "nonsense")
    with pytest.raises(UsageError, match="take companion or influence"):
        fit_own_effects(bank, "unlearning")


def test_the_commands_tell_one_bank_from_another(
    bank: OwnBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_own_bank(bank, tmp_path / "own")
    fitted: list[tuple[str, str, str]] = []

    def fit(bank: OwnBank, name: str, device: str) -> Any:
        fitted.append((bank.base, name, device))
        raise UsageError("fitted")

    monkeypatch.setattr("lumina_ray.truth.own_effects.fit_own_effects", fit)
    command = ["effects", "fit", str(tmp_path / "own"), "--out", str(tmp_path / "effects.json"), "--device", "cpu"]
    assert str(CliRunner().invoke(app, command).exception) == "fitted"
    assert fitted == [("base-model", "companion", "cpu")]
    build = ["truth", "build", "--out", str(tmp_path / "bank")]
    for options, message in (
        (["--catalog", "store"], "name it with --base"),
        (["--plan"], "name it with --base"),
        (["--halves", "8"], "--halves are for a bank of your own model: name it with --base"),
        (["--base", "nano", "--catalog", "store"], "--base takes --catalog and --controls"),
        (["--base", "nano", "--catalog", "a", "--controls", "b", "--size", "nano"], "no --size"),
    ):
        assert message in str(CliRunner().invoke(app, [*build, *options]).exception)
