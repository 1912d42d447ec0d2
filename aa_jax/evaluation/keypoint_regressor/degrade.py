"""What generated frames suffer from, done to true renders while the network learns.

Values are in [0, 1], frames (b, h, w, 3); every frame of a batch gets its own strengths. Randomness is one key's.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Frames = Float[Array, "b h w 3"]
Key = jax.Array
UNTOUCHED = 0.2
"""Share of frames that stay as they are."""
BLOBS = 3
BLUR_TAPS = 4
"""Pixels on either side that blur reaches."""
JPEG_BLOCK = 8


def degrade(key: Key, frames: Frames) -> Frames:
    """Occluded, recoloured, shrunk and enlarged again, blurred, blotched, noisy and quantised, each at random."""
    keys = iter(jax.random.split(key, 12))
    count = len(frames)

    def strength(most: float, share: float = 0.5) -> Float[Array, "b 1 1 1"]:
        """0 to `most`, and more often than by `share` 0."""
        drawn = jax.random.uniform(next(keys), (2, count, 1, 1, 1))
        return jnp.where(drawn[0] < share, most * drawn[1], 0.0)

    degraded = occlude(next(keys), frames)
    degraded = recolour(next(keys), degraded)
    halved = jax.random.bernoulli(next(keys), 0.25, (count, 1, 1, 1))
    degraded = jnp.where(halved, _rescaled(degraded, 2), degraded)
    degraded = blur(degraded, strength(1.6))
    degraded += strength(0.12) * _blotches(next(keys), frames.shape)
    degraded += strength(0.08) * jax.random.normal(next(keys), frames.shape)
    degraded = quantise(degraded, strength(0.06))
    untouched = jax.random.bernoulli(next(keys), UNTOUCHED, (count, 1, 1, 1))
    return jnp.where(untouched, frames, jnp.clip(degraded, 0.0, 1.0))


def occlude(key: Key, frames: Frames) -> Frames:
    """Up to `BLOBS` ellipses, of any colour, of up to a quarter of the height."""
    count, height, width, _ = frames.shape
    place, size, paint, there = jax.random.split(key, 4)
    y, x = jnp.arange(height)[:, None] + 0.5, jnp.arange(width) + 0.5
    centres = jax.random.uniform(place, (BLOBS, 2, count, 1, 1)) * jnp.array([height, width])[None, :, None, None, None]
    radii = jax.random.uniform(size, (BLOBS, 2, count, 1, 1), minval=height / 32, maxval=height / 8)
    colours = jax.random.uniform(paint, (BLOBS, count, 1, 1, 3))
    shown = jax.random.bernoulli(there, 0.25, (BLOBS, count, 1, 1))
    for centre, radius, colour, on in zip(centres, radii, colours, shown, strict=True):
        inside = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
        frames = jnp.where((inside & on)[..., None], colour, frames)
    return frames


def recolour(key: Key, frames: Frames) -> Frames:
    """Contrast, brightness and colours by up to about a sixth, saturation by up to half."""
    gain, shift, grey = jax.random.split(key, 3)
    count = len(frames)
    mean = frames.mean(axis=-1, keepdims=True)
    saturation = jax.random.uniform(grey, (count, 1, 1, 1), minval=0.5, maxval=1.3)
    coloured = mean + saturation * (frames - mean)
    coloured *= jax.random.uniform(gain, (count, 1, 1, 3), minval=0.85, maxval=1.15)
    return coloured + jax.random.uniform(shift, (count, 1, 1, 3), minval=-0.08, maxval=0.08)


def blur(frames: Frames, deviation: Float[Array, "b 1 1 1"]) -> Frames:
    """Smoothed by a Gaussian of so many pixels; with 0, as they were."""
    offsets = np.arange(-BLUR_TAPS, BLUR_TAPS + 1)
    weights = jax.nn.softmax(-(offsets**2) / (2 * jnp.maximum(deviation[:, 0, 0], 0.1) ** 2), axis=-1)
    for axis in (1, 2):
        ends = [(0, 0)] * 4
        ends[axis] = (BLUR_TAPS, BLUR_TAPS)
        padded, length = jnp.pad(frames, ends, "edge"), frames.shape[axis]
        shifted = jnp.stack([jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(len(offsets))])
        frames = jnp.einsum("sbhwc,bs->bhwc", shifted, weights)
    return frames


def quantise(frames: Frames, step: Float[Array, "b 1 1 1"]) -> Frames:
    """What JPEG does to a channel: cosine transforms of blocks of 8x8 pixels, rounded to multiples of `step`, of more
    for finer waves; with 0, as they were."""
    count, height, width, _ = frames.shape
    place = np.arange(JPEG_BLOCK)
    cosines = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * JPEG_BLOCK)) * np.sqrt(2 / JPEG_BLOCK)
    cosines[0] /= np.sqrt(2)
    blocks = frames.reshape(count, height // JPEG_BLOCK, JPEG_BLOCK, width // JPEG_BLOCK, JPEG_BLOCK, 3)
    waves = jnp.einsum("biujvc,xu,yv->bixjyc", blocks, cosines, cosines)
    steps = jnp.maximum(step[..., None, None], 1e-4) * (1 + place[:, None, None, None] + place[:, None])
    rounded = jnp.round(waves / steps) * steps
    return jnp.einsum("bixjyc,xu,yv->biujvc", rounded, cosines, cosines).reshape(frames.shape)


def _rescaled(frames: Frames, factor: int) -> Frames:
    count, height, width, _ = frames.shape
    small = jax.image.resize(frames, (count, height // factor, width // factor, 3), "linear", antialias=True)
    return jax.image.resize(small, frames.shape, "linear")


def _blotches(key: Key, shape: tuple[int, ...]) -> Frames:
    """Noise of 4x4 pixels, smoothed."""
    count, height, width, _ = shape
    return jax.image.resize(jax.random.normal(key, (count, height // 4, width // 4, 3)), shape, "linear")
