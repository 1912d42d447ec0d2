"""PyTorch files -> model folder -> PyTorch files: the same keys, dtypes and bits, for every source."""

import json
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aa_jax.weights import load_config, load_manifest, open_tensors
from tests.tools.files import assert_files_same, assert_same, back, bits, convert, load, save, save_folder
from tests.tools.ldm_names import ldm_unet_key, ldm_vae_key, ldm_vae_value


def test_moore(moore_files, sizes, tmp_path, capsys):
    model = convert("moore", moore_files, tmp_path / "model", *sizes)
    assert_files_same(moore_files, back(model, "moore", tmp_path / "back"))

    config = load_config(model)
    assert config.family == "moore" and config.networks == (
        "denoising_unet",
        "reference_unet",
        "pose_guider",
        "vae",
        "image_encoder",
    )
    assert config.denoising_unet.motion.max_length == 32 and config.denoising_unet.motion.mid_block
    assert config.denoising_unet.norm_num_groups == 8 and not config.denoising_unet.group_norm_over_frames
    assert config.pose_guider.block_out_channels == (16, 32, 96, 256)
    assert (config.schedule.prediction_type, config.schedule.beta_schedule) == ("v_prediction", "linear")
    assert (config.inference.bank_dtype, config.inference.clip_resize, config.inference.windows) == (
        "float16",
        "squash",
        "moore",
    )
    printed = capsys.readouterr().out
    assert "AnimateDiff v2" in printed and "controlnet 16-32-96-256" in printed
    report = json.loads((model / "conversion.json").read_text())
    assert {row["network"]: row["tensors"] for row in report["networks"]}["denoising_unet"] == 1274
    # Layout: a linear layer (out, in) is stored (in, out), a convolution OIHW as HWIO.
    source = load(moore_files["denoising_unet"])
    stored = open_tensors(model, "denoising_unet")
    name = "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj"
    np.testing.assert_array_equal(stored[f"{name}.kernel"].read(), source[f"{name}.weight"].numpy().T)
    np.testing.assert_array_equal(
        stored["conv_in.kernel"].read(), source["conv_in.weight"].numpy().transpose(2, 3, 1, 0)
    )


def test_moore_one_file_with_motion_modules_in_half_precision(moore_files, sizes, tmp_path):
    """A denoiser that holds its motion modules, alone and with an equal one; float16, bfloat16, old pickles."""
    whole = {
        key: value.numpy()
        for name in ("denoising_unet", "motion_module")
        for key, value in load(moore_files[name]).items()
    }
    files = {
        **moore_files,
        "denoising_unet": save(whole, tmp_path / "whole.pth", dtype=torch.float16, legacy=True),
        "motion_module": save(
            {key: value.numpy() for key, value in load(moore_files["motion_module"]).items()},
            tmp_path / "motion.pth",
            dtype=torch.float16,
        ),
        "pose_guider": save(
            {key: value.numpy() for key, value in load(moore_files["pose_guider"]).items()},
            tmp_path / "g.pt",
            dtype=torch.bfloat16,
        ),
    }
    both = convert("moore", files, tmp_path / "both", *sizes)
    assert_files_same(files, back(both, "moore", tmp_path / "back"))
    del files["motion_module"]
    alone = convert("moore", files, tmp_path / "alone", *sizes)
    assert_files_same(files, back(alone, "moore", tmp_path / "back alone"))
    for name in ("denoising_unet", "pose_guider"):
        assert (
            load_manifest(alone)["files"][f"{name}.safetensors"] == load_manifest(both)["files"][f"{name}.safetensors"]
        )


def test_moore_image_only(moore_files, sizes, tmp_path):
    files = {role: path for role, path in moore_files.items() if role != "motion_module"}
    model = convert("moore", files, tmp_path / "model", "--image-only", *sizes)
    assert load_config(model).denoising_unet.motion is None
    assert_files_same(files, back(model, "moore", tmp_path / "back"))


def test_novita(moore_files, recipe, keys, sizes, tmp_path):
    narrow = {320: 32, 96: 64, 256: 128}
    shapes = {key: tuple(narrow.get(size, size) for size in shape) for key, shape in keys("pose_guider").items()}
    files = {
        **moore_files,
        "pose_guider": save(recipe.gen_state_dict("pose_guider", shapes), tmp_path / "pose_guider.pth"),
    }
    model = convert("novita", files, tmp_path / "model", *sizes)
    assert_files_same(files, back(model, "novita", tmp_path / "back"))
    config = load_config(model)
    assert config.pose_guider.block_out_channels == (16, 32, 64, 128)
    assert config.inference.clip_resize == "pad" and not config.inference.draw_face


