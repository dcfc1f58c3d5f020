"""Damaged files of every format, decoded as a gateway decodes: each is answered, and costs nobody else anything."""

from collections import Counter

import pytest

from lumina_ray.audio import load_audio
from lumina_ray.errors import AudioError
from serve.decoding import Decoders
from serve.schemas import ServeArgs
from tests.serve.app import asking, make_services
from tests.serve.fuzz import FORMATS, mutated_file, real_file
from tests.serve.problems import assert_problem
from tests.serve.processes import memory_bytes

URL = "/v1/attributions"
ARGS = ServeArgs(index="unused", open_access=True, max_audio_s=60.0, max_upload_bytes=2 << 20)
# What such files are refused for; a crash of the decoder is one, of anything else none.
CODES = {
    *("audio.undecodable", "audio.truncated", "audio.empty", "audio.too_long", "audio.too_large", "audio.not_finite"),
    *("audio.silent", "audio.timeout"),
}


def outcomes(numbers: range) -> tuple[Counter[str], int]:
    """How often each answer was given, and the most memory in bytes that a decoder ever had."""
    decoders = Decoders(1, 10.0)
    counted: Counter[str] = Counter()
    peak = 0
    with asking(make_services(args=ARGS, decoders=decoders)) as client:
        for name in FORMATS:
            assert client.post(URL, files={"audio": real_file(name)}).text == "{}"
        for number in numbers:
            answer = client.post(URL, files={"audio": mutated_file(number)})
            code = "ok" if answer.status_code == 200 else answer.json()["code"]
            if code != "ok":
                assert code in CODES | {"audio.crash"}, (number, answer.text)
                assert_problem(answer, 413 if code == "audio.too_large" else 422, code)
            counted[code] += 1
            peak = max(peak, peak_bytes(decoders))
        assert client.post(URL, files={"audio": real_file("flac")}).text == "{}"
    return counted, peak


def peak_bytes(decoders: Decoders) -> int:
    guard = decoders._idle._queue[0]  # type: ignore[attr-defined]
    return memory_bytes(guard.process.pid, "VmHWM")


def test_the_same_number_is_the_same_file() -> None:
    assert mutated_file(7) == mutated_file(7)
    assert len({mutated_file(number) for number in range(50)}) == 50


def test_thousands_of_damaged_files_are_answered() -> None:
    counted, peak = outcomes(range(2000))
    print(f"{dict(counted)}, at most {peak >> 20} MiB")
    assert counted.total() == 2000
    # Of both kinds: what is never decoded tests nothing, what is always decoded neither.
    assert counted["ok"] >= 100
    assert counted["audio.undecodable"] >= 100
    assert peak < 512 << 20


def test_a_codec_that_nobody_knows_is_refused() -> None:
    """Number 223 names one in a WAV header: FFmpeg finds a stream, and nothing to decode it with."""
    with pytest.raises(AudioError, match="of a codec that FFmpeg does not know") as caught:
        load_audio(mutated_file(223), name="upload")
    assert caught.value.code == "audio.undecodable"
