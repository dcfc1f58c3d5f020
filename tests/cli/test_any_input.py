"""No command ends in a traceback, whatever names, files and manifests it is given: one line, and a known exit code."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.cli.running import Done, run_lumina

COMMANDS = (
    "status {}",
    "failed {}",
    "export {} --out {}",
    "calibrate {} --controls {}",
    "index {} --out {}",
    "plan {}",
    "fingerprint {} --out {}",
    "use {} --controls {} --reference {}",
    "attribute {} --index {}",
    "attribute {} --url {}",
    "attribute {} {} --index {} --out {} --csv {}",
    "scores {} --catalog {} --queries {}",
    "diagnose {}",
    "diagnose {} --features {} --genres {} --out {}",
    "serve --index {} --open",
    "verify {}",
    "verify {} --audio {} --index {}",
    "verify {} --public-key {}",
    "verify {} --reports {}",
    "statement {} --by owner --period 2026",
    "statement {} {} --by song --period 2026 --out {} --index {}",
    "statement {} --by owner --period 2026 --public-key {}",
    "sign {} --key {}",
    "keygen --out {}",
    "keys list --file {}",
    "keys add {} --file {}",
    "keys revoke {} --file {}",
    "catalog scan {} --out {}",
    "catalog log {}",
    "catalog remove {} {}",
    "catalog purge {}",
    "catalog add {} {}",
    "catalog replace {} {}",
)
EXIT_CODES = {0, 1, 2, 3, 4, 7}
MANIFESTS = {
    "quote.csv": b'song_id,path,title\n1,clip.raw,"open\n2,clip.raw,x\n',
    "duration.csv": b"song_id,path,duration_s\n1,clip.raw,inf\n",
    "bytes.csv": b"song_id,path\n1,caf\xe9.wav\n",
    "odd paths.csv": "song_id,path\n1,a:b.m4a\n2,s3://\n3,\u202e\n".encode(),
    "long.csv": b"song_id,path\n1," + b"x" * 5000 + b"\n",
    "good.csv": b"song_id,path\n1,clip.raw\n",
    "junk.parquet": b"PAR1 junk PAR1",
    "empty.csv": b"",
    "report.json": b'{"format_version": 7}',
    "deep.json": b"[" * 100_000,
    "clip.raw": b"RIFF\0\0\0\0WAVEfmt ",
    "a:b.m4a": b"no audio",
    "caf\udce9.wav": b"",
}
# Nobody writes to them: whoever opened one to read would wait for ever.
PIPES = ("pipe", "pipe.csv", "pipe.parquet")
NAMES = [
    *MANIFESTS,
    *PIPES,
    *("", ".", "..", "folder", "folder/x", "clip.raw/x", "-", "--", "~", "[bold]", "{}", "%s", "a\nb.csv", "x.csv"),
    *(
        "s3://",
        "s3://a@b/c",
        "gs://",
        "ftp://x",
        "http://",
        "http://[",
        "http://127.0.0.1:1",
        "/dev/null",
        "/proc/1/mem",
    ),
    *("x" * 5000, "x" * 5000 + ".csv", "x/" * 2500 + "x.parquet", "\udcff.parquet", "\udcff.csv"),
]
HEADER = b"song_id,path,duration_s,splits\n"
CELL = st.sampled_from([b'"', b",", b"\n", b"\r", b"\0", b"path", b"1", b"inf", b"\xff", b"=x"])
NAME = st.sampled_from(NAMES) | st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=[]), max_size=20
)


def no_ray(*_: object) -> None:
    raise RuntimeError("no Ray in this test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with files that are no use; nothing in it starts Ray."""
    folder = tmp_path_factory.mktemp("any input") / "here"
    (folder / "folder").mkdir(parents=True)
    for name, content in MANIFESTS.items():
        (folder / name).write_bytes(content)
    for name in PIPES:
        os.mkfifo(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr("cluster.session.start_local", no_ray)
        # That of other tests may run in this process, with all of its CPUs taken: a good manifest would wait for them.
        patch.setattr("ray.is_initialized", lambda: False)
        yield folder


def run_any(command: str, names: list[str]) -> Done:
    words = command.split()
    arguments = [names.pop(0) if word == "{}" else word for word in words]
    # What looks like an option is for the parser of options, which is not ours.
    given = zip(words, arguments, strict=True)
    return run_lumina(*(f"./{name}" if word == "{}" and name.startswith("-") else name for word, name in given))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from(COMMANDS), names=st.lists(NAME, min_size=5, max_size=5), as_json=st.booleans())
def test_no_name_and_no_file_ends_in_a_traceback(folder: Path, command: str, names: list[str], as_json: bool) -> None:
    done = run_any(command + " --json" * (as_json and not command.startswith("serve")), list(names))
    assert done.exit_code in EXIT_CODES, done.stderr
    assert "Traceback" not in done.stderr
    if done.exit_code and done.stderr.startswith("lumina:"):
        assert done.stderr.count("\n") == 1


# A folder as a model would import torch, which takes seconds.
@pytest.mark.parametrize("command", [*COMMANDS, "statistics {} {}"])
@pytest.mark.parametrize("name", ["x" * 5000, "caf\udce9.wav", "quote.csv", "/dev/null", "clip.raw/x", *PIPES])
def test_every_command_with_the_worst_of_names(folder: Path, command: str, name: str) -> None:
    done = run_any(command, [name] * 5)
    assert done.exit_code in EXIT_CODES - {0}, done.stderr
    assert "Traceback" not in done.stderr


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60) | st.lists(CELL, max_size=30).map(lambda cells: HEADER + b"".join(cells)),
    ending=st.sampled_from(["csv", "parquet"]),
    command=st.sampled_from(
        ["fingerprint {} --out out", "catalog add new {}", "attribute {} --index x --out out --device cpu"]
    ),
)
@example(content=b"song_id,path\n1,x\n", ending="csv", command="fingerprint {} --out out")
def test_no_manifest_ends_in_a_traceback(folder: Path, content: bytes, ending: str, command: str) -> None:
    manifest = folder / f"any.{ending}"
    manifest.write_bytes(content)
    done = run_any(command, [str(manifest)])
    assert done.exit_code in {2, 3, 4}, done.stderr
    # A good one gets as far as Ray, and says so before.
    assert done.stderr.splitlines()[-1].startswith("lumina:")
    assert "Traceback" not in done.stderr


def test_a_fault_of_the_software_is_one_line_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("of the software\nitself")

    monkeypatch.setattr("lumina_ray.store.store_status", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = run_lumina("status", "x")
    (kept,) = tmp_path.iterdir()
    assert done.exit_code == 70
    assert (
        done.stderr
        == f"lumina: this should not happen: KeyError: 'of the software\\nitself'. Please report it with {kept}\n"
    )
    assert "in fail" in kept.read_text()
    assert os.fspath(kept).endswith(".txt")
