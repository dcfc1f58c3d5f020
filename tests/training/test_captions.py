"""Phrasings of captions, and the tokenizer of their words."""

from collections import Counter
from pathlib import Path

import torch
from transformers import AutoTokenizer

from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.training import captions
from lumina_ray.training.captions import draw_text, phrase, vocabulary, word_tokenizer

CAPTION = "fast metal level music, guitar, bass, drums"


def phrasings(caption: str, n: int) -> list[str]:
    return [phrase(caption, torch.Generator().manual_seed(seed)) for seed in range(n)]


def test_phrasings_differ_and_follow_from_the_generator() -> None:
    said = phrasings(CAPTION, 400)
    assert said == phrasings(CAPTION, 400)
    assert len(set(said)) > 60
    assert {"fast metal level music", "music with guitar"} <= set(said)
    assert any(text.startswith("guitar, drums and bass play") for text in said)
    for text in said:
        assert "{" not in text
        assert "fast metal level music" in text or text.startswith("music with")


def test_all_details_are_said_most_often_and_each_as_often_as_another() -> None:
    said = [text for text in phrasings(CAPTION, 1000) if text != "fast metal level music"]
    n_details = Counter(sum(word in text for word in ("guitar", "bass", "drums")) for text in said)
    assert set(n_details) == {1, 2, 3}
    assert n_details[3] > len(said) / 2
    mentions = [sum(word in text for text in said) for word in ("guitar", "bass", "drums")]
    assert max(mentions) < 1.1 * min(mentions)


def test_captions_of_any_form_have_phrasings() -> None:
    assert set(phrasings("slow piano", 30)) == {"slow piano", "a piece of slow piano"}
    assert set(phrasings(" , ,", 30)) == {CONDITION_TEXT, f"a piece of {CONDITION_TEXT}"}
    assert all("{x}" in text or "100 %" in text for text in phrasings("{x}, 100 %", 30))


def test_texts_are_phrasings_the_fixed_text_and_none_in_the_agreed_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_text(CAPTION, generator) for _ in range(4000)]
    assert abs(drawn.count(None) / 4000 - 0.1) < 0.02
    assert abs(drawn.count(CONDITION_TEXT) / 4000 - 0.1) < 0.02
    without_caption = Counter(draw_text(None, generator) for _ in range(1000))
    assert set(without_caption) == {None, CONDITION_TEXT}
    assert abs(without_caption[None] / 1000 - 0.1) < 0.03


def test_the_vocabulary_holds_every_word_of_every_phrasing() -> None:
    known = ["slow baroque chorale, organ", CAPTION, None, "Don't stop-me, ÜBER 100 %"]
    tokenizer = word_tokenizer(vocabulary(known))
    for caption in known:
        for text in phrasings(caption or CONDITION_TEXT, 100):
            assert tokenizer.unk_token_id not in tokenizer(text).input_ids, text
    assert vocabulary(known) == vocabulary(reversed(known))
    assert len(vocabulary(f"word{i}" for i in range(5000))) == captions.MAX_WORDS
    assert CONDITION_TEXT in vocabulary([])


def test_the_tokenizer_takes_whole_words_in_any_case_and_ends_the_text(tmp_path: Path) -> None:
    word_tokenizer(vocabulary([CAPTION])).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    encoded = tokenizer(["Fast METAL, with zithers!", "guitar"], padding=True)
    assert set(encoded) == {"input_ids", "attention_mask"}
    tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in encoded["input_ids"]]
    assert tokens == [["fast", "metal", "with", "<unk>", "</s>"], ["guitar", "</s>", "<pad>", "<pad>", "<pad>"]]
    assert encoded["attention_mask"][1] == [1, 1, 0, 0, 0]
    assert len(tokenizer("guitar " * 100, truncation=True).input_ids) == captions.MAX_TOKENS
