"""LPIPS: perceptual distance of images (Zhang et al., arXiv 1801.03924; version 0.1 of the published heads)."""

from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from aa_jax.metrics.clips import batches, check_clip
from aa_jax.metrics.weights import MetricNetwork

PixelRange = Literal["signed", "unit"]


def lpips(
    network: MetricNetwork,
    frames: UInt8[np.ndarray, "t h w 3"],
    others: UInt8[np.ndarray, "t h w 3"],
    *,
    pixel_range: PixelRange = "signed",
    batch_size: int = 4,
) -> Float[np.ndarray, " t"]:
    """Distance of each frame from its counterpart; 0 for equal ones, the lower the more alike.

    Args:
      network: of kind "lpips-alex" or "lpips-vgg".
      pixel_range: what the network is given: "signed", pixels in [-1, 1], is LPIPS as defined; "unit", pixels in
        [0, 1], is what DisCo's `ssim_l1_lpips_psnr.py` does, which leaves `normalize` unset, and thus what tables of
        its protocol hold.
      batch_size: pairs at a time.

    Raises:
      ValueError: another network, clips that are none or differ in shape, or an unknown range.
    """
    if not network.kind.startswith("lpips-"):
        raise ValueError(f"network of kind {network.kind} given, expected lpips-alex or lpips-vgg")
    if pixel_range not in get_args(PixelRange):
        raise ValueError(f"pixel_range {pixel_range!r} given, expected one of {', '.join(get_args(PixelRange))}")
    check_clip(frames)
    check_clip(others, "others")
    if frames.shape != others.shape:
        raise ValueError(f"clips of shapes {frames.shape} and {others.shape} given, expected equal ones")

    scale, shift = (127.5, 1.0) if pixel_range == "signed" else (255.0, 0.0)
    distances = []
    for batch in batches(len(frames), batch_size):
        pair = (jnp.asarray(clip[batch]) / jnp.float32(scale) - shift for clip in (frames, others))
        distances.append(np.asarray(network.apply(*pair)))
    return np.concatenate(distances)
