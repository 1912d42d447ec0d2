"""Configurations of networks small enough for tests."""

from aa_jax.models.config import CLIPVisionConfig

IMAGE_ENCODER = CLIPVisionConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, projection_dim=8
)
