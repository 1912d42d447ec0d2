"""Keypoints of one person over time: the COCO-WholeBody points with a neck, in OpenPose's order.

    0-17 body (OpenPose-18), 18-23 feet, 24-91 face, 92-112 left hand, 113-133 right hand

Body: 0 nose, 1 neck, 2-4 right arm, 5-7 left arm, 8-10 right leg, 11-13 left leg, 14 and 15 right and left eye, 16 and
17 right and left ear. Feet: big toe, small toe, heel; left, then right.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

NUM_KEYPOINTS = 134
BODY = slice(0, 18)
FEET = slice(18, 24)
FACE = slice(24, 92)
LEFT_HAND = slice(92, 113)
RIGHT_HAND = slice(113, 134)

# DWPose's score from which on a point counts as seen.
VISIBLE = 0.3
# Cropping and retargeting move points out of the image, but not by many image sizes: only pixel coordinates are beyond.
FARTHEST = 16.0


def check_points(points: np.ndarray, scores: np.ndarray) -> None:
    """Raise ValueError unless points (..., 134, 2) and scores (..., 134) are keypoints in normalised coordinates."""
    if points.shape[-2:] != (NUM_KEYPOINTS, 2) or scores.shape != points.shape[:-1]:
        raise ValueError(
            f"keypoints have points of shape {points.shape} and scores of shape {scores.shape}, "
            f"expected (..., {NUM_KEYPOINTS}, 2) and (..., {NUM_KEYPOINTS})"
        )
    for array, what in ((points, "points"), (scores, "scores")):
        if array.dtype.kind not in "fiu":
            raise ValueError(f"keypoints have {what} of dtype {array.dtype}, expected real numbers")
        if not np.isfinite(array).all():
            raise ValueError(
                f"keypoints have {what} that are NaN or infinite: give a missing point score 0 and any place"
            )
    farthest = (np.abs(points) * (scores >= VISIBLE)[..., None]).max(initial=0)
    if farthest > FARTHEST:
        raise ValueError(
            f"keypoints have visible points as far out as {farthest:g}, expected coordinates normalised to [0, 1]: "
            "divide x by the image's width and y by its height"
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Keypoints:
    """The keypoints of one person in every frame of a clip.

    Attributes:
      points: (t, 134, 2) x and y, float32, normalised to [0, 1] by the width and height of the image; may lie outside
        of it.
      scores: (t, 134) confidence, float32; a point is visible from `VISIBLE` on. Detectors give about [0, 1], and may
        exceed 1.
      height: height in pixels of the images that the points were found in.
      width: width in pixels of those images; width / height turns normalised lengths into comparable ones.
      fps: frames per second of the clip, or None where that is not known.

    Raises:
      ValueError: a wrong shape, no frame, a value that is not finite, coordinates in pixels, or a size or rate that is
        not positive.
    """

    points: Float[np.ndarray, "t 134 2"]
    scores: Float[np.ndarray, "t 134"]
    height: int
    width: int
    fps: float | None = None

    def __post_init__(self) -> None:
        points, scores = np.asarray(self.points), np.asarray(self.scores)
        check_points(points, scores)
        if points.ndim != 3 or not len(points):
            raise ValueError(
                f"keypoints have points of shape {points.shape}, expected (t, {NUM_KEYPOINTS}, 2), one frame or more"
            )
        for value, what in ((self.height, "height"), (self.width, "width")):
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"keypoints have {what} {value!r}, expected a positive whole number of pixels")
        if self.fps is not None and not (isinstance(self.fps, int | float | np.number) and 0 < self.fps < np.inf):
            raise ValueError(f"keypoints have fps {self.fps!r}, expected a positive number or None")
        object.__setattr__(self, "points", points.astype(np.float32))
        object.__setattr__(self, "scores", scores.astype(np.float32))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.points)

    def take(self, indices: Sequence[int] | slice) -> "Keypoints":
        """Of some frames, one or more."""
        return dataclasses.replace(self, points=self.points[indices], scores=self.scores[indices])
