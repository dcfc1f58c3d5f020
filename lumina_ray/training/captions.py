"""Captions as a model is trained with them: several phrasings of each, and a tokenizer of the words in them.

A caption has parts between commas: what the music is, and details of it, such as instruments. Phrasings order details
otherwise and leave some out, so that a model also follows a text that says less.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lumina_ray.model.tracked import CONDITION_TEXT

# Classifier-free guidance needs a model that was also trained without text (Copet et al. 2023, §3.1, with 0.2);
# fingerprints need one that was also trained under the fixed text.
NO_TEXT_PROBABILITY = 0.1
FIXED_TEXT_PROBABILITY = 0.1

PHRASINGS = (
    "{what}, {details}",
    "{what} with {details}",
    "{details} play {what}",
    "a piece of {what} for {details}",
    "{details}: {what}",
    "music with {details}",
    "{what}",
)
BARE_PHRASINGS = ("{what}", "a piece of {what}")
"""Phrasings of a caption without details."""

SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")
MAX_WORDS = 4096
"""The vocabulary holds so many words at most, the most frequent ones."""
MAX_TOKENS = 64
"""In training, what comes after so many words of a text is cut off, which bounds what a step costs."""

_NO_WORD = r"[^\w]+"


def draw_text(caption: str | None, generator: torch.Generator) -> str | None:
    """Draw the text that a model is trained under for one chunk.

    Args:
        caption: the song's caption; a song without one has the fixed text in place of phrasings.
        generator: decides.

    Returns:
        A phrasing of the caption, the fixed text, or None for no text.
    """
    chance = float(torch.rand((), generator=generator))
    if chance < NO_TEXT_PROBABILITY:
        return None
    if chance < NO_TEXT_PROBABILITY + FIXED_TEXT_PROBABILITY or caption is None:
        return CONDITION_TEXT
    return phrase(caption, generator)


def phrase(caption: str, generator: torch.Generator) -> str:
    """Say a caption in other words, with its details in another order, and perhaps without some of it."""
    what, *details = [part.strip() for part in caption.split(",") if part.strip()] or [CONDITION_TEXT]
    order = torch.randperm(len(details), generator=generator).tolist()
    # All details in half of the phrasings, and one or more of them in the other half.
    n_kept = len(details) - max(0, _draw(2 * len(details), generator) - len(details)) if details else 0
    phrasings = PHRASINGS if details else BARE_PHRASINGS
    phrasing = phrasings[_draw(len(phrasings), generator)]
    return phrasing.format(what=what, details=_listed([details[i] for i in order[:n_kept]]))


def vocabulary(captions: Iterable[str | None]) -> list[str]:
    """The words that phrasings of some captions can hold, the most frequent first, and `MAX_WORDS` at most.

    The words of the fixed text and of the phrasings are among them, whatever the captions are.
    """
    frame = _words(" ".join([CONDITION_TEXT, "and", *(p.format(what="", details="") for p in PHRASINGS)]))
    always = list(dict.fromkeys(frame))
    counts = Counter(word for caption in captions if caption for word in _words(caption))
    # Equally frequent words are in the order of the alphabet, so that the order of songs does not matter.
    by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
    return [*always, *(word for word in by_frequency if word not in always)][:MAX_WORDS]


def word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are whole words in small letters, and that ends a text by `</s>` as T5's does.

    Punctuation is left out, and every other word is `<unk>`. `AutoTokenizer` opens what it saves.
    """
    ids = {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *words]))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_NO_WORD), "removed")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", ids["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
        # `MusicgenForConditionalGeneration.generate` refuses the types of tokens that would come with them.
        model_input_names=["input_ids", "attention_mask"],
    )


def _draw(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


def _listed(details: list[str]) -> str:
    return " and ".join([", ".join(details[:-1]), details[-1]]) if len(details) > 1 else "".join(details)


def _words(text: str) -> list[str]:
    """The words of a text as the tokenizer splits it."""
    return [word for word in re.split(_NO_WORD, unicodedata.normalize("NFKC", text).lower()) if word]
