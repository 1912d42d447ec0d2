"""The percentage of correct keypoints (Yang & Ramanan 2013), here a share in [0, 1]."""

import numpy as np
from jaxtyping import Bool, Float


def pck(
    found: Float[np.ndarray, "t k 2"],
    truth: Float[np.ndarray, "t k 2"],
    visible: Bool[np.ndarray, "t k"],
    threshold: float = 0.05,
    *,
    aspect: float = 3 / 4,
) -> Float[np.ndarray, " t"]:
    """The share of each frame's visible points that were found within `threshold` of the character's height.

    The height is that of the box around the frame's visible true points: nose or eyes to ankles, and less for one who
    squats. A clip's PCK is the mean over its frames, whose points are not pooled.

    Args:
      found: x and y, normalised to [0, 1] by the frame's width and height; what is not finite is not found.
      truth: the true ones.
      visible: the points that count. Points that another part of the body covers do (`SyntheticClip.keypoints`),
        points outside of the frame and on the far side of the head do not.
      threshold: of the distance, as a part of the height.
      aspect: width by height of the frame, by which distances across become comparable with those down; the
        benchmark's frames have 3/4.

    Returns:
      float32; NaN where no two visible points differ in height.

    Raises:
      ValueError: arrays of other shapes, or a threshold or aspect that is not positive.
    """
    if found.shape != truth.shape or truth.shape[2:] != (2,) or visible.shape != truth.shape[:2]:
        raise ValueError(
            f"points {found.shape}, true points {truth.shape} and visibility {visible.shape} given, "
            "expected (t, k, 2), the same, and (t, k)"
        )
    if visible.dtype != np.bool_:
        raise ValueError(f"visibility of dtype {visible.dtype} given, expected bool: compare scores with `VISIBLE`")
    if not (threshold > 0 and aspect > 0):
        raise ValueError(f"threshold {threshold} and aspect {aspect} given, expected positive numbers")
    truth = truth.astype(np.float64)
    y = truth[..., 1]
    top = np.min(y, axis=1, initial=np.inf, where=visible)
    bottom = np.max(y, axis=1, initial=-np.inf, where=visible)
    height = np.where(bottom > top, bottom - top, np.nan)
    distance = np.linalg.norm((found - truth) * (aspect, 1), axis=-1)
    correct = (distance <= threshold * height[:, None]) & visible
    share = correct.sum(axis=1) / np.maximum(visible.sum(axis=1), 1)
    return np.where(np.isnan(height), np.nan, share).astype(np.float32)
