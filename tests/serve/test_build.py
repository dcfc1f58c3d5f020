"""What would leave replicas restarting for ever is refused where the application is built, in one line."""

import asyncio
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.audio import ChunkedAudio, cut_chunks
from lumina_ray.errors import (
    LuminaError,
    ModelError,
    SpecificationMismatch,
    StoreError,
    UsageError,
)
from lumina_ray.index import load_snapshot
from lumina_ray.vocabulary import QueryFingerprint
from serve.app import ServeArgs, build, start
from serve.deployments import FINGERPRINTER, GATEWAY, JOBS, SEARCHER
from serve.fingerprinter import Fingerprinter
from serve.local import _check_address
from serve.searcher import Searcher
from tests.serve.conftest import sound


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "index: Field required"),
        ({"index": "x"}, "either keys, a file"),
        ({"index": "x", "keys": "k", "open_access": True}, "and not both"),
        ({"index": "x", "topk": 3}, "topk: Extra inputs"),
        ({"index": "x", "top_k": 0}, "top_k"),
        ({"index": "x", "policy": "v9"}, "'calibrated', 'v8' or 'v7' (got 'v9')"),
        ({"index": "x", "device": "cuda:1"}, "'cpu' or 'cuda' (got 'cuda:1')"),
        ({"index": "x", "max_audio_s": float("inf")}, "max_audio_s"),
        ({"index": "x", "fingerprinters": 0, "max_upload_bytes": -1}, "max_upload_bytes"),
    ],
)
def test_impossible_arguments_are_one_line(values: dict, named: str) -> None:
    with pytest.raises(UsageError) as error:
        ServeArgs(**values)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def one_line_error(kind: type[LuminaError], args: ServeArgs) -> str:
    with pytest.raises(kind) as error:
        build(args)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_index_fails_at_once(tmp_path: Path) -> None:
    assert "lumina index" in one_line_error(StoreError, ServeArgs(index=tmp_path / "missing", open_access=True))


def test_another_model_fails_at_once(index_dir: Path, tiny_model_dir: Path) -> None:
    # The tiny model before it got its codebooks: the same shapes, other weights.
    args = ServeArgs(index=index_dir, model=str(tiny_model_dir), open_access=True)
    assert str(tiny_model_dir) in one_line_error(SpecificationMismatch, args)


def test_a_model_that_is_not_there_fails_at_once(index_dir: Path) -> None:
    assert "not at hand" in one_line_error(
        ModelError, ServeArgs(index=index_dir, model="facebook/musicgen-none", open_access=True)
    )


def test_a_damaged_index_fails_at_once(index_dir: Path, model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "v0001"
    folder.mkdir()
    for file in next(index_dir.iterdir()).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    damaged = bytearray((folder / "P.faiss").read_bytes())
    damaged[-1] ^= 1
    (folder / "P.faiss").write_bytes(damaged)
    assert "P.faiss" in one_line_error(StoreError, ServeArgs(index=tmp_path, model=str(model_dir), open_access=True))


def test_a_port_in_use_is_said_before_ray_starts(serve_args: ServeArgs) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)):
            start(serve_args, port=port)


def test_open_access_stays_on_this_machine(serve_args: ServeArgs) -> None:
    # The last one could be a name of 127.0.0.1, which nothing would be answered to.
    for host in ("0.0.0.0", "::", "this-machine"):
        with pytest.raises(UsageError, match="keys add"):
            start(serve_args, host=host)


def test_other_than_loopback_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    _check_address("127.0.0.1", 0)
    assert not capsys.readouterr().err
    _check_address("0.0.0.0", 0)
    assert "without encryption" in capsys.readouterr().err.replace("\n", " ")


def test_what_ray_leaves_open_is_set() -> None:
    # A gateway refuses by itself what is too much, long before Ray would.
    for deployment, bound in ((GATEWAY, 512), (FINGERPRINTER, 32), (SEARCHER, 32), (JOBS, 32)):
        assert 0 < deployment.max_queued_requests <= bound
        assert deployment.backpressure_config.status_code == 429
        assert deployment.backpressure_config.retry_after_s is not None
        assert deployment._deployment_config.max_constructor_retry_count == 3


def test_what_a_song_does_to_the_model_is_its_own_outcome(model_dir: Path, index_dir: Path) -> None:
    specification = load_snapshot(index_dir).record.specification
    fingerprinter = Fingerprinter(str(model_dir), specification, "cpu", 60.0)
    song = ChunkedAudio("0" * 64, 5.0, tuple(cut_chunks(sound(1))))
    # No samples of ours: something that breaks inside the model.
    text = replace(song, chunks=(replace(song.chunks[0], samples=song.chunks[0].samples.astype("U")),))
    first, broken, last = (fingerprinter._fingerprint(one) for one in (song, text, song))
    assert isinstance(broken, Exception)
    assert not isinstance(broken, LuminaError)
    assert isinstance(first, QueryFingerprint)
    assert isinstance(last, QueryFingerprint)
    np.testing.assert_array_equal(first.channels["P"].vector, last.channels["P"].vector)


def test_health_is_a_real_fingerprint_and_a_real_search(model_dir: Path, index_dir: Path) -> None:
    snapshot = load_snapshot(index_dir)
    fingerprinter = Fingerprinter(str(model_dir), snapshot.record.specification, "cpu", 60.0)
    asyncio.run(fingerprinter.check_health())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprinter, "_busy_since_s", time.monotonic() - 61)
        with pytest.raises(RuntimeError, match="busy with one song"):
            asyncio.run(fingerprinter.check_health())
    # Weights that change under a running replica, as with failing memory.
    fingerprinter._fingerprinter.model.tracked(0, "linear1")[0].data.mul_(-1.0)
    with pytest.raises(RuntimeError, match="no longer gives the numbers"):
        asyncio.run(fingerprinter.check_health())

    searcher = Searcher(str(next(index_dir.glob("v*"))), snapshot.specification_sha256)

    async def start_and_check() -> None:
        await searcher.reconfigure({"index_version": snapshot.version})
        await searcher.check_health()

    asyncio.run(start_and_check())