def test_musepose(moore_files, recipe, sizes, tmp_path):
    """The position tables of the file have 32 places; the system rebuilds them with 128."""
    model = convert("musepose", moore_files, tmp_path / "model", *sizes)
    assert_files_same(moore_files, back(model, "musepose", tmp_path / "back"))
    config = load_config(model)
    assert config.denoising_unet.motion.max_length == 128 and config.schedule.beta_schedule == "scaled_linear"
    assert (config.inference.window_length, config.inference.height) == (48, 768)
    name = "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.1.pos_encoder.pe"
    np.testing.assert_allclose(
        open_tensors(model, "denoising_unet")[name].read(), recipe.sinusoid_pe((1, 128, 96)), atol=1e-6
    )


@pytest.mark.parametrize("guider", ["open_pose_guider", "open_hack_pose_guider"])
def test_open(guider, shared_files, small_weights, recipe, keys, golden, sizes, tmp_path):
    """Motion modules v1, its own pose guider, CLIP without projection, a ReferenceNet without its dead end."""
    full = json.loads((golden / "keys" / "open_pose_guiders.json").read_text())[guider]
    shapes = {key: tuple(32 if size == 320 else size for size in shape) for key, shape in full.items()}
    dead = "up_blocks.3.attentions.2."
    alive = tuple(dead + part for part in ("norm.", "proj_in.", "transformer_blocks.0.norm1."))
    reference = {
        key: value.numpy()
        for key, value in load(shared_files["reference_unet"]).items()
        if not key.startswith(dead) or key.startswith(alive)
    }
    widths = {1024: 32, 4096: 48, 768: 24}
    clip_shapes = {
        key: tuple(widths.get(size, size) for size in shape)
        for key, shape in keys("image_encoder_transformers_4_30").items()
    }
    clip = recipe.gen_state_dict("image_encoder", clip_shapes)
    text = {"text_model.final_layer_norm.weight": np.ones(8, np.float32), "logit_scale": np.float32(4.6)}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 24,
        "num_attention_heads": 4,
        "patch_size": 14,
    }
    (tmp_path / "clip.json").write_text(
        json.dumps({"model_type": "clip", "projection_dim": 24, "vision_config": vision})
    )
    motion = {f"module.{key}": value for key, value in small_weights("denoising_unet", "animatediff_mm_v1").items()}
    files = {
        **shared_files,
        "reference_unet": save(reference, tmp_path / "referencenet_stage_1.ckpt"),
        "pose_guider": save(recipe.gen_state_dict(guider, shapes), tmp_path / "poseguider_stage_1.ckpt"),
        "motion_module": save(motion, tmp_path / "mm.ckpt"),
        "image_encoder": save_folder({**clip, **text}, tmp_path / "clip", tmp_path / "clip.json", "pytorch_model.bin"),
    }
    model = convert("open", files, tmp_path / "model", *sizes)
    exported = back(model, "open", tmp_path / "back")
    config = load_config(model)
    assert config.denoising_unet.motion.max_length == 24 and config.denoising_unet.group_norm_over_frames
    assert config.pose_guider.architecture == ("paper" if guider == "open_pose_guider" else "open")
    assert config.pose_guider.input_range == "symmetric" and config.image_encoder.output == "pooler_output"
    assert (config.inference.guidance_scale, config.inference.bank_dtype) == (7.5, "float32")
    assert not open_tensors(model, "reference_unet")[f"{dead}proj_out.kernel"].read().any()
    # What no network here has does not come back; all else does.
    left_out = {*text, "visual_projection.weight"}
    kept = {
        key: value for key, value in load(files["image_encoder"] / "pytorch_model.bin").items() if key not in left_out
    }
    assert_same(kept, load(exported / "image_encoder" / "pytorch_model.bin"))
    assert_files_same({role: path for role, path in files.items() if role != "image_encoder"}, exported)
    report = json.loads((model / "conversion.json").read_text())
    assert any("without influence" in note for note in report["notes"])
    assert any("text_model.*" in note for note in report["notes"])


