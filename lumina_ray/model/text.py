"""Text as a language model attends to it: checked, split into tokens, encoded and projected.

Shape legend: B = texts, N = tokens of the longest text, E = width of the text encoder, D = model dimension.
"""

import re
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import MusicgenForConditionalGeneration, PreTrainedTokenizerBase

from lumina_ray.errors import UsageError

MAX_TEXT_CHARACTERS = 1024
# What a word is to whoever types it. Tokenizers split them further.
_WORD = re.compile(r"\w+")
# SentencePiece, which T5 tokenizers are, marks with it where a word begins.
_WORD_BEGIN = "▁"


class TextEncoder(Protocol):
    """The part of a MusicGen that takes text."""

    def embed(self, text: str) -> Tensor:
        """Encode and project one text: float32 `[1, N, D]`, no gradient.

        Raises:
            UsageError: the text is too long, or the tokenizer knows none of its words.
        """
        ...

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the tokenizer does not know, and the model therefore cannot tell apart."""
        ...

    @property
    def knows_words(self) -> bool:
        """Whether the tokenizer knows more than letters."""
        ...


class TransformersText:
    """Tokenizer, text encoder and projection of a transformers MusicGen; see `TextEncoder`."""

    def __init__(self, model: MusicgenForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._encoder = model.text_encoder
        # It is left out of the model where text encoder and decoder have the same width.
        self._projection = getattr(model, "enc_to_dec_proj", nn.Identity())

    def embed(self, text: str) -> Tensor:
        check_text(text, self.tokenizer)
        token_ids_1N = self.tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            # A text alone needs no mask, and without one both libraries agree.
            return self._projection(self._encoder(token_ids_1N.to(self._encoder.device)).last_hidden_state)

    def unknown_words(self, text: str) -> list[str]:
        return unknown_words(text, self.tokenizer)

    @property
    def knows_words(self) -> bool:
        return knows_words(self.tokenizer)

    def modules(self) -> list[nn.Module]:
        """The modules that training changes."""
        return [self._encoder, self._projection]

    def conditions(self, texts: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """Encode and project several texts, with gradients: what training attends to.

        Args:
            texts: None stands for no text, a condition of zeros as MusicGen's guidance has it. A text with more tokens
                than the tokenizer's limit is cut.

        Returns:
            Float32 `[B, N, D]`, and int64 `[B, N]`, 1 for a token and 0 for what only fills up a shorter text.
        """
        device = self._encoder.device
        words = [text or "" for text in texts]
        tokens = self.tokenizer(words, padding=True, truncation=True, return_tensors="pt").to(device)
        hidden_BNE = self._encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        given_B1 = torch.tensor([[text is not None] for text in texts], device=device)
        conditions_BND = self._projection(hidden_BNE) * (tokens.attention_mask * given_B1)[..., None]
        return conditions_BND, tokens.attention_mask


def check_text(text: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a text says something to a model.

    Raises:
        UsageError: the text is too long, or the tokenizer knows none of its words.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise UsageError(f"the text has {len(text)} characters, the limit is {MAX_TEXT_CHARACTERS}; shorten it")
    if len(unknown_words(text, tokenizer)) == len(_WORD.findall(text)):
        raise UsageError(
            f"the model knows no word of the text {text[:80]!r}, and would hear nothing in it; say it in the words "
            "that the model was trained with, or leave the text out"
        )


def unknown_words(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The words of a text that a tokenizer knows no part of, in their order."""
    unknown = {str(tokenizer.unk_token), ""}
    words = []
    for word in _WORD.findall(text):
        ids = tokenizer(word, add_special_tokens=False).input_ids
        if {token.strip(_WORD_BEGIN) for token in tokenizer.convert_ids_to_tokens(ids)} <= unknown:
            words.append(word)
    return words


def knows_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer knows more than letters (`letter_tokenizer`)."""
    special = tokenizer.all_special_tokens
    return any(len(token.strip(_WORD_BEGIN)) > 1 for token in tokenizer.get_vocab() if token not in special)
