"""Folders of diffusers and checkpoints of stable-audio-tools give the same model; what does not fit is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderOobleck, StableAudioDiTModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lumina_ray.errors import ModelError
from lumina_ray.model import open_model, open_music_model
from lumina_ray.model.diffusion.codecs import OobleckLatents
from lumina_ray.model.files import find_model, weights_sha256
from tests.tiny_dit import export_tiny_dit, tiny_codec, tiny_dit

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "dit"
    export_tiny_dit(folder)
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "dit"))


def test_an_exported_model_is_the_model(exported: Path) -> None:
    opened, made = open_model(str(exported)), tiny_dit(tiny_codec())
    assert opened.representation == made.representation
    samples = 0.1 * np.random.default_rng(0).standard_normal(20_001).astype(np.float32)
    latents_CT = opened.encode(samples)
    assert latents_CT.shape == (8, 32)
    torch.testing.assert_close(latents_CT, made.encode(samples))
    # Latents are EnCodec's before its quantiser, normalised; and back.
    raw = tiny_codec().encoder(torch.from_numpy(samples)[None, None])[0].detach()
    torch.testing.assert_close(latents_CT[3], (raw[3] - 0.03) / 0.5)
    np.testing.assert_allclose(
        opened.decode(latents_CT), tiny_codec().decoder(raw[None])[0, 0].detach(), rtol=1e-3, atol=1e-5
    )
    draws = opened.draws
    ours, theirs = (m.losses(latents_CT[None], [32], draws).values_BKT.detach() for m in (opened, made))
    # The file holds float16.
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


def test_the_hash_sees_every_part(folder: Path) -> None:
    before = weights_sha256(folder)
    assert open_model(str(folder)).weights_sha256 == before
    state = load_file(folder / "vae" / "model.safetensors")
    name = next(iter(state))
    save_file(state | {name: state[name] + 1}, folder / "vae" / "model.safetensors", metadata={"format": "pt"})
    assert weights_sha256(folder) != before


def test_what_needs_codes_refuses_a_model_of_latents(exported: Path) -> None:
    with pytest.raises(ModelError, match="predicts latents; what was asked for needs a model that predicts codes"):
        open_music_model(str(exported))


def test_missing_unknown_and_misshapen_weights_are_named(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    state = load_file(file)
    few = {name: tensor for name, tensor in state.items() if name != "proj_in.weight"}
    for changed, says in (
        (few, r"lacks 1 weights: proj_in\.weight"),
        (state | {"extra.weight": torch.zeros(1)}, r"has no place for 1 weights: extra\.weight"),
        (state | {"proj_in.weight": torch.zeros(3, 5)}, r"proj_in\.weight has shape \[3, 5\]"),
    ):
        save_file(changed, file)
        with pytest.raises(ModelError, match=says):
            open_model(str(folder))


@pytest.mark.parametrize("part", ["transformer", "projection_model", "text_encoder", "tokenizer", "vae"])
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(ModelError, match=part):
        open_model(str(folder))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"patch": 3}, "3 frames of its codec's 8 rows are 24"),
        ({"patch": 0}, "no settings of latents"),
        ({"mean": [0.0] * 7}, "mean has 7 numbers"),
        ({"std": [0.0] * 8}, "std positive"),
        ({"stride": 3}, "stride"),
        ([], "holds no JSON object"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder: Path, values: Any, says: str) -> None:
    file = folder / "latents.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps(known | values if isinstance(values, dict) else values))
    with pytest.raises(ModelError, match=says):
        open_model(str(folder))


def test_a_published_model_that_is_not_at_hand_names_its_licence() -> None:
    with pytest.raises(ModelError, match="Stability AI's Community License"):
        find_model("stabilityai/stable-audio-open-1.0")


# Stable Audio Open's form at a hundredth of its width.
CONFIG: dict[str, Any] = {
    "model_type": "diffusion_cond",
    "sample_size": 65_536,
    "sample_rate": 44_100,
    "model": {
        "pretransform": {
            "type": "autoencoder",
            "config": {
                "encoder": {"type": "oobleck", "config": {"channels": 16, "c_mults": [1, 2, 4], "strides": [2, 4, 8]}},
                "decoder": {"type": "oobleck", "config": {"channels": 8, "latent_dim": 8}},
                "downsampling_ratio": 64,
                "io_channels": 2,
            },
        },
        "conditioning": {
            "cond_dim": 64,
            "configs": [{"id": "prompt", "type": "t5"}]
            + [{"id": f"seconds_{e}", "config": {"min_val": 0, "max_val": 512}} for e in ("start", "total")],
        },
        "diffusion": {
            "type": "dit",
            "config": {
                "io_channels": 8,
                "embed_dim": 128,
                "depth": 2,
                "num_heads": 4,
                "cond_token_dim": 64,
                "global_cond_dim": 128,
                "project_cond_tokens": False,
            },
        },
    },
}


def parts() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "transformer": StableAudioDiTModel(
            sample_size=1024, in_channels=8, out_channels=8, num_layers=2, attention_head_dim=32,
            num_attention_heads=4, num_key_value_attention_heads=2, cross_attention_dim=64,
            cross_attention_input_dim=64, global_states_input_dim=128,
        ),
        "projection": StableAudioProjectionModel(64, 64, 0, 512),
        "codec": AutoencoderOobleck(
            encoder_hidden_size=16, downsampling_ratios=[2, 4, 8], channel_multiples=[1, 2, 4], decoder_channels=8,
            decoder_input_channels=8,
        ),
    }  # fmt: skip


def as_stable_audio_tools(made: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The names that stable-audio-tools' modules give the same weights, written down module by module."""
    out: dict[str, Tensor] = {}
    state = made["transformer"].state_dict()
    for i in range(2):
        old, new = f"transformer_blocks.{i}.", f"model.model.transformer.layers.{i}."
        for ours, theirs in (("norm1", "pre_norm"), ("norm2", "cross_attend_norm"), ("norm3", "ff_norm")):
            out[f"{new}{theirs}.gamma"] = state[f"{old}{ours}.weight"]
            out[f"{new}{theirs}.beta"] = state[f"{old}{ours}.bias"]
        out[f"{new}self_attn.to_qkv.weight"] = torch.cat([state[f"{old}attn1.to_{x}.weight"] for x in "qkv"])
        out[f"{new}self_attn.to_out.weight"] = state[f"{old}attn1.to_out.0.weight"]
        out[f"{new}cross_attn.to_q.weight"] = state[f"{old}attn2.to_q.weight"]
        out[f"{new}cross_attn.to_kv.weight"] = torch.cat([state[f"{old}attn2.to_{x}.weight"] for x in "kv"])
        out[f"{new}cross_attn.to_out.weight"] = state[f"{old}attn2.to_out.0.weight"]
        for x in ("weight", "bias"):
            out[f"{new}ff.ff.0.proj.{x}"] = state[f"{old}ff.net.0.proj.{x}"]
            out[f"{new}ff.ff.2.{x}"] = state[f"{old}ff.net.2.{x}"]
    out["model.model.transformer.rotary_pos_emb.inv_freq"] = torch.zeros(8)
    out["model.model.timestep_features.weight"] = state["time_proj.weight"][:, None]
    for ours, theirs in (
        ("proj_in", "transformer.project_in"), ("proj_out", "transformer.project_out"),
        ("preprocess_conv", "preprocess_conv"), ("postprocess_conv", "postprocess_conv"),
        ("timestep_proj.0", "to_timestep_embed.0"), ("timestep_proj.2", "to_timestep_embed.2"),
        ("global_proj.0", "to_global_embed.0"), ("global_proj.2", "to_global_embed.2"),
        ("cross_attention_proj.0", "to_cond_embed.0"), ("cross_attention_proj.2", "to_cond_embed.2"),
    ):  # fmt: skip
        out |= {f"model.model.{theirs}.{x}": state[f"{ours}.{x}"] for x in ("weight", "bias") if f"{ours}.{x}" in state}
    numbers = made["projection"].state_dict()
    for ours, theirs in (("start", "start"), ("end", "total")):
        for x in ("0.weights", "1.weight", "1.bias"):
            name = f"conditioner.conditioners.seconds_{theirs}.embedder.embedding.{x}"
            out[name] = numbers[f"{ours}_number_conditioner.time_positional_embedding.{x}"]
    codec = made["codec"].state_dict()

    def put(old: str, new: str) -> None:
        for name, tensor in codec.items():
            if name.startswith(old + "."):
                squeezed = tensor.flatten() if "snake" in old else tensor
                out["pretransform.model." + new + name.removeprefix(old)] = squeezed

    for side, order in (("encoder", ("units", "snake1", "conv1")), ("decoder", ("snake1", "conv_t1", "units"))):
        put(f"{side}.conv1", f"{side}.layers.0")
        for block in range(3):
            at = 0
            for what in order:
                for unit in range(3) if what == "units" else [None]:
                    theirs = f"{side}.layers.{block + 1}.layers.{at}"
                    at += 1
                    if unit is None:
                        put(f"{side}.block.{block}.{what}", theirs)
                        continue
                    for j, layer in enumerate(("snake1", "conv1", "snake2", "conv2")):
                        put(f"{side}.block.{block}.res_unit{unit + 1}.{layer}", f"{theirs}.layers.{j}")
        put(f"{side}.snake1", f"{side}.layers.4")
        put(f"{side}.conv2", f"{side}.layers.5")
    return out


