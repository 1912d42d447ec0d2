"""How much the loss counts at each place of the latents: more where hands, face or body are."""

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float

from aa_jax.pose.draw import LIMBS
from aa_jax.pose.keypoints import BODY, FACE, LEFT_HAND, RIGHT_HAND, VISIBLE, Keypoints

NECK, HIPS, TORSO = 1, (8, 11), (1, 2, 5, 8, 11)
# Around the points of a hand or face, of their box's longer side: they lie inside of its outline.
MARGIN = 1 / 4
# Width of limbs, of the torso's length.
LIMB_WIDTH = 1 / 8
# Fractions of a pixel that OpenCV draws at, in bits.
SHIFT = 4

Points = Float[np.ndarray, "n 2"]
Seen = Bool[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionWeights:
    """How much an error counts in each region; in the background it counts 1.

    Attributes:
      hands: in the box of a hand's 21 points, with a margin.
      face: in the box of the 68 face points, with a margin.
      body: on limbs and torso.

    Raises:
      ValueError: a weight that is not positive.
    """

    hands: float = 1.0
    face: float = 1.0
    body: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise ValueError(f"RegionWeights.{field.name} is {value}, expected a positive number")


def region_weights(
    keypoints: Keypoints, weights: RegionWeights, downscale: int
) -> Float[np.ndarray, "t height/downscale width/downscale"]:
    """The weight of every place of the latents: that of its region, averaged over the pixels that it stands for.

    Where regions overlap, the largest of their weights counts. Points that are not seen make no region.

    Args:
      keypoints: of the frames, fitted to their size, which is a multiple of `downscale`.
      weights: of the regions.
      downscale: side of a latent place in pixels.
    """
    height, width = keypoints.height, keypoints.width
    # In the order of their weights, so that the largest is drawn last.
    regions = sorted(((getattr(weights, name), draw) for name, draw in REGIONS.items()), key=lambda region: region[0])
    canvas = np.empty((height, width), np.float32)
    result = np.empty((len(keypoints), height // downscale, width // downscale), np.float32)
    for row, points, scores in zip(result, keypoints.points * (width, height), keypoints.scores, strict=True):
        canvas[:] = 1
        for weight, draw in regions:
            draw(canvas, points, scores >= VISIBLE, weight)
        row[:] = cv2.resize(canvas, row.shape[::-1], interpolation=cv2.INTER_AREA)
    return result


def _draw_hands(canvas: np.ndarray, points: Points, seen: Seen, weight: float) -> None:
    for hand in (LEFT_HAND, RIGHT_HAND):
        _draw_box(canvas, points[hand][seen[hand]], weight)


def _draw_face(canvas: np.ndarray, points: Points, seen: Seen, weight: float) -> None:
    _draw_box(canvas, points[FACE][seen[FACE]], weight)


def _draw_box(canvas: np.ndarray, points: Points, weight: float) -> None:
    if not len(points):
        return
    low, high = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * (high - low).max()
    (left, top), (right, bottom) = _pixels(low - margin, np.floor), _pixels(high + margin, np.ceil)
    canvas[top:bottom, left:right] = weight


def _pixels(place: Points, rounded: Callable[[np.ndarray], np.ndarray]) -> list[int]:
    return np.maximum(rounded(place), 0).astype(int).tolist()


def _draw_body(canvas: np.ndarray, points: Points, seen: Seen, weight: float) -> None:
    joints, seen = points[BODY], seen[BODY]
    # OpenCV's whole numbers are the centres of pixels.
    places = np.zeros(joints.shape, np.int32)
    places[seen] = np.round((joints[seen] - 0.5) * (1 << SHIFT))
    limbs = [places[list(limb)] for limb in LIMBS if seen[limb[0]] and seen[limb[1]]]
    if limbs:
        thickness = max(1, round(LIMB_WIDTH * _length(joints, seen)))
        cv2.polylines(canvas, limbs, False, weight, thickness, cv2.LINE_8, SHIFT)
    torso = [joint for joint in TORSO if seen[joint]]
    if len(torso) > 2:
        # A polygon through the joints would cross itself where the body is turned.
        cv2.fillConvexPoly(canvas, cv2.convexHull(places[torso]), weight, cv2.LINE_8, SHIFT)


def _length(joints: Points, seen: Seen) -> float:
    """The torso's from the neck to the middle of the hips, or where they are not seen the skeleton's height."""
    hips = [hip for hip in HIPS if seen[hip]]
    if seen[NECK] and hips:
        return float(np.linalg.norm(joints[hips].mean(axis=0) - joints[NECK]))
    return float(np.ptp(joints[seen][:, 1]))


REGIONS: dict[str, Callable[[np.ndarray, Points, Seen, float], None]] = {
    "hands": _draw_hands,
    "face": _draw_face,
    "body": _draw_body,
}
