"""Frames in the size that a network takes, by the filters of the published pipelines, without rounding to 8 bits."""

import functools
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

Filter = Literal["bilinear", "bicubic"]
WindowResize = Literal["bicubic_stretch", "bilinear_crop"]


def to_square(frames: UInt8[np.ndarray, "t h w 3"], size: int, how: WindowResize) -> Float[Array, "t size size 3"]:
    """Frames as squares, pixels in [0, 255] and, by the bicubic filter, a little beyond.

    Args:
      how: "bicubic_stretch": the whole frame, whatever its aspect (DisCo's `make_resizer`); "bilinear_crop": the
        shorter side to `size`, then the centre (`preprocess_single` of VideoGPT and StyleGAN-V).

    Raises:
      ValueError: an unknown way.
    """
    if how not in get_args(WindowResize):
        raise ValueError(f"resize {how!r} given, expected one of {', '.join(get_args(WindowResize))}")
    if how == "bicubic_stretch":
        return resize_frames(frames, (size, size), "bicubic")
    height, width = frames.shape[1:3]
    # Rounded up from floats, as published: what should be whole may come out one larger.
    scale = size / min(height, width)
    target = (size, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), size)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return resize_frames(frames, target, "bilinear")[:, top : top + size, left : left + size]


@functools.partial(jax.jit, static_argnums=(1, 2))
def resize_frames(
    frames: UInt8[Array, "t h w 3"], size: tuple[int, int], kind: Filter
) -> Float[Array, "t height width 3"]:
    """Frames in another size, (height, width).

    Args:
      kind: "bilinear" is PyTorch's `interpolate` with align_corners=False, which does not smooth where it makes frames
        smaller; "bicubic" is Pillow's, which does, for images of floats (mode "F").
    """
    rows, columns = (_line_weights(*sizes, kind) for sizes in zip(frames.shape[1:3], size, strict=True))

    def one(frame: UInt8[Array, "h w 3"]) -> Float[Array, "height width 3"]:
        pixels = frame.astype(jnp.float32)
        return jnp.einsum("yh,xw,hwc->yxc", rows, columns, pixels, precision=jax.lax.Precision.HIGHEST)

    # One by one, since a frame may be a hundred times the size of what becomes of it.
    return jax.lax.map(one, frames)


def _line_weights(old: int, new: int, kind: Filter) -> Float[np.ndarray, "new old"]:
    """The share of each old pixel of a line in each new one, float32."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None])
    if kind == "bilinear":
        shares = np.maximum(1 - distance, 0)
    else:
        d = distance / max(scale, 1)
        # Keys' cubic with a = -1/2.
        near, far = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
        shares = np.where(d < 1, near, np.where(d < 2, far, 0))
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)