@pytest.fixture
def checkpoint(exported: Path, tmp_path: Path) -> Path:
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(exported / part, tmp_path / part)
    state = {name: tensor.clone().contiguous() for name, tensor in as_stable_audio_tools(parts()).items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "model_config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_checkpoint_of_stable_audio_tools_is_the_same_network(checkpoint: Path) -> None:
    opened, made = open_model(str(checkpoint)), parts()
    for name, module in (("transformer", opened.transformer), ("projection", opened.projection)):  # type: ignore[attr-defined]
        state = module.state_dict()
        assert state.keys() == made[name].state_dict().keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in made[name].state_dict().items())
    samples = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    latents_CT = opened.encode(samples)
    # 44 100 Hz / 64, whatever a second's last frame is.
    assert latents_CT.shape == (8, 690)
    torch.testing.assert_close(latents_CT, OobleckLatents(made["codec"].eval()).encode(samples))
    assert opened.decode(latents_CT).shape == (round(690 * 64 * 32_000 / 44_100),)
    # Conditions have half the width of the music, so that queries are no rows beside keys and values.
    assert [tuple(p.shape) for p in opened.tracked(1, "cross_kv")] == [(64, 64), (64, 64)]
    assert [tuple(p.shape) for p in opened.tracked(1, "cross_q")] == [(128, 128)]


def test_names_that_no_such_model_has_are_an_error(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    state = load_file(file)
    save_file(
        state | {"model_ema.beta": torch.zeros(1), "model.model.transformer.layers.0.q_norm.gamma": torch.ones(1)}, file
    )
    with pytest.raises(ModelError, match=r"2 weights .*model\.model\.transformer\.layers\.0\.q_norm\.gamma, model_ema"):
        open_model(str(checkpoint))


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        (("model_type",), "autoencoder", "only models with model type diffusion_cond"),
        (("model", "diffusion", "diffusion_objective"), "rectified_flow", "an objective of velocities"),
        (("model", "diffusion", "config", "patch_size"), 2, "one frame a patch"),
        (("model", "diffusion", "config"), {}, "no Stable Audio|supported"),
    ],
)
def test_models_of_another_form_are_refused(checkpoint: Path, where: tuple[str, ...], value: Any, says: str) -> None:
    config = json.loads(json.dumps(CONFIG))
    inner = config
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    (checkpoint / "model_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=says):
        open_model(str(checkpoint))
