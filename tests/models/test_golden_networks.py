"""Every network against the recorded results of the published PyTorch implementation, module by module.

Weights come through the converter. Networks run without jit: operations are then compiled once for all cases, not
once per case.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.models.config import MotionConfig
from aa_jax.weights import build_network, load_config, load_network, open_tensors
from tests.golden_tools import (
    channels_first,
    channels_last,
    load,
    recorded,
    relative_error,
)

TOLERANCE = 1e-4
MOTION_VARIANTS = {
    "motion": (MotionConfig(), False),
    "nomotion": (None, False),
    "v1_config": (MotionConfig(mid_block=False, max_length=24), True),
}


def site(key: str) -> str:
    return key.split("|")[-1].removesuffix(".transformer_blocks.0")


def check_modules(found: dict, expected: dict[str, np.ndarray], layout=channels_first) -> int:
    """Compare all recorded modules that the golden data has; how many those are."""
    compared = 0
    for name, theirs in expected.items():
        ours = np.asarray(found[name])
        if ours.ndim == 5 and theirs.ndim == 4:
            ours = ours[:, 0]
        ours = layout(ours) if theirs.ndim > 3 else ours
        if ours.shape[0] != theirs.shape[0]:
            ours = np.broadcast_to(ours, theirs.shape)
        assert relative_error(ours, theirs) < TOLERANCE, name
        compared += 1
    return compared


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def reference_net(moore_folder):
    return load_network(moore_folder, "reference_unet")


@pytest.fixture(scope="module")
def banks(golden, reference_net):
    """The feature banks of the golden reference latents, computed by us."""
    latents = load(golden, "tiny/reference_unet_cfg.npz")
    bank = reference_net(channels_last(latents["latents"][1:]), latents["encoder_hidden_states"][1:])
    half = jax.tree.map(lambda x: x.astype(jnp.float16).astype(jnp.float32), bank)
    return {"bank_fp32": bank, "bank_fp16": half, "no_reference": None}


@pytest.fixture(scope="module")
def denoisers(moore_folder):
    """The denoising UNet with its temporal layers, without them, and as Moore's v1 configuration runs it."""
    config, tensors = load_config(moore_folder).denoising_unet, open_tensors(moore_folder, "denoising_unet")
    networks = {}
    for name, (motion, over_frames) in MOTION_VARIANTS.items():
        variant = dataclasses.replace(config, motion=motion, group_norm_over_frames=over_frames)
        kept = {k: v for k, v in tensors.items() if motion is not None or "motion_modules" not in k}
        if motion is not None and not motion.mid_block:
            kept = {k: v for k, v in kept.items() if not k.startswith("mid_block.motion_modules")}
            kept = {k: np.asarray(v)[:, :24] if k.endswith(".pe") else v for k, v in kept.items()}
        networks[name] = build_network("denoising_unet", variant, kept)
    return networks


def denoise(network, sample, timestep, context, bank, pose=None):
    """One evaluation as the pipelines do it: rows [unconditional, conditional] if `context` has both."""
    conditions = network.condition(context, bank, guided=len(context) == 2)
    return network(sample, network.embed_time(jnp.asarray(timestep)[None]), conditions, pose)


@pytest.mark.parametrize("rows", ["cfg", "nocfg"])
def test_reference_net(golden, reference_net, rows):
    arrays = load(golden, f"tiny/reference_unet_{rows}.npz")
    bank, found = recorded(
        reference_net,
        lambda x, c: reference_net(x, c),
        channels_last(arrays["latents"]),
        arrays["encoder_hidden_states"],
    )
    expected = part(arrays, "bank|")
    assert len(expected) == len(bank) == 16
    for key, theirs in expected.items():
        assert relative_error(bank[site(key)], theirs) < TOLERANCE, key
    modules = part(arrays, "mid|")
    assert check_modules(found, modules) == len(modules)
    assert relative_error(channels_first(found["up_blocks.3"][:, 0]), arrays["sample_out"]) < TOLERANCE


@pytest.mark.parametrize("variant", ["motion", "nomotion"])
@pytest.mark.parametrize("rows", ["cfg", "nocfg"])
def test_denoising_unet(golden, denoisers, banks, variant, rows):
    arrays = load(golden, "tiny/denoising_unet.npz")
    sample, pose = channels_last(arrays["sample"]), channels_last(arrays["pose_cond_fea"])
    network, context = denoisers[variant], jnp.asarray(arrays[f"enc_{rows}"])
    cases = {f"out|{variant}|{rows}|{name}": (bank, pose, arrays["timestep"]) for name, bank in banks.items()}
    cases[f"out|{variant}|{rows}|no_pose"] = (banks["bank_fp32"], None, arrays["timestep"])
    for t in (0, 1, 49, 999) if rows == "cfg" else ():
        cases[f"out|{variant}|{rows}|bank_fp32|t{t}"] = (banks["bank_fp32"], pose, np.int64(t))
    for name, (bank, pose, t) in cases.items():
        out = denoise(network, sample, t, context, bank, pose)
        assert relative_error(channels_first(out), arrays[name]) < TOLERANCE, name


