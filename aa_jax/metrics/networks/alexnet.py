"""AlexNet's convolutions (Krizhevsky, arXiv 1404.5997, as in torchvision's `alexnet`), up to the last activation."""

from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.metrics.networks.layers import Conv, Tower


def alexnet() -> Tower:
    """The tower, tapped after each of its five activations."""
    relu = jax.nn.relu
    layers: list[Callable] = [
        Conv(3, 64, (11, 11), stride=4, padding=2, use_bias=True), relu, _pool,
        Conv(64, 192, (5, 5), padding=2, use_bias=True), relu, _pool,
        Conv(192, 384, (3, 3), padding=1, use_bias=True), relu,
        Conv(384, 256, (3, 3), padding=1, use_bias=True), relu,
        Conv(256, 256, (3, 3), padding=1, use_bias=True), relu,
    ]  # fmt: skip
    return Tower(layers, taps=(1, 4, 7, 9, 11), widths=(64, 192, 384, 256, 256))


def _pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    return nnx.max_pool(x, (3, 3), (2, 2))
