from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from lumina_ray.model import open_model
from lumina_ray.model.sampling import generate
from lumina_ray.training.captions import vocabulary, word_tokenizer
from lumina_ray.training.export import as_music_model, export, new_musicgen, round_to_stored
from tests.tiny_model import export_tiny_text_model, tiny_music_model
from tests.training.synthetic import melody


def test_exported_model_loads_unchanged(tmp_path: Path) -> None:
    trained = tiny_music_model(n_layers=2)
    round_to_stored(trained.model)
    export(trained.model, tmp_path)

    loaded = open_model(str(tmp_path))

    codes_KT = trained.encode(melody(0, 2.0))
    assert torch.equal(loaded.encode(melody(0, 2.0)), codes_KT)
    ours, theirs = (model.predict(codes_KT[None], [100]).logits_BKTC for model in (trained, loaded))
    assert torch.equal(ours, theirs)
    plain = MusicgenForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    assert plain.dtype == torch.float32
    assert {"weight_g", "original0"} & {name.rsplit(".", 1)[-1] for name in plain.audio_encoder.state_dict()}


def test_language_model_is_stored_in_half_precision_and_codec_is_not(tmp_path: Path) -> None:
    export(tiny_music_model(n_layers=2).model, tmp_path)

    tensors = load_file(tmp_path / "model.safetensors")

    assert {t.dtype for name, t in tensors.items() if name.startswith("decoder.")} == {torch.float16}
    assert {t.dtype for name, t in tensors.items() if name.startswith("audio_encoder.") and t.is_floating_point()} == {
        torch.float32
    }


def test_tokenizer_spells_the_condition_and_ends_it(tmp_path: Path) -> None:
    export(tiny_music_model(n_layers=2).model, tmp_path)

    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)

    ids = tokenizer("music").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁", "m", "u", "s", "i", "c", "</s>"]


def test_a_model_with_captions_opens_and_generates_in_plain_transformers(tmp_path: Path) -> None:
    export_tiny_text_model(tmp_path, ["slow baroque chorale, organ"])
    text = "Slow chorale with organ"

    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    plain = MusicgenForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    torch.manual_seed(3)
    theirs_11N = plain.generate(
        **tokenizer([text], padding=True, return_tensors="pt"), do_sample=True, guidance_scale=2.0, max_new_tokens=54
    )

    ours = generate(open_model(str(tmp_path)), 1.0, 3, text=text, guidance=2.0)
    assert torch.equal(theirs_11N[0, 0], torch.from_numpy(ours))


def test_the_text_encoder_of_captions_is_small() -> None:
    tokenizer = word_tokenizer(vocabulary(f"word{i}" for i in range(150)))
    model = new_musicgen(tokenizer=tokenizer)
    assert model.config.text_encoder.vocab_size == len(tokenizer)
    n_text = sum(p.numel() for p in model.text_encoder.parameters())
    assert n_text < 0.06e6


def test_every_word_is_a_condition_that_a_decoder_can_see() -> None:
    tokenizer = word_tokenizer(vocabulary(["slow organ, flutes"]))
    text = as_music_model(new_musicgen(tokenizer=tokenizer), tokenizer).text
    slow, organ = (text.embed(word)[0, 0] for word in ("slow", "organ"))
    assert 0.7 < slow.std() < 1.4
    assert (slow - organ).std() > 0.7


def test_architecture_of_nano_puts_two_layers_in_each_band() -> None:
    model = new_musicgen()

    assert as_music_model(model).n_layers == 16
    assert [n for n in range(16) if 0.25 <= n / 16 < 0.375] == [4, 5]
    assert [n for n in range(16) if 0.875 <= n / 16 < 1] == [14, 15]
    assert model.audio_encoder.quantizer.num_quantizers == 4
    assert model.config.audio_encoder.frame_rate == 50
    assert sum(p.numel() for p in model.decoder.parameters()) == pytest.approx(4.7e6, rel=0.05)
