"""A model of all five networks, as small as it gets."""

import dataclasses

import numpy as np

from aa_jax.config import InferenceConfig, ModelConfig
from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.models.config import MotionConfig, PoseGuiderConfig, UNetConfig, VAEConfig
from aa_jax.training.networks import Networks
from tests.small_models import IMAGE_ENCODER

UNET = UNetConfig(
    block_out_channels=(16, 32), attention_levels=(True, True), layers_per_block=1, cross_attention_dim=24,
    num_attention_heads=2, norm_num_groups=8,
)  # fmt: skip
MOTION = MotionConfig(num_attention_heads=2, max_length=8, norm_num_groups=8)


def model(motion: bool) -> ModelConfig:
    """For images of 64x48 pixels, with temporal layers for up to 8 frames or without."""
    return ModelConfig(
        denoising_unet=dataclasses.replace(UNET, motion=MOTION if motion else None),
        reference_unet=UNET,
        pose_guider=PoseGuiderConfig(block_out_channels=(4, 8, 8, 16), out_channels=16),
        vae=VAEConfig(block_out_channels=(8, 8, 8, 16), layers_per_block=1, norm_num_groups=4),
        image_encoder=dataclasses.replace(IMAGE_ENCODER, projection_dim=24),
        schedule=NoiseSchedule(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
        inference=InferenceConfig(height=64, width=48, window_length=4, draw_face=False),
    )


def random_weights(networks: Networks, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of which none are zero, float64, without compiling an initialisation."""
    rng = np.random.default_rng(seed)
    weights = {}
    for key, leaf in sorted(networks.shapes.items()):
        width = float(np.prod(leaf.shape[:-1])) if key.endswith(".kernel") else 100.0
        weights[key] = (1.0 if key.endswith(".scale") else 0.0) + rng.standard_normal(leaf.shape) / np.sqrt(width)
    return weights
