"""Opening files that a user names: never is anything waited for."""

import errno
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from lumina_ray.files import open_file, read_file, sha256_of


@pytest.mark.parametrize("read", [open_file, read_file, sha256_of])
def test_only_files_are_opened(tmp_path: Path, read: object) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "socket", Path("/dev/zero")):
            with pytest.raises(OSError, match="a pipe, socket or device, not a file") as raised:
                read(path)  # type: ignore[operator]
            assert (raised.value.errno, raised.value.filename) == (errno.EINVAL, str(path))
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "none", FileNotFoundError)):
        with pytest.raises(error):
            read(path)  # type: ignore[operator]


def test_a_pipe_that_takes_a_files_place_meanwhile_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    status = (tmp_path / "file").stat()
    monkeypatch.setattr(Path, "stat", lambda _: status)
    assert read_file(tmp_path / "pipe") == b""
    assert read_file(tmp_path / "file") == b"x"
