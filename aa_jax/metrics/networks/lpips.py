"""LPIPS's network (Zhang et al., arXiv 1801.03924, version 0.1 of its published heads)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.metrics.networks.layers import Conv, Tower

# The statistics of ImageNet, as the published code states them for images in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10


class LPIPS(nnx.Module):
    """Distances of pairs of images: squared differences of unit-length features of five layers, weighted by channel,
    averaged over places, and summed over layers."""

    def __init__(self, net: Tower):
        self.net = net
        for number, width in enumerate(net.widths):
            setattr(self, f"lin{number}", Conv(width, 1, (1, 1)))

    def __call__(self, first: Float[Array, "b h w 3"], second: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
        """Images in [-1, 1] to distances."""
        images = (jnp.concatenate([first, second]) - jnp.asarray(SHIFT)) / jnp.asarray(SCALE)
        distance = jnp.zeros(len(first))
        for number, features in enumerate(self.net(images)):
            squares = jnp.sum(jnp.square(features), -1, keepdims=True)
            # Where all features are 0, so is the length; the square root's infinite slope there would make NaN.
            length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
            one, other = jnp.split(features / (length + EPSILON), 2)
            weighted = getattr(self, f"lin{number}")(jnp.square(one - other))
            distance += jnp.mean(weighted, (1, 2, 3))
        return distance
