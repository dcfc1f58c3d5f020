"""The same weights through transformers and through audiocraft: equal codes, loss and gradients (issue bar: 1e-4)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lumina_ray.gradients import chunk_losses
from lumina_ray.model import TRACKED_TENSORS, MusicModel, open_model

WEIGHTS = (0.4, 1.2, 1.3, 1.4)


@pytest.fixture(scope="module")
def transformers_model() -> MusicModel:
    return open_model("nano")


@pytest.fixture(scope="module")
def audiocraft_model() -> MusicModel:
    return open_model("audiocraft:nano")


@pytest.fixture(scope="module")
def song() -> list[np.ndarray]:
    """Two chunks with some structure, the last one short."""
    rng = np.random.default_rng(0)
    t = np.arange(17 * 32_000) / 32_000
    samples = sum(
        rng.uniform(0.05, 0.2) * np.sin(2 * np.pi * f * t * (1 + 0.1 * (t % 2 > 1))) for f in (110, 220.5, 331)
    )
    samples += rng.normal(size=len(t)) * 0.01
    return [samples[:320_000].astype(np.float32), samples[320_000:].astype(np.float32)]


def padded_codes(model: MusicModel, song: list[np.ndarray]) -> tuple[Tensor, list[int]]:
    codes = [model.encode(chunk) for chunk in song]
    padded = [torch.nn.functional.pad(c, (0, 500 - c.shape[1])) for c in codes]
    return torch.stack(padded), [c.shape[1] for c in codes]


def gradients_by_name(model: MusicModel, codes_BKT: Tensor, n_frames: list[int]) -> dict[str, Tensor]:
    """Every tracked tensor's gradient, summed over the song's chunks, through plain `backward`."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    chunk_losses(model.predict(codes_BKT, n_frames), codes_BKT, WEIGHTS).sum().backward()

    def gradient(parameters: tuple[torch.nn.Parameter, ...]) -> Tensor:
        return torch.cat([p.grad for p in parameters])  # type: ignore[misc]

    named = {f"{n}.{t}": gradient(model.tracked(n, t)) for n in range(model.n_layers) for t in TRACKED_TENSORS}
    return named | {f"head.{k}": gradient((head,)) for k, head in enumerate(model.heads())}


def test_codes_loss_and_gradients_are_equal(
    transformers_model: MusicModel, audiocraft_model: MusicModel, song: list[np.ndarray]
) -> None:
    codes_BKT, n_frames = padded_codes(transformers_model, song)
    assert n_frames == [500, 350]
    theirs_BKT, _ = padded_codes(audiocraft_model, song)
    assert torch.equal(codes_BKT, theirs_BKT)

    with torch.no_grad():
        losses = [
            chunk_losses(model.predict(codes_BKT, n_frames), codes_BKT, WEIGHTS)
            for model in (transformers_model, audiocraft_model)
        ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)

    ours = gradients_by_name(transformers_model, codes_BKT, n_frames)
    theirs = gradients_by_name(audiocraft_model, codes_BKT, n_frames)
    assert len(ours) == 16 * 6 + 4
    worst = max(float((ours[n] - theirs[n]).norm() / theirs[n].norm()) for n in ours)
    print(f"largest relative difference of a tracked tensor's gradient: {worst:.2e}")
    assert worst <= 1e-4
    assert all(gradient.norm() > 0 for gradient in ours.values())


def test_a_padded_chunk_is_its_true_length_alone(transformers_model: MusicModel, song: list[np.ndarray]) -> None:
    codes_KT = transformers_model.encode(song[1])
    padded_KT = torch.nn.functional.pad(codes_KT, (0, 500 - codes_KT.shape[1]), value=7)
    with torch.no_grad():
        alone = chunk_losses(transformers_model.predict(codes_KT[None], [350]), codes_KT[None], WEIGHTS)
        padded = chunk_losses(transformers_model.predict(padded_KT[None], [350]), padded_KT[None], WEIGHTS)
    torch.testing.assert_close(alone, padded, rtol=1e-6, atol=0)


