"""Features of frames and of windows of frames, whose distributions the Fréchet distances compare.

| distance | network   | of                           | frames are resized to              |
| -------- | --------- | ---------------------------- | ---------------------------------- |
| FID      | inception | every frame                  | 299x299, bilinear                  |
| FVD      | i3d       | windows of `WINDOW_LENGTH`   | 224x224, as the protocol says      |
| FID-VID  | resnet3d  | windows of `WINDOW_LENGTH`   | 112x112, as the protocol says      |
"""

import numpy as np
from jaxtyping import Float, UInt8

from aa_jax.metrics.clips import batches, check_clip
from aa_jax.metrics.resize import WindowResize, resize_frames, to_square
from aa_jax.metrics.weights import MetricNetwork

WINDOW_LENGTH = 16
SIZES = {"inception": 299, "i3d": 224, "resnet3d": 112}


def frame_features(
    network: MetricNetwork, frames: UInt8[np.ndarray, "t h w 3"], *, batch_size: int = 16
) -> Float[np.ndarray, "t 2048"]:
    """FID's features, as pytorch-fid computes them from lossless images.

    Args:
      network: of kind "inception".
      batch_size: frames at a time.

    Raises:
      ValueError: another network, or frames that are no clip.
    """
    _check_kind(network, ("inception",))
    check_clip(frames)
    size = SIZES[network.kind]
    return np.concatenate(
        [
            np.asarray(network.apply(resize_frames(frames[batch], (size, size), "bilinear")))
            for batch in batches(len(frames), batch_size)
        ]
    )


def window_features(
    network: MetricNetwork,
    frames: UInt8[np.ndarray, "t h w 3"],
    *,
    stride: int = 1,
    resize: WindowResize = "bicubic_stretch",
    batch_size: int = 4,
) -> Float[np.ndarray, "n d"]:
    """Features of the windows of `WINDOW_LENGTH` frames that begin at every `stride`-th frame.

    Args:
      network: of kind "i3d" (400 logits) or "resnet3d" (2048 values).
      stride: 1 for every window, as DisCo takes them; `WINDOW_LENGTH` for windows side by side.
      resize: how frames become squares of the network's size: "bicubic_stretch", as DisCo makes them, or
        "bilinear_crop", as VideoGPT and StyleGAN-V do; see `to_square`.
      batch_size: windows at a time: no more of a clip than these is held beside it.

    Raises:
      ValueError: another network, frames that are no clip, fewer than a window of them, a stride that is not positive,
        or an unknown way to resize.
    """
    _check_kind(network, ("i3d", "resnet3d"))
    check_clip(frames)
    if stride < 1:
        raise ValueError(f"stride {stride} given, expected 1 or more")
    if len(frames) < WINDOW_LENGTH:
        raise ValueError(f"clip of {len(frames)} frames given, expected {WINDOW_LENGTH} or more, one window's")

    features = []
    for batch in batches((len(frames) - WINDOW_LENGTH) // stride + 1, batch_size):
        starts = stride * np.arange(batch.stop - batch.start)
        first = stride * batch.start
        # Frames that windows share are resized once.
        squares = to_square(frames[first : first + starts[-1] + WINDOW_LENGTH], SIZES[network.kind], resize)
        features.append(np.asarray(network.apply(squares[starts[:, None] + np.arange(WINDOW_LENGTH)])))
    return np.concatenate(features)


def _check_kind(network: MetricNetwork, kinds: tuple[str, ...]) -> None:
    if network.kind not in kinds:
        raise ValueError(f"network of kind {network.kind} given, expected {' or '.join(kinds)}")
