"""Pillow's bicubic resizing of images, bit for bit, inside a program.

Pillow weighs pixels by integers, the columns first and then the rows, and rounds to bytes after each; so does this.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

BITS = 22
"""Of a weight, behind the point."""


def resize_bicubic(image: UInt8[Array, "h w 3"], height: int, width: int) -> UInt8[Array, "height width 3"]:
    """`PIL.Image.resize((width, height), BICUBIC)` of an image, which may be traced."""
    columns = _resize_rows(image.swapaxes(0, 1), width)
    return _resize_rows(columns.swapaxes(0, 1), height)


def _resize_rows(image: UInt8[Array, "n m 3"], size: int) -> UInt8[Array, "size m 3"]:
    pixels, weights = taps(len(image), size)
    weighted = image[pixels].astype(jnp.int32) * weights[:, :, None, None]
    rounded = (weighted.sum(axis=1) + (1 << BITS - 1)) >> BITS
    return jnp.clip(rounded, 0, 255).astype(jnp.uint8)


def taps(size: int, target: int) -> tuple[Int[np.ndarray, "target k"], Int[np.ndarray, "target k"]]:
    """Of `size` pixels, which ones each of `target` is made of, and how much they weigh; in a smaller picture the cubic
    is as much wider as the pixels are, and none reaches beyond the border."""
    scale = size / target
    wider = max(scale, 1.0)
    centre = (np.arange(target)[:, None] + 0.5) * scale
    first = np.maximum((centre - 2 * wider + 0.5).astype(int), 0)
    stop = np.minimum((centre + 2 * wider + 0.5).astype(int), size)
    pixels = first + np.arange(int(np.max(stop - first)))
    weights = np.where(pixels < stop, cubic((pixels - centre + 0.5) / wider), 0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    fixed = np.trunc(weights * (1 << BITS) + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(pixels, size - 1), fixed


def cubic(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Keys' cubic convolution with a = -1/2, which ends at 2."""
    x = np.abs(x)
    inner, outer = 1 + x**2 * (1.5 * x - 2.5), 2 - x * (4 - x * (2.5 - 0.5 * x))
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))