def test_uniform_weights_give_the_loss_transformers_computes_itself(
    transformers_model: MusicModel, song: list[np.ndarray]
) -> None:
    codes_KT = transformers_model.encode(song[0])
    K, T = codes_KT.shape
    pad = transformers_model.codebook_size
    sequence = torch.full((K, T + 1), pad)
    for k in range(K):
        sequence[k, 1 + k :] = codes_KT[k, : T - k]
    labels_1SK = torch.cat([sequence[:, 1:], torch.full((K, 1), -100)], dim=1).T[None].clone()
    hf = transformers_model.model  # type: ignore[attr-defined]
    with torch.no_grad():
        theirs = hf.decoder(
            input_ids=sequence,
            labels=labels_1SK,
            encoder_hidden_states=transformers_model.condition,  # type: ignore[attr-defined]
        ).loss
        ours = chunk_losses(transformers_model.predict(codes_KT[None], [T]), codes_KT[None], (1, 1, 1, 1))
    torch.testing.assert_close(ours[0], theirs, rtol=1e-6, atol=0)


def test_audiocraft_export_loads_through_its_own_loader(
    audiocraft_model: MusicModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, song: list[np.ndarray]
) -> None:
    """An export in audiocraft's format, made from nano, goes through `loaders` and gives the same gradients."""
    from audiocraft.models import loaders
    from audiocraft.modules import conditioners
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer

    from lumina_ray.model.files import find_model

    source = open_model("nano")
    hf = source.model  # type: ignore[attr-defined]
    config = {
        "lm_model": "transformer_lm",
        "device": "cpu",
        "dtype": "float32",
        "dataset": {"segment_duration": 30},
        "transformer_lm": {
            "n_q": 4, "card": source.codebook_size, "dim": source.dim, "norm": "layer_norm", "norm_first": True,
            "num_heads": hf.config.decoder.num_attention_heads, "hidden_scale": hf.config.decoder.ffn_dim // source.dim,
            "bias_proj": False, "bias_ff": False, "bias_attn": False, "num_layers": source.n_layers, "dropout": 0.0,
            "activation": "gelu", "causal": True, "custom": False, "memory_efficient": True,
        },
        "codebooks_pattern": {
            "modeling": "delay", "delay": {"delays": [0, 1, 2, 3], "flatten_first": 0, "empty_initial": 0},
        },
        "attribute_dropout": {},
        "classifier_free_guidance": {"training_dropout": 0.1, "inference_coef": 3.0},
        "fuser": {"cross": ["description"], "sum": [], "prepend": [], "input_interpolate": []},
        "conditioners": {
            "description": {"model": "t5", "t5": {"name": "t5-small", "finetune": False, "word_dropout": 0.0}}
        },
    }  # fmt: skip
    state = dict(audiocraft_model.lm.state_dict())  # type: ignore[attr-defined]
    projection = "condition_provider.conditioners.description.output_proj"
    state[f"{projection}.weight"] = hf.enc_to_dec_proj.weight.detach()
    state[f"{projection}.bias"] = hf.enc_to_dec_proj.bias.detach()
    torch.save(
        {"xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config)), "best_state": state}, tmp_path / "state_dict.bin"
    )
    torch.save({"pretrained": "facebook/encodec_32khz"}, tmp_path / "compression_state_dict.bin")
    # What the hub would serve: t5-small and encodec_32khz are nano's own encoders here.
    tokenizer = AutoTokenizer.from_pretrained(find_model("nano"))
    monkeypatch.setattr(conditioners.T5Tokenizer, "from_pretrained", lambda _name: tokenizer)
    monkeypatch.setattr(conditioners.T5EncoderModel, "from_pretrained", lambda _name: hf.text_encoder)
    monkeypatch.setitem(conditioners.T5Conditioner.MODELS_DIMS, "t5-small", hf.config.text_encoder.d_model)
    monkeypatch.setattr(
        loaders.CompressionModel,
        "get_pretrained",
        lambda _name, device: audiocraft_model.codec,  # type: ignore[attr-defined]
    )

    exported = open_model(f"audiocraft:{tmp_path}")
    torch.testing.assert_close(exported.embed("slow organ"), audiocraft_model.embed("slow organ"), rtol=1e-5, atol=1e-6)
    assert exported.unknown_words("slow 長い") == ["長い"]
    codes_BKT, n_frames = padded_codes(exported, song)
    expected = gradients_by_name(audiocraft_model, codes_BKT, n_frames)
    for name, gradient in gradients_by_name(exported, codes_BKT, n_frames).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7, msg=name)
