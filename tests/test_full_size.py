"""True SD-1.5 size: conversion, parity with the recorded PyTorch runs, and the whole command on a photograph. Needs
20 GiB and minutes."""

import functools
import gc
import json
import re
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax import preprocess
from aa_jax.animator import Animator
from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.samplers import DDIM
from aa_jax.diffusion.windows import get_windows
from aa_jax.pose import Keypoints, draw_poses
from aa_jax.tensor_file import LazyArray, write_tensors
from aa_jax.video import read_video, write_video
from aa_jax.weights import load_config, load_network
from tests.golden_tools import (
    channels_first,
    channels_last,
    load,
    read_json,
    recipe,
    recorded,
    relative_error,
    thin,
)

pytestmark = pytest.mark.full
TOLERANCE = 1e-3
GIB = 2**30
# flag, recipe's component, key list, file below the folder
FILES = (
    ("reference-unet", "reference_unet", "moore_reference_unet", "reference_unet.safetensors"),
    ("denoising-unet", "denoising_unet", "moore_denoising_unet_stage1_no_motion", "denoising_unet.safetensors"),
    ("motion-module", "denoising_unet", "moore_motion_module", "motion_module.safetensors"),
    ("pose-guider", "pose_guider", "pose_guider", "pose_guider.safetensors"),
    ("vae", "vae", "vae_sd_ft_mse", "vae/diffusion_pytorch_model.safetensors"),
    ("image-encoder", "image_encoder", "image_encoder", "image_encoder/model.safetensors"),
)