@pytest.mark.parametrize("variant", ["motion", "nomotion"])
def test_every_module_of_the_denoising_unet(golden, denoisers, banks, variant):
    arrays = load(golden, "tiny/denoising_unet.npz")
    modules = load(golden, f"tiny/denoising_unet_mid_{variant}_cfg.npz")
    network = denoisers[variant]
    _, found = recorded(
        network,
        lambda x, pose: denoise(
            network, x, arrays["timestep"], jnp.asarray(arrays["enc_cfg"]), banks["bank_fp32"], pose
        ),
        channels_last(arrays["sample"]),
        channels_last(arrays["pose_cond_fea"]),
    )
    assert check_modules(found, modules) == len(modules) > 50


def test_norm_over_frames(golden, denoisers, banks):
    arrays = load(golden, "tiny/denoising_unet.npz")
    sample, pose = channels_last(arrays["sample"]), channels_last(arrays["pose_cond_fea"])
    context = jnp.asarray(arrays["enc_cfg"])
    out = denoise(denoisers["v1_config"], sample, arrays["timestep"], context, banks["bank_fp32"], pose)
    assert relative_error(channels_first(out), arrays["out|v1_config|cfg|bank_fp32"]) < TOLERANCE


def test_other_shapes(golden, denoisers, banks, reference_net):
    arrays = load(golden, "tiny/denoising_unet.npz")
    network, context, t = denoisers["motion"], jnp.asarray(arrays["enc_cfg"]), arrays["timestep"]
    sample, pose = channels_last(arrays["sample"]), channels_last(arrays["pose_cond_fea"])
    encode = lambda x: reference_net(channels_last(x), context[1:])  # noqa: E731
    odd = {key: channels_last(arrays[f"odd|{key}"]) for key in ("sample", "pose_cond_fea")}
    cases = {
        "out|motion|cfg|one_frame": (sample[:, :1], context, banks["bank_fp32"], pose[:, :1]),
        "odd|out": (odd["sample"], context, encode(arrays["odd|ref_latents"]), odd["pose_cond_fea"]),
        "other_ref_size|out": (sample, context, encode(arrays["other_ref_size|ref_latents"]), pose),
        "f32|out_nocfg": (channels_last(arrays["f32|sample"]), context[1:], banks["bank_fp32"], None),
    }
    # New shapes compile every operation anew: here one program is faster.
    evaluate = jax.jit(lambda x, context, bank, pose: denoise(network, x, t, context, bank, pose))
    for name, inputs in cases.items():
        out = evaluate(*inputs)
        assert relative_error(channels_first(out), arrays[name]) < TOLERANCE, name


def test_window_longer_than_the_positions(denoisers):
    network = denoisers["v1_config"]
    with pytest.raises(ValueError, match="window of 25 frames is longer than the 24 positions"):
        jax.eval_shape(lambda x: denoise(network, x, 0, jnp.zeros((1, 1, 32)), None), jnp.zeros((1, 25, 8, 8, 4)))


def test_vae(golden, moore_folder):
    arrays = load(golden, "tiny/vae.npz")
    network = load_network(moore_folder, "vae")
    modules = part(arrays, "mid|")
    encoded, found = recorded(network, network.encode, channels_last(arrays["encode_input"]))
    ours = {
        "encode_mean": encoded.mean,
        "encode_logvar": encoded.log_variance,
        "encode_std": jnp.exp(0.5 * encoded.log_variance),
        "ref_latents": encoded.mean * load_config(moore_folder).vae.scaling_factor,
    }
    ours["decode_output"], found_decoding = recorded(network, network.decode, channels_last(arrays["decode_input"]))
    for name, value in ours.items():
        assert relative_error(channels_first(value), arrays[name]) < TOLERANCE, name
    assert check_modules(found | found_decoding, modules) == len(modules) > 15


def test_image_encoder(golden, moore_folder):
    arrays = load(golden, "tiny/clip.npz")
    network = load_network(moore_folder, "image_encoder")
    for kind in ("short", "long"):
        embeds, found = recorded(network, lambda x: network(x), channels_last(arrays[f"pixel_values_{kind}"]))
        assert relative_error(embeds, arrays[f"image_embeds_{kind}"]) < TOLERANCE
        if kind == "short":
            hidden = [found["vision_model.pre_layrnorm"]]
            hidden += [found[f"vision_model.encoder.layers.{i}"] for i in range(2)]
            for index, ours in enumerate(hidden):
                assert relative_error(ours, arrays[f"hidden_states_short|{index}"]) < TOLERANCE
            assert relative_error(hidden[-1], arrays["last_hidden_state_short"]) < TOLERANCE


def test_pose_guider(golden, moore_folder):
    arrays = load(golden, "tiny/pose_guider.npz")
    network = load_network(moore_folder, "pose_guider")
    out, found = recorded(network, lambda x: network(x), channels_last(arrays["input"]))
    assert relative_error(channels_first(out), arrays["output"]) < TOLERANCE
    before_activation = {f"blocks.{i}": found[f"blocks.{i}"] for i in range(6)} | {"conv_in": found["conv_in"]}
    for name, theirs in part(arrays, "mid|").items():
        ours = before_activation.get(name, out)
        assert relative_error(channels_first(ours), theirs) < TOLERANCE, name
