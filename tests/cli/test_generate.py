"""`lumina generate` from texts and prompts, with a tiny model that knows a few words."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.running import run_lumina
from tests.tiny_model import export_tiny_text_model
from tests.training.synthetic import melody


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export_tiny_text_model(folder, ["slow baroque chorale, organ"])
    return folder


def generated(model: Path | str, out: Path, *arguments: str) -> dict:
    done = run_lumina(
        *("generate", "--model", str(model), "--out", str(out), "--seconds", "1", "--device", "cpu", "--json"),
        *arguments,
    )
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout) | {"stderr": done.stderr, "samples": soundfile.read(out)[0]}


def test_texts_and_guidance_make_other_music(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.wav"
    plain, again = generated(model, out), generated(model, out, "--text", "music")
    slow = generated(model, out, "--text", "Slow organ")
    guided = generated(model, out, "--text", "Slow organ", "--guidance", "7.5")
    assert np.array_equal(plain["samples"], again["samples"]), "the fixed text is the default"
    assert not np.array_equal(plain["samples"], slow["samples"])
    assert not np.array_equal(slow["samples"], guided["samples"])
    assert (plain["duration_s"], plain["prompt_s"]) == (1.02, 0)


def test_words_that_the_model_does_not_know_are_named(model: Path, tmp_path: Path) -> None:
    some = generated(model, tmp_path / "a.flac", "--text", "slow zither, kazoo")
    assert "does not know these words of the text: zither, kazoo" in some["stderr"]
    assert not generated(model, tmp_path / "a.flac", "--text", "slow organ")["stderr"]
    done = run_lumina("generate", "--model", str(model), "--out", str(tmp_path / "b.wav"), "--text", "kazoo")
    assert done.exit_code == 2
    assert "the model knows no word of the text 'kazoo'" in done.stderr
    assert not (tmp_path / "b.wav").exists()


def test_a_file_is_continued_from_its_end(model: Path, tmp_path: Path) -> None:
    song = 0.2 * melody(0, 13.0)
    soundfile.write(tmp_path / "song.wav", song, 32_000)
    soundfile.write(tmp_path / "end.wav", song[-320_000:], 32_000)
    soundfile.write(tmp_path / "short.wav", song[:64_000], 32_000)
    of_song, of_end, of_short = (
        generated(model, tmp_path / "out.wav", "--continue", str(tmp_path / f"{name}.wav"))
        for name in ("song", "end", "short")
    )
    assert np.array_equal(of_song["samples"], of_end["samples"]), "the last 10 s"
    assert (of_song["duration_s"], of_song["prompt_s"]) == (11.02, 10.0)
    assert (of_short["duration_s"], of_short["prompt_s"]) == (3.02, 2.0)


def test_a_prompt_that_cannot_be_used_is_named(model: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(96_000), 32_000)
    for file, message in ((silent, "silent"), (tmp_path / "none.wav", "none.wav")):
        out = ("--out", str(tmp_path / "out.wav"))
        done = run_lumina("generate", "--model", str(model), *out, "--continue", str(file))
        assert done.exit_code != 0
        assert message in done.stderr
        assert str(file) in done.stderr.replace("\n", "")
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize("guidance", ["-1", "21", "nan", "much"])
def test_guidance_is_bounded(model: Path, tmp_path: Path, guidance: str) -> None:
    done = run_lumina("generate", "--model", str(model), "--out", str(tmp_path / "a.wav"), "--guidance", guidance)
    assert done.exit_code == 2
    assert "guidance" in done.stderr


def test_a_model_without_its_tokenizer_is_refused(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(model, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    done = run_lumina("generate", "--model", str(folder), "--out", str(tmp_path / "a.wav"), "--text", "slow organ")
    assert done.exit_code != 0
    assert f"{folder}: has no tokenizer (tokenizer.json or spiece.model)" in " ".join(done.stderr.split())
    assert not (tmp_path / "a.wav").exists()


def test_a_model_that_was_trained_under_one_text_takes_no_other(tiny_model_dir: Path, tmp_path: Path) -> None:
    done = run_lumina(
        "generate", "--model", str(tiny_model_dir), "--out", str(tmp_path / "a.wav"), "--text", "slow organ"
    )
    assert done.exit_code == 2
    assert "was trained under one text alone" in " ".join(done.stderr.split())


def test_nano_knows_the_words_of_its_captions(tmp_path: Path) -> None:
    some = generated("nano", tmp_path / "a.wav", "--text", "slow baroque chorale with organ and theremin")
    assert "theremin" in some["stderr"]
    assert "organ" not in some["stderr"]