def test_open_training_checkpoint(shared_files, recipe, keys, golden, sizes, tmp_path):
    """One file with the weights of three networks, named once for each."""
    full = json.loads((golden / "keys" / "open_pose_guiders.json").read_text())["open_pose_guider"]
    unet = {**load(shared_files["denoising_unet"]), **load(shared_files["motion_module"])}
    guider = {
        key: torch.from_numpy(np.array(value)) for key, value in recipe.gen_state_dict("open_pose_guider", full).items()
    }
    everything = {
        "epoch": 3,
        "global_step": 60,
        "unet_state_dict": unet,
        "poseguider_state_dict": guider,
        "referencenet_state_dict": load(shared_files["reference_unet"]),
    }
    torch.save(everything, tmp_path / "all.ckpt")
    ours = dict.fromkeys(("reference_unet", "denoising_unet", "pose_guider"), tmp_path / "all.ckpt")
    widths = {1024: 32, 4096: 48, 768: 24}
    clip_shapes = {key: tuple(widths.get(size, size) for size in shape) for key, shape in keys("image_encoder").items()}
    vision = {"hidden_size": 32, "num_hidden_layers": 24, "num_attention_heads": 4, "patch_size": 14}
    (tmp_path / "clip.json").write_text(json.dumps(vision))
    clip = save_folder(
        recipe.gen_state_dict("image_encoder", clip_shapes),
        tmp_path / "clip",
        tmp_path / "clip.json",
        "pytorch_model.bin",
    )
    model = convert("open", {"vae": shared_files["vae"], "image_encoder": clip, **ours}, tmp_path / "model", *sizes)
    exported = back(model, "open", tmp_path / "back")
    for role, entry in (("reference_unet", "referencenet"), ("denoising_unet", "unet"), ("pose_guider", "poseguider")):
        result = torch.load(exported / f"{role}.ckpt", weights_only=True)
        assert result["epoch"] == 3 and result["global_step"] == 60
        assert_same(everything[f"{entry}_state_dict"], result[f"{entry}_state_dict"])


@pytest.mark.parametrize(
    ("form", "version"),
    [("raw", 1), ("raw", 2), ("raw", 3), ("wrapped", 1), ("safetensors", 2), ("whole unet", 1), ("without tables", 3)],
)
def test_animatediff(form, version, small_weights, configs, recipe, tmp_path, capsys):
    weights = {
        key: torch.from_numpy(value)
        for key, value in small_weights("denoising_unet", f"animatediff_mm_v{version}").items()
    }
    path, more, kept = tmp_path / "mm.ckpt", [], weights
    if form == "wrapped":
        weights = {f"module.{key}": value for key, value in weights.items()}
        config = {"animatediff_config": {"motion_module_mid_block": version == 2}}
        torch.save({"epoch": 7, "state_dict": {**weights, **config}}, path)
    elif form == "safetensors":
        path = tmp_path / "mm.safetensors"
        save_file(weights, path, {"format": "pt"})
    elif form == "whole unet":
        image = small_weights("denoising_unet", "sd15_unet")
        torch.save({**{key: torch.from_numpy(value) for key, value in image.items()}, **weights}, path)
    elif form == "without tables":
        kept = {key: value for key, value in weights.items() if not key.endswith(".pe")}
        torch.save(kept, path)
        (tmp_path / "motion.json").write_text(
            json.dumps({"motion_module_kwargs": {"temporal_position_encoding_max_len": 24 if version == 1 else 32}})
        )
        more = ["--motion-config", str(tmp_path / "motion.json")]
    else:
        torch.save(weights, path)
    sizes = ["--unet-config", str(configs / "reference_unet.config.json")]
    model = convert("animatediff", {"motion_module": path}, tmp_path / "model", *sizes, *more)
    unet = load_config(model).motion_module
    assert (unet.motion.max_length, unet.motion.mid_block) == {1: (24, False), 2: (32, True), 3: (32, False)}[version]
    tables = [tensor for key, tensor in open_tensors(model, "motion_module").items() if key.endswith(".pe")]
    assert len(tables) == (42 if version == 2 else 40)
    np.testing.assert_allclose(tables[0].read(), recipe.sinusoid_pe(tables[0].shape), atol=1e-6)
    assert form == "without tables" or f"AnimateDiff v{version}" in capsys.readouterr().out

    exported = back(model, "animatediff", tmp_path / "back") / path.name
    assert_same(kept if form in ("whole unet", "without tables") else load(path), load(exported))


