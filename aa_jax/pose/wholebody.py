"""COCO-WholeBody arrays, as DWPose, rtmlib and MMPose give them, to and from `Keypoints`.

COCO-WholeBody has 133 points: 0-16 body, 17-22 feet, 23-90 face, 91-111 left hand, 112-132 right hand. With a neck and
the body in OpenPose's order they are the 134 points of `Keypoints`.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from aa_jax.pose.keypoints import NUM_KEYPOINTS, VISIBLE, Keypoints
from aa_jax.pose.people import Choice, People, check_size, follow

NUM_COCO = 133
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6
# Of each of the 134 points, the place among COCO's with the neck put last.
FROM_COCO = (0, NUM_COCO, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, *range(17, NUM_COCO))
TO_COCO = tuple(FROM_COCO.index(point) for point in range(NUM_COCO))

Neck = Literal["dwpose", "minimum"]
Layout = Literal["openpose", "coco"]
Detections = Sequence[np.ndarray | None] | np.ndarray


def coco_to_openpose(
    points: Float[np.ndarray, "*n 133 2"], scores: Float[np.ndarray, "*n 133"], *, neck: Neck
) -> tuple[Float[np.ndarray, "*n 134 2"], Float[np.ndarray, "*n 134"]]:
    """Insert the neck, midway between the shoulders, and order the body as OpenPose does.

    Args:
      points: x and y in any unit.
      scores: of the points.
      neck: its score: "dwpose" 1 where both shoulders are above 0.3, else 0; "minimum" the lesser of the shoulders'
        (rtmlib).

    Raises:
      ValueError: other shapes, or an unknown `neck`.
    """
    if neck not in get_args(Neck):
        raise ValueError(f"neck {neck!r} given, expected one of {', '.join(get_args(Neck))}")
    points, scores = np.asarray(points), np.asarray(scores)
    if points.shape[-2:] != (NUM_COCO, 2) or scores.shape != points.shape[:-1]:
        raise ValueError(
            f"points of shape {points.shape} and scores of shape {scores.shape} given, "
            f"expected (..., {NUM_COCO}, 2) and (..., {NUM_COCO})"
        )
    shoulders = scores[..., [LEFT_SHOULDER, RIGHT_SHOULDER]]
    least = shoulders.min(axis=-1, keepdims=True)
    neck_score = (least > VISIBLE).astype(scores.dtype) if neck == "dwpose" else least
    neck_point = points[..., [LEFT_SHOULDER, RIGHT_SHOULDER], :].mean(axis=-2, keepdims=True)
    with_neck = np.concatenate([points, neck_point], axis=-2), np.concatenate([scores, neck_score], axis=-1)
    return with_neck[0][..., FROM_COCO, :], with_neck[1][..., FROM_COCO]


def openpose_to_coco(
    points: Float[np.ndarray, "*n 134 2"], scores: Float[np.ndarray, "*n 134"]
) -> tuple[Float[np.ndarray, "*n 133 2"], Float[np.ndarray, "*n 133"]]:
    """Drop the neck and order the body as COCO does: the inverse of `coco_to_openpose`."""
    return points[..., TO_COCO, :], scores[..., TO_COCO]


def from_dwpose(
    points: Detections,
    scores: Detections,
    *,
    height: int,
    width: int,
    fps: float | None = None,
    choose: Choice = "best",
) -> Keypoints:
    """Keypoints of what DWPose found.

    Args:
      points: one entry a frame, in pixels: everyone in it (n, k, 2), one person (k, 2), or None or an empty array for
        nobody; k is 134, or 133 before the neck was inserted. Of a single image `[points]`.
      scores: one entry a frame: (n, k) or (k,).
      height: of the frames, in pixels.
      width: of the frames, in pixels.
      fps: frames per second.
      choose: whom to follow, see `aa_jax.pose.people.follow`.

    Raises:
      ValueError: other shapes, values that are not finite, or nobody in any frame.
    """
    return _from_arrays(points, scores, "dwpose", height, width, fps, choose)


def from_rtmlib(
    points: Detections,
    scores: Detections,
    *,
    height: int,
    width: int,
    fps: float | None = None,
    choose: Choice = "best",
) -> Keypoints:
    """Keypoints of what rtmlib's `Wholebody` found, with `to_openpose=True` (134 points) or False (133).

    As `from_dwpose`, but a neck that is inserted here scores as rtmlib's does: the lesser of the shoulders'.
    """
    return _from_arrays(points, scores, "minimum", height, width, fps, choose)


def to_arrays(
    keypoints: Keypoints, *, layout: Layout = "openpose"
) -> tuple[Float[np.ndarray, "t k 2"], Float[np.ndarray, "t k"]]:
    """Pixel coordinates and scores: k is 134 in the layout "openpose" (DWPose, rtmlib), 133 in "coco" (MMPose).

    Raises:
      ValueError: an unknown layout.
    """
    if layout not in get_args(Layout):
        raise ValueError(f"layout {layout!r} given, expected one of {', '.join(get_args(Layout))}")
    points = keypoints.points * np.array([keypoints.width, keypoints.height], np.float32)
    return (points, keypoints.scores) if layout == "openpose" else openpose_to_coco(points, keypoints.scores)


def _from_arrays(
    points: Detections, scores: Detections, neck: Neck, height: int, width: int, fps: float | None, choose: Choice
) -> Keypoints:
    check_size(height, width)
    if len(points) != len(scores):
        raise ValueError(
            f"points of {len(points)} frames and scores of {len(scores)} given, expected one entry of each a frame"
        )
    people = [
        _people(*frame, neck, height, width, f"frame {index}")
        for index, frame in enumerate(zip(points, scores, strict=True))
    ]
    return follow(people, height=height, width=width, fps=fps, choose=choose)


def _people(
    points: np.ndarray | None, scores: np.ndarray | None, neck: Neck, height: int, width: int, where: str
) -> People:
    if points is None or not np.size(points):
        return People.nobody()
    points, scores = np.asarray(points), np.asarray(scores)
    if points.ndim == 2:
        points, scores = points[None], scores[None]
    if points.ndim != 3 or points.shape[1] not in (NUM_COCO, NUM_KEYPOINTS) or points.shape[2] != 2:
        raise ValueError(
            f"{where} has points of shape {points.shape}, expected (n, {NUM_KEYPOINTS}, 2) or (n, {NUM_COCO}, 2)"
        )
    if scores.shape != points.shape[:2]:
        raise ValueError(f"{where} has scores of shape {scores.shape}, expected {points.shape[:2]}")
    if points.dtype.kind not in "fiu" or scores.dtype.kind not in "fiu":
        raise ValueError(f"{where} has points of {points.dtype} and scores of {scores.dtype}, expected real numbers")
    if points.shape[1] == NUM_COCO:
        points, scores = coco_to_openpose(points, scores, neck=neck)
    try:
        return People(points=points / (width, height), scores=scores)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