CONFIGS = {
    "vae": {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "scaling_factor": 0.18215,
    },
    "image_encoder": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
    },
}


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory):
    """The golden weights at true size, in Moore's layout, converted by the command; its peak memory is checked."""
    source = tmp_path_factory.mktemp("source")
    output = tmp_path_factory.mktemp("full") / "model"
    arguments = []
    make = recipe(golden).gen_tensor
    for flag, component, keys, name in FILES:
        shapes = read_json(golden, f"keys/{keys}.json")
        tensors = {
            key: LazyArray(tuple(shape), np.dtype(np.float32), functools.partial(make, component, key, shape))
            for key, shape in shapes.items()
        }
        (source / name).parent.mkdir(exist_ok=True)
        write_tensors(source / name, tensors)
        in_folder = "/" in name
        if in_folder:
            (source / name).with_name("config.json").write_text(json.dumps(CONFIGS[component]))
        arguments += [f"--{flag}", str((source / name).parent if in_folder else source / name)]
    peak_of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    command = [sys.executable, "-m", "tools.convert_weights", "moore", *arguments, "--output", str(output)]
    subprocess.run(command, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert peak < 12 * GIB and peak >= peak_of_children
    print(f"conversion: peak memory {peak / GIB:.2f} GiB")
    for _, _, _, name in FILES:
        (source / name).unlink()
    return output


@pytest.fixture(autouse=True)
def freed_memory():
    """Networks of one test are gone before the next loads its own."""
    yield
    jax.clear_caches()
    gc.collect()


def check_modules(found, expected):
    for key, theirs in expected.items():
        ours = np.asarray(found[key])
        if ours.ndim == 5 and theirs.ndim == 4:
            ours = ours[:, 0]
        ours = thin(channels_first(ours) if ours.ndim > 3 else ours)
        assert relative_error(np.broadcast_to(ours, theirs.shape), theirs) < TOLERANCE, key


def part(arrays, prefix):
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


# First, while this process holds no network yet: the command needs most of the memory.
def test_the_main_job(golden, folder, tmp_path):
    """The command on scikit-image's astronaut and a drawn pose sequence: 8 frames, 256x256, 2 steps, within 16 GiB."""
    from PIL import Image
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(tmp_path / "astronaut.png")
    drawn = load(golden, "pose/draw.npz")
    first, second = (drawn[f"keypoints_0{i}"] for i in (0, 1))
    mix = np.linspace(0, 1, 8)[:, None, None]
    poses = Keypoints(
        points=(1 - mix) * first + mix * second,
        scores=np.ones((8, 134)),
        height=256,
        width=256,
        fps=8.0,
    )
    write_video(tmp_path / "pose.mp4", draw_poses(poses, height=256, width=256), 8.0)
    command = [
        *(sys.executable, "-m", "aa_jax.animate", "--model", str(folder)),
        *("--reference", str(tmp_path / "astronaut.png"), "--pose", str(tmp_path / "pose.mp4")),
        *("--output", str(tmp_path / "out.mp4"), "--height", "256", "--width", "256", "--num-frames", "8"),
        *("--num-inference-steps", "2", "--guidance-scale", "3.5", "--side-by-side"),
    ]
    watched = [sys.executable, "-c", WATCH, json.dumps(command)]
    done = subprocess.run(watched, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr[-2000:])
    assert done.returncode == 0, done.stderr
    peak = int(re.search(r"peak (\d+)", done.stdout)[1])
    assert peak < 16 * GIB, f"{peak / GIB:.1f} GiB"
    assert re.search(r"compile +[\d.]+ s", done.stdout) and "frames per second" in done.stdout
    assert "2/2" in done.stderr
    video = read_video(tmp_path / "out.mp4")
    assert video.frames.shape == (8, 256, 768, 3) and video.fps == 8
    shown = video.frames[:, :, :256].astype(float)
    reference = np.asarray(Image.fromarray(astronaut()).resize((256, 256), Image.Resampling.LANCZOS), float)
    assert np.abs(shown - reference).mean() < 6
    result = video.frames[:, :, 512:]
    assert result.std() > 10 and len({frame.tobytes() for frame in result}) == 8


def test_image_encoder(golden, folder):
    arrays = load(golden, "full/clip.npz")
    pixels = preprocess.clip_pixels(arrays["image_uint8"], 224, load_config(folder).inference)
    np.testing.assert_allclose(np.moveaxis(pixels, -1, 1), arrays["pixel_values"], atol=2e-6)
    network = load_network(folder, "image_encoder")
    embeds, found = recorded(network, lambda x: network(x), pixels)
    assert relative_error(embeds, arrays["image_embeds"]) < TOLERANCE
    hidden = [found["vision_model.pre_layrnorm"], *(found[f"vision_model.encoder.layers.{i}"] for i in range(24))]
    for index, ours in enumerate(hidden):
        assert relative_error(thin(np.asarray(ours)), arrays[f"hidden_states_slice|{index}"]) < TOLERANCE, index
    assert relative_error(thin(np.asarray(hidden[-1])), arrays["last_hidden_state_slice"]) < TOLERANCE


def test_vae(golden, folder):
    arrays = load(golden, "full/vae.npz")
    network = load_network(folder, "vae")
    encoded, found = recorded(network, network.encode, preprocess.vae_pixels(arrays["image_uint8"]))
    ours = {"encode_mean": encoded.mean, "encode_logvar": encoded.log_variance, "ref_latents": encoded.mean * 0.18215}
    latents = channels_last(arrays["decode_latents"]) / 0.18215
    ours["decode_output"], decoding = recorded(network, network.decode, latents)
    for name, value in ours.items():
        assert relative_error(channels_first(value), arrays[name]) < TOLERANCE, name
    check_modules(found | decoding, part(arrays, "mid_slice|"))


def test_reference_net(golden, folder):
    arrays = load(golden, "full/reference_unet_cfg.npz")
    network = load_network(folder, "reference_unet")
    latents = np.repeat(channels_last(arrays["ref_latents"]), 2, 0)
    bank, found = recorded(network, lambda x, c: network(x, c), latents, arrays["encoder_hidden_states"])
    for key, theirs in part(arrays, "bank_slice|").items():
        ours = bank[key.split("|")[-1].removesuffix(".transformer_blocks.0")]
        assert relative_error(thin(np.asarray(ours)), theirs) < TOLERANCE, key
    check_modules(found, part(arrays, "mid_slice|"))
    assert relative_error(thin(channels_first(found["up_blocks.3"][:, 0])), arrays["sample_out_slice"]) < TOLERANCE


def test_denoising_unet(golden, folder):
    arrays = load(golden, "full/denoising_unet.npz")
    stored = load(golden, "full/reference_banks_cond_fp16.npz")
    bank = {
        key.split("|")[-1].removesuffix(".transformer_blocks.0"): jnp.asarray(value, jnp.float32)
        for key, value in stored.items()
    }
    guider = load_network(folder, "pose_guider")
    pose = guider(jnp.asarray(arrays["pose_images_uint8"], jnp.float32) / 255)[None]
    assert relative_error(thin(np.moveaxis(np.asarray(pose), -1, 1)), arrays["pose_fea_slice"]) < TOLERANCE
    network = load_network(folder, "denoising_unet")
    sample, context = channels_last(arrays["sample"]), jnp.asarray(arrays["encoder_hidden_states_cfg"])

    def evaluate(bank, t, guided=True):
        conditions = network.condition(context if guided else context[1:], bank, guided=guided)
        return network(sample, network.embed_time(jnp.array([t])), conditions, pose)

    t = int(arrays["timestep"])
    out, found = recorded(network, lambda: evaluate(bank, t))
    assert relative_error(channels_first(out), arrays["out|motion|cfg|bank_fp16"]) < TOLERANCE
    check_modules(found, part(arrays, "mid_slice|"))
    cases = {
        "out|motion|nocfg|bank_fp16": (bank, t, False),
        "out|motion|cfg|no_reference": (None, t),
        "out|motion|cfg|bank_fp16|t999": (bank, 999),
    }
    for name, inputs in cases.items():
        assert relative_error(channels_first(evaluate(*inputs)), arrays[name]) < TOLERANCE, name


def test_pipeline(golden, folder):
    """The recorded four steps of Moore's short pipeline on 256x256."""
    arrays, recorded_video = load(golden, "full/pose2vid.npz"), load(golden, "full/pose2vid_video.npz")
    animator = Animator.from_pretrained(folder).with_inference(clip_resize="shortest_edge", pose_resample="bicubic")
    inference = animator.config.inference
    image, noise = arrays["ref_image_uint8"], channels_last(arrays["noise"])[0]
    conditions = animator.programs.encode_reference(
        animator.weights, preprocess.vae_pixels(image), preprocess.clip_pixels(image, 224, inference), guided=True
    )
    latents, trajectory = animator.programs.denoise(
        animator.weights,
        noise,
        animator.encode_poses(arrays["pose_images_uint8"]),
        conditions,
        get_windows("moore", length=24, overlap=4).plan(len(noise), 4),
        Guidance(scale=3.5),
        jax.random.key(0),
        sampler=DDIM(previous_timestep="stride"),
        schedule=animator.config.schedule,
        num_inference_steps=4,
        window_batch=None,
        return_trajectory=True,
    )
    for step in range(4):
        for key, ours in (("latents_after_step", trajectory.latents), ("guided_prediction", trajectory.predictions)):
            assert relative_error(ours[step], channels_last(arrays[key][step])[0]) < TOLERANCE, (key, step)
    video = animator.decode(latents)
    assert relative_error(video[:1], channels_last(recorded_video["video_float32_frame0"])[0]) < TOLERANCE
    assert relative_error(video, channels_last(recorded_video["video_float16"])[0]) < TOLERANCE


# Runs a command and prints the peak memory of it alone.
WATCH = """
import json, resource, subprocess, sys
code = subprocess.run(json.loads(sys.argv[1])).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(code)
"""
