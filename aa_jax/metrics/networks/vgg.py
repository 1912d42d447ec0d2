"""VGG-16's convolutions (Simonyan & Zisserman, arXiv 1409.1556, as in torchvision's `vgg16`), up to the last
activation."""

from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.metrics.networks.layers import Conv, Tower

# Channels of the 3x3 convolutions between two pools.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16() -> Tower:
    """The tower, tapped after the last activation of each of its five stages."""
    layers: list[Callable] = []
    taps, channels = [], 3
    for stage in STAGES:
        if layers:
            layers.append(_pool)
        for width in stage:
            layers += [Conv(channels, width, (3, 3), padding=1, use_bias=True), jax.nn.relu]
            channels = width
        taps.append(len(layers) - 1)
    return Tower(layers, taps=tuple(taps), widths=tuple(stage[-1] for stage in STAGES))


def _pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    return nnx.max_pool(x, (2, 2), (2, 2))
