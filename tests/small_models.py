"""Configurations of networks small enough for tests, and a model folder of them."""

import dataclasses
from pathlib import Path

import numpy as np

from aa_jax.config import InferenceConfig, ModelConfig
from aa_jax.models.config import CLIPVisionConfig, MotionConfig, PoseGuiderConfig, UNetConfig, VAEConfig
from aa_jax.weights import expected_tensors, save_model

IMAGE_ENCODER = CLIPVisionConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, projection_dim=8
)
# A system with latents of a quarter of the image's size and 12 channels.
_UNET = UNetConfig(
    in_channels=12,
    out_channels=12,
    block_out_channels=(16, 32),
    attention_levels=(False, True),
    layers_per_block=1,
    cross_attention_dim=8,
    num_attention_heads=2,
    norm_num_groups=8,
)
_MOTION = MotionConfig(num_attention_heads=2, max_length=8, norm_num_groups=8)
SMALL_STACK = ModelConfig(
    denoising_unet=dataclasses.replace(_UNET, motion=_MOTION),
    reference_unet=_UNET,
    pose_guider=PoseGuiderConfig(block_out_channels=(8, 8, 16), out_channels=16),
    vae=VAEConfig(latent_channels=12, block_out_channels=(8, 8, 16), layers_per_block=1, norm_num_groups=4),
    image_encoder=IMAGE_ENCODER,
    # 13x11 latents, which the UNets cannot halve.
    inference=InferenceConfig(num_inference_steps=2, height=52, width=44, window_length=4),
)


def write_small_stack(folder: Path, config: ModelConfig = SMALL_STACK) -> Path:
    """A model folder: random weights that keep the size of what goes through them."""
    rng = np.random.default_rng(0)

    def random(leaf):
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        return (rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(leaf.dtype)

    tensors = {
        name: {key: random(leaf) for key, leaf in expected_tensors(name, getattr(config, name)).items()}
        for name in config.networks
    }
    save_model(folder, config, tensors)
    return folder