def test_stable_diffusion_folders(shared_files, small_weights, configs, tmp_path):
    """A sharded UNet, an autoencoder with old names in safetensors, CLIP."""
    unet = {key: torch.from_numpy(value) for key, value in small_weights("denoising_unet", "sd15_unet").items()}
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "config.json").write_text((configs / "reference_unet.config.json").read_text())
    weight_map = {}
    for number, part in enumerate((list(unet)[:300], list(unet)[300:]), 1):
        name = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({key: unet[key] for key in part}, folder / name, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    files = {"unet": folder, "vae": shared_files["vae"], "image_encoder": shared_files["image_encoder"]}
    model = convert("sd", files, tmp_path / "model")
    config = load_config(model)
    assert config.networks == ("unet", "vae", "image_encoder")
    assert (config.schedule.beta_schedule, config.schedule.set_alpha_to_one) == ("scaled_linear", False)
    exported = back(model, "sd", tmp_path / "back")
    assert_files_same(files, exported)
    assert json.loads((exported / "unet" / index.name).read_text())["weight_map"] == weight_map


def test_names_of_the_original_layout(small_weights):
    """The names that these tests give to single files are the original ones: diffusers' own renaming leads back."""
    utils = pytest.importorskip("diffusers.loaders.single_file_utils")
    unet, vae = small_weights("denoising_unet", "sd15_unet"), small_weights("vae", "vae_sd_ft_mse")
    checkpoint = {"model.diffusion_model." + ldm_unet_key(key): torch.from_numpy(value) for key, value in unet.items()}
    theirs = utils.convert_ldm_unet_checkpoint(dict(checkpoint), {"layers_per_block": 2, "class_embed_type": None})
    assert {key: bits(value) for key, value in theirs.items()} == {key: value.tobytes() for key, value in unet.items()}
    levels = {"down_block_types": [""] * 4, "up_block_types": [""] * 4}
    checkpoint = {
        "first_stage_model." + ldm_vae_key(key): torch.from_numpy(ldm_vae_value(key, value))
        for key, value in vae.items()
    }
    theirs = utils.convert_ldm_vae_checkpoint(dict(checkpoint), levels)
    assert {key: bits(value) for key, value in theirs.items()} == {key: value.tobytes() for key, value in vae.items()}


@pytest.fixture(scope="module")
def standard_vae(recipe: ModuleType, keys: Callable) -> dict:
    """A true-size autoencoder, each tensor one random number."""
    shapes = keys("vae_sd_ft_mse")
    values = {key: recipe.gen_tensor("vae", key, (1,)).astype(np.float16) for key in shapes}
    return {
        key: torch.from_numpy(values[key]).reshape((1,) * len(shape)).expand(shape) for key, shape in shapes.items()
    }


def test_stable_diffusion_single_file_round_trip(small_weights, standard_vae, configs, tmp_path, capsys):
    unet = {key: torch.from_numpy(value) for key, value in small_weights("denoising_unet", "sd15_unet").items()}
    checkpoint = {"model.diffusion_model." + ldm_unet_key(key): value for key, value in unet.items()}
    for key, value in standard_vae.items():
        square = ".mid_block.attentions.0.to_" in key and value.ndim == 2
        checkpoint["first_stage_model." + ldm_vae_key(key)] = value[..., None, None] if square else value
    rest = {
        "cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.zeros(3),
        "model_ema.decay": torch.ones(()),
        "sqrt_one_minus_alphas_cumprod": torch.zeros(1000),
        "posterior_mean_coef1": torch.zeros(1000),
    }
    path = tmp_path / "v1-5.ckpt"
    torch.save({"state_dict": {**rest, **checkpoint}, "global_step": 5}, path)
    model = convert(
        "sd", {"checkpoint": path}, tmp_path / "model", "--unet-config", str(configs / "reference_unet.config.json")
    )
    printed = capsys.readouterr().out
    assert "cond_stage_model.* left out (1 tensors)" in printed and "model_ema.* left out" in printed

    stored = open_tensors(model, "unet")
    for name in ("up_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k", "down_blocks.2.resnets.1.time_emb_proj"):
        np.testing.assert_array_equal(stored[f"{name}.kernel"].read(), unet[f"{name}.weight"].numpy().T)
    np.testing.assert_array_equal(
        stored["up_blocks.0.upsamplers.0.conv.bias"].read(), unet["up_blocks.0.upsamplers.0.conv.bias"].numpy()
    )
    vae = open_tensors(model, "vae")
    for key in ("decoder.up_blocks.1.resnets.2.conv2.bias", "encoder.mid_block.attentions.0.to_out.0.bias"):
        np.testing.assert_array_equal(vae[key].read(), standard_vae[key].numpy())

    exported = torch.load(back(model, "sd", tmp_path / "back") / "v1-5.ckpt", weights_only=True)
    assert exported["global_step"] == 5
    assert_same(checkpoint, exported["state_dict"])


def test_raw_autoencoder_of_the_original_layout(small_weights, configs, tmp_path):
    """As vae-ft-mse-840000-ema-pruned.ckpt: no prefix, a discriminator beside it."""
    vae = small_weights("vae", "vae_sd_ft_mse")
    weights = {ldm_vae_key(key): torch.from_numpy(ldm_vae_value(key, value)) for key, value in vae.items()}
    folder = save_folder({}, tmp_path / "vae", configs / "vae.config.json", "diffusion_pytorch_model.bin")
    torch.save({"state_dict": {**weights, "loss.logvar": torch.zeros(())}}, folder / "diffusion_pytorch_model.bin")
    model = convert("sd", {"vae": folder}, tmp_path / "model")
    stored = open_tensors(model, "vae")["decoder.mid_block.attentions.0.to_k.kernel"].read()
    np.testing.assert_array_equal(stored, vae["decoder.mid_block.attentions.0.to_k.weight"].T)
    exported = back(model, "sd", tmp_path / "back") / "vae" / "diffusion_pytorch_model.bin"
    assert_same(weights, torch.load(exported, weights_only=True)["state_dict"])


def test_the_report_as_json(small_weights, configs, tmp_path, capsys):
    """Nothing else is printed, so that scripts can read it."""
    weights = small_weights("vae", "vae_sd_ft_mse")
    folder = save_folder(weights, tmp_path / "vae", configs / "vae.config.json", "diffusion_pytorch_model.bin")
    convert("sd", {"vae": folder}, tmp_path / "model", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "model" / "conversion.json").read_text())
    assert [row["network"] for row in report["networks"]] == ["vae"]


