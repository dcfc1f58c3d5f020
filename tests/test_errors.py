"""One tree of errors, drawn in the module's docstring; a code for machines in each, and exit codes of the CLI."""

import pickle

import pytest

from lumina_ray import errors
from lumina_ray.cli.exits import EXIT_CODES, exit_code
from lumina_ray.client import EndpointError
from lumina_ray.errors import AudioError, LuminaError, StorageError


def all_errors(root: type[LuminaError] = LuminaError) -> list[type[LuminaError]]:
    return [root, *(found for kind in root.__subclasses__() for found in all_errors(kind))]


# Of the library alone: the endpoint has one of its own.
PUBLIC = [kind for kind in all_errors() if kind.__module__.startswith("lumina_ray.")]


def test_the_drawn_tree_is_the_real_one() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        name = line.strip(" │├└─").split(" ")[0]
        if hasattr(errors, name) or name == "EndpointError":
            depth = (len(line) - len(line.lstrip(" │├└─"))) // 4 - 1
            above[depth:] = [name]
            drawn[name] = above[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in PUBLIC if kind.__base__}


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in PUBLIC if kind not in (AudioError, EndpointError)]
    assert len(set(codes)) == len(codes)
    assert AudioError("audio.silent", "a.wav: silent").code == "audio.silent"
    with pytest.raises(ValueError, match=r"audio\.quiet"):
        AudioError("audio.quiet", "a.wav: quiet")


def test_errors_survive_the_way_between_processes() -> None:
    for error in (AudioError("audio.silent", "a.wav: silent"), StorageError("s3://x: no answer")):
        back = pickle.loads(pickle.dumps(error))
        assert (type(back), back.code, str(back)) == (type(error), error.code, str(error))


def test_exit_codes_are_the_published_ones() -> None:
    """Frozen: scripts rely on them."""
    found = {kind.__name__: exit_code(kind("x")) for kind in PUBLIC if kind not in (AudioError, EndpointError)}
    assert found == {
        "LuminaError": 1,
        "UsageError": 2,
        "ManifestError": 2,
        "ModelError": 2,
        "MidiError": 2,
        "StoreError": 2,
        "StorageError": 1,
        "StorageRefused": 2,
        "StoreBusy": 1,
        "SpecificationMismatch": 2,
        "UnlearningError": 2,
        "ReportMismatch": 2,
        "StatementError": 2,
        "SignatureError": 7,
        "NumericsError": 1,
        "TooManyFailures": 3,
        "ClusterError": 4,
        "Interrupted": 130,
        "Terminated": 143,
    }
    assert exit_code(AudioError("audio.silent", "x")) == 2
    assert [exit_code(EndpointError("http://x", status, "x", "x")) for status in (None, 422, 429, 500, 503)] == [
        1,
        2,
        1,
        1,
        1,
    ]
    assert set(EXIT_CODES) <= set(PUBLIC)
