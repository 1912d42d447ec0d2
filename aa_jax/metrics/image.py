"""Metrics of predicted against true frames, one number a frame.

Frames are uint8 RGB (t, h, w, 3), NumPy's or JAX's. They go to the device in batches of one size, so that a program is
compiled once for each size of frame, and memory is bounded however long a clip is.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Shaped, UInt8

Clip = UInt8[Array, "t h w 3"] | UInt8[np.ndarray, "t h w 3"]
Mask = Bool[Array, "t h w"] | Bool[np.ndarray, "t h w"]
Frame = UInt8[Array, "h w 3"]
# Frames on the device at once.
BATCH = 8
# PSNR of equal frames, which DisCo's evaluation and the tables that follow it use for infinity.
PSNR_OF_EQUALS = 100.0
# OpenCV's weights of R, G and B in gray, with 15 bits behind the binary point.
GRAY, GRAY_BITS = (9798, 19235, 3735), 15
# Wang et al. 2004: (K1 L)^2 and (K2 L)^2, with L the range of values.
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
UNIFORM_WINDOW = np.full(7, 1 / 7)
# 11 taps, standard deviation 1.5.
GAUSSIAN_WINDOW = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
GAUSSIAN_WINDOW /= GAUSSIAN_WINDOW.sum()


def psnr(predicted: Clip, true: Clip, mask: Mask | None = None) -> Float[np.ndarray, " t"]:
    """Peak signal-to-noise ratio in dB, `10 log10(255^2 / mean squared error)`; equal frames have 100, as in DisCo.

    Args:
      mask: the pixels that count, all by default. A frame without any has NaN.

    Raises:
      ValueError: clips or mask of other types or shapes.
    """
    _check(predicted, true)
    if mask is None:
        return each_frame(_psnr, predicted, true)
    if mask.shape != true.shape[:3] or mask.dtype != np.bool_:
        raise ValueError(f"mask {mask.dtype} {mask.shape} given for clips {true.shape}, expected bool {true.shape[:3]}")
    return each_frame(_psnr, predicted, true, mask)


def psnr_uint8_overflow(predicted: Clip, true: Clip) -> Float[np.ndarray, " t"]:
    """What many papers print as PSNR: differences and their squares are taken modulo 256.

    That is NumPy's `np.mean((predicted - true) ** 2)` of uint8 images, as in DisCo's evaluation before April 2024 (its
    issue 86). It is far too high, and hardly ever below 28 dB: for comparison with old tables alone.

    Raises:
      ValueError: clips of other types or shapes.
    """
    _check(predicted, true)
    return each_frame(_psnr_uint8_overflow, predicted, true)


def l1(predicted: Clip, true: Clip) -> Float[np.ndarray, " t"]:
    """Mean absolute difference, of values in [0, 1].

    Raises:
      ValueError: clips of other types or shapes.
    """
    _check(predicted, true)
    return each_frame(_l1, predicted, true)


def l1_disco(predicted: Clip, true: Clip) -> Float[np.ndarray, " t"]:
    """DisCo's L1 (its `tool/metrics/ssim_l1_lpips_psnr.py`): the mean absolute difference, of values in [0, 255], is
    once more divided by the number of pixels, so that it depends on the frames' size.

    Raises:
      ValueError: clips of other types or shapes.
    """
    mean = l1(predicted, true)
    height, width = true.shape[1:3]
    return mean * np.float32(255 / (height * width))


def ssim(predicted: Clip, true: Clip) -> Float[np.ndarray, " t"]:
    """Structural similarity as DisCo takes it: scikit-image's default, of frames made gray by OpenCV.

    That is a uniform window of 7 x 7 pixels, variances of a sample (divided by 48), and the mean over all windows that
    lie in the image.

    Raises:
      ValueError: clips of other types or shapes, or frames smaller than the window.
    """
    _check(predicted, true, least=len(UNIFORM_WINDOW))
    return each_frame(_ssim, predicted, true)


def ssim_gaussian(predicted: Clip, true: Clip) -> Float[np.ndarray, " t"]:
    """Structural similarity of Wang et al. 2004: a Gaussian window of 11 x 11 pixels with standard deviation 1.5,
    variances of a population, the mean over all windows that lie in the image and over R, G and B.

    Raises:
      ValueError: clips of other types or shapes, or frames smaller than the window.
    """
    _check(predicted, true, least=len(GAUSSIAN_WINDOW))
    return each_frame(_ssim_gaussian, predicted, true)


def to_gray(frame: Frame) -> UInt8[Array, "h w"]:
    """Gray as OpenCV has it (`cv2.cvtColor`), to the bit."""
    weighted = frame.astype(jnp.int32) @ jnp.array(GRAY, jnp.int32)
    return ((weighted + (1 << (GRAY_BITS - 1))) >> GRAY_BITS).astype(jnp.uint8)


def each_frame(of_frame: Callable[..., Array], *clips: Array | np.ndarray) -> Shaped[np.ndarray, "t ..."]:
    """A function of frames, applied to each frame of clips of one length.

    Args:
      of_frame: of arrays without the axis t. It is compiled, and what was compiled is kept as long as the function is.
      clips: arrays that begin with the axis t.
    """
    count = len(clips[0])
    # The last batch is filled up with the last frame.
    batches = [np.minimum(np.arange(start, start + BATCH), count - 1) for start in range(0, count, BATCH)]
    results = [_each_frame(of_frame, *(clip[indices] for clip in clips)) for indices in batches]
    return np.concatenate([np.asarray(result) for result in results])[:count]


@functools.partial(jax.jit, static_argnums=0)
def _each_frame(of_frame: Callable[..., Array], *clips: Shaped[Array, "t ..."]) -> Shaped[Array, "t ..."]:
    return jax.vmap(of_frame)(*clips)


def exact_mean(values: Integer[Array, "h w c"], mask: Bool[Array, "h w"] | None = None) -> Float[Array, ""]:
    """The mean over pixels and channels of whole numbers from 0 to 2^18, whose sums float32 would round; NaN if no
    pixel counts."""
    if mask is None:
        mask = jnp.ones(values.shape[:2], bool)
    rows = jnp.sum(jnp.where(mask[..., None], values, 0), axis=1, dtype=jnp.uint32)
    return jnp.sum(rows.astype(jnp.float32)) / (jnp.sum(mask) * values.shape[2])


def _check(predicted: Clip, true: Clip, least: int = 1) -> None:
    if predicted.shape != true.shape or true.shape[3:] != (3,) or not predicted.dtype == true.dtype == np.uint8:
        raise ValueError(
            f"predicted frames {predicted.dtype} {predicted.shape} and true frames {true.dtype} {true.shape} given, "
            "expected uint8 (t, h, w, 3) of one shape"
        )
    if len(true) == 0 or min(true.shape[1:3]) < least:
        raise ValueError(f"clips {true.shape} given, expected a frame or more, of {least}x{least} pixels or more")


def _difference(predicted: Frame, true: Frame) -> Integer[Array, "h w 3"]:
    return predicted.astype(jnp.int32) - true.astype(jnp.int32)


def _decibels(squared_error: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(squared_error == 0, PSNR_OF_EQUALS, 10 * jnp.log10(255**2 / squared_error))


def _psnr(predicted: Frame, true: Frame, mask: Bool[Array, "h w"] | None = None) -> Float[Array, ""]:
    return _decibels(exact_mean(_difference(predicted, true) ** 2, mask))


def _psnr_uint8_overflow(predicted: Frame, true: Frame) -> Float[Array, ""]:
    return _decibels(exact_mean((predicted - true) ** 2))


def _l1(predicted: Frame, true: Frame) -> Float[Array, ""]:
    return exact_mean(jnp.abs(_difference(predicted, true))) / 255


def _ssim(predicted: Frame, true: Frame) -> Float[Array, ""]:
    size = len(UNIFORM_WINDOW) ** 2
    return _similarity(to_gray(predicted)[None], to_gray(true)[None], UNIFORM_WINDOW, size / (size - 1))


def _ssim_gaussian(predicted: Frame, true: Frame) -> Float[Array, ""]:
    # Channels first: rows are then whole in memory, which is four times as fast on a CPU.
    return _similarity(jnp.moveaxis(predicted, 2, 0), jnp.moveaxis(true, 2, 0), GAUSSIAN_WINDOW, 1.0)


def _similarity(
    x: UInt8[Array, "c h w"], y: UInt8[Array, "c h w"], window: Float[np.ndarray, " k"], correction: float
) -> Float[Array, ""]:
    """Mean structural similarity; variances are multiplied with `correction`."""
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    # In terms of sums and differences: var(x + y) - var(x - y) = 4 cov(x, y), and likewise for squares of means.
    (mean_sum, variance_sum), (mean_difference, variance_difference) = (
        _local_moments(values, window) for values in (x + y, x - y)
    )
    a, b = mean_sum**2 / 2, mean_difference**2 / 2
    c, d = correction * variance_sum / 2, correction * variance_difference / 2
    similarity = (a - b + C1) * (c - d + C2) / ((a + b + C1) * (c + d + C2))
    return jnp.mean(jnp.mean(similarity, axis=2))


def _local_moments(
    x: Float[Array, "c h w"], window: Float[np.ndarray, " k"]
) -> tuple[Float[Array, "c h-k+1 w-k+1"], Float[Array, "c h-k+1 w-k+1"]]:
    """Mean and variance under a separable window, wherever it lies in the image.

    The variance is that within the window's columns and that of their means: sums of squares, with no difference of
    large numbers, which float32 would lose where an image is bright and flat.
    """
    mean, variance = x, jnp.zeros_like(x)
    for axis in (1, 2):
        taps = functools.partial(_weighted_sum, window, axis)
        centre = taps(lambda mean: mean, mean)
        variance = taps(lambda mean, variance, centre=centre: (mean - centre) ** 2 + variance, mean, variance)
        mean = centre
    return mean, variance


def _weighted_sum(
    window: Float[np.ndarray, " k"], axis: int, of_tap: Callable[..., Array], *images: Float[Array, "c h w"]
) -> Array:
    """The sum of `of_tap(*images)` times the window's weights, the images being shifted from tap to tap."""
    weights = jnp.asarray(window, jnp.float32)
    length = images[0].shape[axis] - len(window) + 1

    def add(tap: Array, total: Array) -> Array:
        return total + weights[tap] * of_tap(*(jax.lax.dynamic_slice_in_dim(x, tap, length, axis) for x in images))

    # A loop, for XLA fuses a sum of slices with what is sliced, and computes that again for each of them.
    zeros = jnp.zeros_like(jax.lax.slice_in_dim(images[0], 0, length, axis=axis))
    return jax.lax.fori_loop(0, len(window), add, zeros)