def test_casting_keeps_norms_and_export_restores_the_dtype(moore_files, sizes, tmp_path):
    model = convert("moore", moore_files, tmp_path / "model", "--dtype", "bfloat16", *sizes)
    stored = open_tensors(model, "denoising_unet")
    dtypes = {key: str(stored[key].dtype) for key in stored}
    assert dtypes["conv_in.kernel"] == dtypes["conv_in.bias"] == "bfloat16"
    assert (
        dtypes["conv_norm_out.bias"]
        == dtypes["down_blocks.0.attentions.0.transformer_blocks.0.norm1.scale"]
        == "float32"
    )
    assert {dtype for key, dtype in dtypes.items() if key.endswith(".pe")} == {"float32"}
    source, result = (
        load(moore_files["denoising_unet"]),
        load(back(model, "moore", tmp_path / "back") / "denoising_unet.pth"),
    )
    assert all(value.dtype == torch.float32 for value in result.values())
    assert torch.equal(result["conv_in.weight"], source["conv_in.weight"].bfloat16().float())
    assert torch.equal(result["conv_norm_out.weight"], source["conv_norm_out.weight"])


def test_export_by_rule(moore_files, sizes, tmp_path):
    """Weights trained here have no originals: files are what the system itself would have written."""
    model = convert("novita", moore_files, tmp_path / "model", *sizes)
    exported = back(model, "moore", tmp_path / "back")
    for role in ("reference_unet", "denoising_unet", "motion_module", "pose_guider"):
        before, after = load(moore_files[role]), load(exported / f"{role}.pth")
        assert_same(dict(sorted(before.items())), dict(sorted(after.items())))
    again = convert(
        "moore", {role: exported / path.name for role, path in moore_files.items()}, tmp_path / "again", *sizes
    )
    assert load_config(again).vae == load_config(model).vae
    assert load_config(again).image_encoder == load_config(model).image_encoder
    for name in ("vae", "image_encoder", "denoising_unet"):
        assert (
            load_manifest(again)["files"][f"{name}.safetensors"] == load_manifest(model)["files"][f"{name}.safetensors"]
        )
    motion = load(
        back(model, "animatediff", tmp_path / "motion", "--format", "safetensors") / "motion_module.safetensors"
    )
    assert_same(dict(sorted(load(moore_files["motion_module"]).items())), dict(sorted(motion.items())))
