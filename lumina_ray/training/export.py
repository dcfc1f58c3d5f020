"""A whole MusicGen in the transformers format: text encoder, codec, decoder, tokenizer, settings."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    EncodecConfig,
    EncodecModel,
    GenerationConfig,
    MusicgenConfig,
    MusicgenForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
)
from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.codec import codec_config

# Nano is conditioned on one fixed text: its vocabulary needs no more than the tokens that every T5 has, and letters.
_SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def new_musicgen(
    codec: EncodecModel | EncodecConfig | None = None,
    *,
    n_layers: int = 16,
    dim: int = 128,
    heads: int = 4,
    seed: int = 0,
) -> MusicgenForConditionalGeneration:
    """A MusicGen with an untrained decoder and text encoder around a codec: the architecture of nano.

    Pre-norm decoder without biases, delay pattern over 4 codebooks, cross-attention on a T5 encoder; 16 layers put two
    into each channel's band.

    Args:
        codec: a trained codec, or the configuration of an untrained one; default nano's.
    """
    torch.manual_seed(seed)
    codec = codec or codec_config()
    audio = codec.config if isinstance(codec, EncodecModel) else codec
    text = T5Config(
        vocab_size=len(_SPECIAL_TOKENS) + len(_LETTERS) + 1, d_model=64, d_kv=32, d_ff=128, num_layers=1, num_heads=2,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    decoder = MusicgenDecoderConfig(
        vocab_size=audio.codebook_size, num_hidden_layers=n_layers, hidden_size=dim, ffn_dim=4 * dim,
        num_attention_heads=heads, num_codebooks=4, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        layerdrop=0.0, pad_token_id=audio.codebook_size, bos_token_id=audio.codebook_size, audio_channels=1,
    )  # fmt: skip
    model = MusicgenForConditionalGeneration(
        MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=audio.to_dict(), decoder=decoder.to_dict())
    )
    if isinstance(codec, EncodecModel):
        model.audio_encoder.load_state_dict(codec.state_dict())
    model.generation_config = GenerationConfig(
        do_sample=True,
        top_k=250,
        guidance_scale=3.0,
        max_length=1504,
        bos_token_id=audio.codebook_size,
        pad_token_id=audio.codebook_size,
        decoder_start_token_id=audio.codebook_size,
    )
    return model.eval()


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Letter by letter, ended by `</s>` as T5 does."""
    vocabulary = {token: i for i, token in enumerate((*_SPECIAL_TOKENS, "▁", *_LETTERS))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def as_music_model(model: MusicgenForConditionalGeneration) -> TransformersMusicGen:
    """Put an unsaved model behind the common interface; its weights have no identity yet."""
    token_ids = new_tokenizer()(CONDITION_TEXT, return_tensors="pt").input_ids
    return TransformersMusicGen(model, token_ids, name="unsaved", sha256="0" * 64)


def export(model: MusicgenForConditionalGeneration, folder: Path) -> None:
    """Write a model that `from_pretrained` loads unchanged; the language model's weights are stored in float16.

    The codec stays in float32: codes flip at noise that half precision would bring.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    new_tokenizer().save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {
        name: tensor.half() if name.startswith("decoder.") else tensor for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


def round_to_stored(model: MusicgenForConditionalGeneration) -> None:
    """Round the decoder's weights as `export` will, so that what is measured is what is shipped."""
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.copy_(parameter.half().float())
