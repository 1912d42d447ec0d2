"""The networks by name, and how to make one without its weights."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from aa_jax.models.clip_vision import CLIPVisionModelWithProjection
from aa_jax.models.config import Policy
from aa_jax.models.controlnet import ControlNet
from aa_jax.models.denoising_unet import DenoisingUNet
from aa_jax.models.pose_guider import PoseGuider
from aa_jax.models.reference_net import ReferenceNet
from aa_jax.models.vae import AutoencoderKL

NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "reference_unet": ReferenceNet,
    "denoising_unet": DenoisingUNet,
    "controlnet": ControlNet,
    "pose_guider": PoseGuider,
    "vae": AutoencoderKL,
    "image_encoder": CLIPVisionModelWithProjection,
}
"""Network classes under the names that published systems give them; each is built from its own configuration."""


class OneKey:
    """Stands in for `nnx.Rngs` where only shapes count: tracing a UNet with its counters takes time quadratic in the
    layers."""

    def __init__(self) -> None:
        self.key = jax.random.key(0)

    def params(self) -> jax.Array:
        """The key."""
        return self.key


def abstract_network(name: str, config: Any, policy: Policy | None = None) -> nnx.Module:
    """The network with shapes in place of arrays: nothing is allocated."""
    return nnx.eval_shape(lambda: NETWORKS[name](config, policy=policy or Policy(), rngs=OneKey()))
