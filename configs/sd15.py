"""The networks of the paper at SD-1.5's size: its pose guider, AnimateDiff v2's temporal layers, its temporal
aggregation.

    from configs.sd15 import config
"""  # fmt: skip

from aa_jax.config import ModelConfig
from aa_jax.models.config import CLIPVisionConfig, MotionConfig, PoseGuiderConfig, UNetConfig, VAEConfig


def config() -> ModelConfig:
    """All values are the defaults of the dataclasses, but for the choice of networks."""
    return ModelConfig(
        denoising_unet=UNetConfig(motion=MotionConfig()),
        reference_unet=UNetConfig(),
        pose_guider=PoseGuiderConfig(architecture="paper", out_channels=4),
        vae=VAEConfig(),
        image_encoder=CLIPVisionConfig(),
    )
