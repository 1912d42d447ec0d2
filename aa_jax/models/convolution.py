"""2-D convolutions, by the fastest of several exact algorithms; the one place that knows them.

Every device but a CPU takes XLA's own. There, in float32, wide 3x3 convolutions take about half its time as products of
matrices: Winograd's F(2x2, 3x3) (Lavin & Gray, arXiv 1509.09308) with 4 products for each 9 of the plain sum, or, for a
few pixels, one product with all neighbourhoods side by side. Both differ from XLA's by about 1e-6.

Axes: b images, h height, w width, c and d channels, u and v rows and columns of 2x2 tiles.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aa_jax.models.platform import platform

NARROWEST = 128
"""Channels from which the products pay for the sums around them, and for the longer compilation."""
FEWEST_PIXELS = 257
"""Pixels of all images from which Winograd's many small products are faster than one large one."""
TILES = 512
"""Tiles computed at a time: enough for large products, few enough for their transforms to stay near the caches."""


def conv_general_dilated(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    strides: tuple[int, int],
    padding: Any,
    **options: Any,
) -> Float[Array, "b h2 w2 d"]:
    """`jax.lax.conv_general_dilated` as `nnx.Conv` calls it, channels last."""
    size, channels = kernel.shape[:2], min(kernel.shape[2:])
    plain = platform() != "cpu" or x.dtype != jnp.float32 or tuple(strides) != (1, 1)
    if not plain and size == (1, 1):
        return x @ kernel[0, 0]
    if plain or size != (3, 3) or tuple(map(tuple, padding)) != ((1, 1), (1, 1)) or channels < NARROWEST:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return neighbourhoods(x, kernel) if math.prod(x.shape[:3]) < FEWEST_PIXELS else winograd(x, kernel)


def neighbourhoods(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b h w d"]:
    """A 3x3 convolution with padding 1 as one product: nine shifted images side by side, times the kernel."""
    _, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, -1) @ kernel.reshape(9 * c, -1)


def winograd(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b h w d"]:
    """A 3x3 convolution with padding 1, by tiles of 2x2 outputs from 4x4 inputs: Y = A'[(G g G') * (B' d B)]A."""
    b, h, w, c = x.shape
    u, v = math.ceil(h / 2), math.ceil(w / 2)
    # Beside its use: hoisted out of the sampler's loop, all layers' kernels would take 2 GiB more at SD-1.5's size.
    x, kernel = jax.lax.optimization_barrier((x, kernel))
    weights = _both_axes(_of_kernel, [[kernel[i, j] for j in range(3)] for i in range(3)])

    def some_images(x: Float[Array, "n h w c"]) -> Float[Array, "n h w d"]:
        padded = jnp.pad(x, ((0, 0), (1, 2 * u - h + 1), (1, 2 * v - w + 1), (0, 0)))
        halves = padded.reshape(-1, u + 1, 2, v + 1, 2, c)
        tiles = [[halves[:, i // 2 :, i % 2, j // 2 :, j % 2][:, :u, :v] for j in range(4)] for i in range(4)]
        data = _both_axes(_of_data, tiles)
        products = [[data[i][j] @ weights[i][j] for j in range(4)] for i in range(4)]
        rows = [jnp.stack(row, axis=3) for row in _both_axes(_of_result, products)]
        return jnp.stack(rows, axis=2).reshape(-1, 2 * u, 2 * v, kernel.shape[-1])[:, :h, :w]

    step = max(n for n in range(1, b + 1) if b % n == 0 and (n == 1 or n * u * v <= TILES))
    if step == b:
        return some_images(x)
    return jax.lax.map(some_images, x.reshape(-1, step, h, w, c)).reshape(b, h, w, -1)


def _of_data(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return a - c, b + c, c - b, b - d


def _of_kernel(a: Array, b: Array, c: Array) -> tuple[Array, ...]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_result(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return a + b + c, b - c - d


def _both_axes(transform: Callable[..., tuple[Array, ...]], grid: list[list[Array]]) -> list[tuple[Array, ...]]:
    """M grid M', where `transform` is the product of M with a column."""
    columns = [transform(*column) for column in zip(*grid, strict=True)]
    return [transform(*row) for row in zip(*columns, strict=True)]
