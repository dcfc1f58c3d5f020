"""Makes and writes a whole MusicGen in the transformers format: text encoder, codec, decoder, tokenizer, settings."""

import os

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

from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.storage import local
from lumina_ray.training.captions import SPECIAL_TOKENS
from lumina_ray.training.codec import codec_config

# Standard deviation of a condition. transformers' start of the projection makes it so small (0.02) that a decoder never
# learns to look at conditions: after 2000 steps, nano's loss under a song's own caption was that under any other.
_CONDITION_SPREAD = 1.0
# Models that know one fixed text, as those of ground-truth banks do, need no more than letters.
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def new_musicgen(
    codec: EncodecModel | EncodecConfig | None = None,
    *,
    n_layers: int = 16,
    dim: int = 128,
    heads: int = 4,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> MusicgenForConditionalGeneration:
    """Make a MusicGen of nano's architecture: a codec with an untrained decoder and an untrained text encoder.

    The decoder is pre-norm and has no biases, a delay pattern over 4 codebooks, and cross-attention to a T5 encoder.
    With 16 layers, each channel's band has two.

    Args:
        codec: a trained codec, or the configuration of an untrained one; by default nano's configuration.
        n_layers: layers of the decoder.
        dim: width of the decoder.
        heads: attention heads of each layer.
        seed: seed of the untrained weights.
        tokenizer: its vocabulary is the text encoder's, and each of its words a condition of standard deviation 1; by
            default that of `letter_tokenizer`, whose texts are hardly told apart.
    """
    torch.manual_seed(seed)
    codec = codec or codec_config()
    audio = codec.config if isinstance(codec, EncodecModel) else codec
    text = T5Config(
        vocab_size=len(tokenizer or letter_tokenizer()), d_model=64, d_kv=32, d_ff=128, num_layers=1, num_heads=2,
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
    if tokenizer:
        _spread_conditions(model.eval(), len(tokenizer))
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


def _spread_conditions(model: MusicgenForConditionalGeneration, n_tokens: int) -> None:
    with torch.no_grad():
        hidden_B1E = model.text_encoder(torch.arange(n_tokens)[:, None]).last_hidden_state
        projection = model.enc_to_dec_proj
        projection.weight.mul_(_CONDITION_SPREAD / projection(hidden_B1E).std())


def letter_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that splits text into letters, and ends it by `</s>` as T5's does."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, "▁", *_LETTERS))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def as_music_model(
    model: MusicgenForConditionalGeneration, tokenizer: PreTrainedTokenizerFast | None = None
) -> TransformersMusicGen:
    """Put an unsaved model behind the common interface. The hash of its weights is not computed, and is all zeros.

    Args:
        model: the model.
        tokenizer: the one that it was made for; by default that of `letter_tokenizer`.
    """
    return TransformersMusicGen(model, tokenizer or letter_tokenizer(), name="unsaved", sha256="0" * 64)


def export(
    model: MusicgenForConditionalGeneration,
    folder: str | os.PathLike[str],
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> None:
    """Write a model and its tokenizer to a folder that `from_pretrained` loads.

    The language model's weights are stored in float16. The codec stays in float32, because the rounding errors of half
    precision would change codes.

    Args:
        model: the model.
        folder: where to, on a file system.
        tokenizer: the one that the model was made for; by default that of `letter_tokenizer`.

    Raises:
        UsageError: the folder is an address in a bucket.
    """
    folder = local(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (tokenizer or letter_tokenizer()).save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {
        name: tensor.half() if name.startswith("decoder.") else tensor for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


def round_to_stored(model: MusicgenForConditionalGeneration) -> None:
    """Round the decoder's weights, in place, as `export` does, so that measurements are those of the shipped model."""
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.copy_(parameter.half().float())
