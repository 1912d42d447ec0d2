"""Keypoints drawn as the RGB image that pose guiders were trained on: DWPose's drawing as Moore-AnimateAnyone uses it.

Byte for byte the image of DWPose's `draw_pose`, quirks included: limbs are dimmed and joints are not, a hand or face
point on pixel row or column 0 is left out, and coordinates are truncated, not rounded.
"""

import dataclasses
import math
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from aa_jax.pose.keypoints import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, VISIBLE, Keypoints, check_points

# Body joints, and limb i with joint i, share a colour.
JOINT_COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
# The wrist is point 0, and each finger four points from its root to its tip.
HAND_EDGES = tuple(
    (0 if bone == 0 else finger + bone, finger + bone + 1) for finger in (0, 4, 8, 12, 16) for bone in range(4)
)
# Edge k has hue k / 20; a table, because rounding the hues differs between implementations.
HAND_COLOURS = (
    (255, 0, 0), (255, 77, 0), (255, 153, 0), (255, 229, 0), (204, 255, 0), (128, 255, 0), (51, 255, 0),
    (0, 255, 25), (0, 255, 102), (0, 255, 179), (0, 255, 255), (0, 178, 255), (0, 102, 255), (0, 25, 255),
    (51, 0, 255), (128, 0, 255), (204, 0, 255), (255, 0, 230), (255, 0, 153), (255, 0, 77),
)  # fmt: skip
HAND_JOINT_COLOUR = (0, 0, 255)
FACE_COLOUR = (255, 255, 255)
# novita's drawing of feet: heel to toes with colours, and the colours of the six points.
FOOT_EDGES = ((2, 0), (2, 1), (5, 3), (5, 4))
FOOT_EDGE_COLOURS = ((255, 26, 250), (135, 24, 255), (193, 255, 23), (25, 255, 121))
FOOT_COLOURS = ((181, 40, 112), (163, 53, 181), (49, 124, 255), (137, 181, 40), (60, 181, 99), (64, 255, 188))
LIMB_BRIGHTNESS = 0.6
LIMB_HALF_WIDTH = 4
EDGE_WIDTH = 2  # of fingers and feet
JOINT_RADIUS = 4
FARTHEST_PIXEL = 2**20
FACE_RADIUS = 3
FOOT_RADIUS = 3

Colour = tuple[int, int, int]
Place = list[int] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawStyle:
    """What published systems do differently; the defaults are DWPose's drawing as Moore-AnimateAnyone uses it.

    Attributes:
      face: face points are drawn. Not by novita and MusePose.
      hands: hands are drawn.
      feet: feet are drawn. By novita alone.
      confidence: colours are dimmed by the scores, a limb's or finger's by the product of both its ends'; and hand and
        face points of any score above 0 are drawn. MimicMotion's colours (whose images are BGR, not RGB).
      hand_joint_radius: of the discs at the joints of hands, in pixels. 2 in novita's.
      scale_to: widths and radii are those of a drawing whose shorter side has so many pixels, and scale with the
        drawing's, so that drawings of any size look alike; at least 1 pixel. None: the same in every drawing, as
        DWPose. 512 suits weights trained on Moore's preparation; MimicMotion's is 2160.

    Raises:
      ValueError: a radius or size that is not positive.
    """

    face: bool = True
    hands: bool = True
    feet: bool = False
    confidence: bool = False
    hand_joint_radius: int = JOINT_RADIUS
    scale_to: int | None = None

    def __post_init__(self) -> None:
        if self.hand_joint_radius < 1:
            raise ValueError(f"hand_joint_radius {self.hand_joint_radius} given, expected a positive number of pixels")
        if self.scale_to is not None and self.scale_to < 1:
            raise ValueError(f"scale_to {self.scale_to} given, expected a positive number of pixels or None")


DWPOSE = DrawStyle()


def draw_pose(
    keypoints: Float[np.ndarray, "134 2"],
    scores: Float[np.ndarray, "134"],
    *,
    height: int,
    width: int,
    style: DrawStyle = DWPOSE,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw one person on black.

    Args:
      keypoints: x and y normalised to [0, 1] by the image's width and height, in the order of `Keypoints`.
      scores: a body point is drawn above 0.3, a hand or face point from 0.3 on.
      height: of the drawing, in pixels.
      width: of the drawing, in pixels.
      style: which parts are drawn, and how.

    Returns:
      RGB, uint8.

    Raises:
      ValueError: a wrong shape, a value that is not finite, coordinates in pixels, or a size that is not positive.
    """
    keypoints, scores = np.asarray(keypoints), np.asarray(scores)
    if keypoints.ndim != 2:
        raise ValueError(f"keypoints of shape {keypoints.shape} given, expected (134, 2): one person in one frame")
    check_points(keypoints, scores)
    return _draw(keypoints[None], scores[None], height, width, style)[0]


def draw_poses(
    keypoints: Keypoints, *, height: int, width: int, style: DrawStyle = DWPOSE
) -> UInt8[np.ndarray, "t height width 3"]:
    """Draw every frame of a clip; see `draw_pose`."""
    return _draw(keypoints.points, keypoints.scores, height, width, style)


def _draw(points: np.ndarray, scores: np.ndarray, height: int, width: int, style: DrawStyle) -> np.ndarray:
    if height < 1 or width < 1:
        raise ValueError(f"drawing of {height}x{width} (height x width) asked for, expected positive sizes")
    # Points that are not seen may be anywhere.
    pixels = np.clip(points.astype(np.float64) * (width, height), -FARTHEST_PIXEL, FARTHEST_PIXEL)
    weights = scores if style.confidence else np.ones_like(scores)
    seen = (scores >= VISIBLE) | (style.confidence & (scores > 0))
    scale = 1.0 if style.scale_to is None else min(height, width) / style.scale_to
    canvases = np.zeros((len(points), height, width, 3), np.uint8)

    def part(indices: slice) -> Iterator[tuple[np.ndarray, list[Place], list[float]]]:
        """Of each frame: canvas, the pixels that hand, foot or face points fall on, and their weights."""
        whole = pixels[:, indices].astype(int)
        # DWPose leaves out what is on row or column 0.
        drawn = seen[:, indices] & (whole > 0).all(axis=-1)
        # Lists, because an array's single numbers are slow.
        for canvas, places, is_drawn, weight in zip(
            canvases, whole.tolist(), drawn.tolist(), weights[:, indices].tolist(), strict=True
        ):
            yield canvas, [place if draw else None for place, draw in zip(places, is_drawn, strict=True)], weight

    bodies = (pixels[:, BODY].tolist(), (scores[:, BODY] > VISIBLE).tolist(), weights[:, BODY].tolist())
    for canvas, joints, is_seen, weight in zip(canvases, *bodies, strict=True):
        _draw_limbs(canvas, joints, is_seen, weight, _scaled(LIMB_HALF_WIDTH, scale))
        _draw_joints(canvas, joints, is_seen, weight, _scaled(JOINT_RADIUS, scale))
    for hand in (LEFT_HAND, RIGHT_HAND) if style.hands else ():
        for canvas, places, weight in part(hand):
            _draw_hand(canvas, places, weight, scale, _scaled(style.hand_joint_radius, scale))
    if style.feet:
        for canvas, places, weight in part(FEET):
            _draw_feet(canvas, places, weight, scale)
    if style.face:
        for canvas, places, weight in part(FACE):
            _draw_face(canvas, places, weight, _scaled(FACE_RADIUS, scale))
    return canvases


def _scaled(pixels: int, scale: float) -> int:
    return max(1, round(pixels * scale))


def _dimmed(colour: Colour, weight: float) -> Colour:
    red, green, blue = colour
    return colour if weight == 1 else (int(red * weight), int(green * weight), int(blue * weight))


def _limb_colour(colour: Colour, weight: float) -> Colour:
    """DWPose dims what is drawn so far when the limbs are."""
    red, green, blue = (int(min(part, 255) * LIMB_BRIGHTNESS) for part in _dimmed(colour, weight))
    return red, green, blue


def _draw_limbs(
    canvas: np.ndarray, joints: list[list[float]], seen: list[bool], weights: list[float], half_width: int
) -> None:
    for (start, end), colour in zip(LIMBS, JOINT_COLOURS[: len(LIMBS)], strict=True):
        if seen[start] and seen[end]:
            (x0, y0), (x1, y1) = joints[start], joints[end]
            dx, dy = x0 - x1, y0 - y1
            axes = (int((dx**2 + dy**2) ** 0.5 / 2), half_width)
            angle = int(math.degrees(math.atan2(dy, dx)))
            ellipse = cv2.ellipse2Poly((int((x0 + x1) / 2), int((y0 + y1) / 2)), axes, angle, 0, 360, 1)
            cv2.fillConvexPoly(canvas, np.asarray(ellipse), _limb_colour(colour, weights[start] * weights[end]))


def _draw_joints(
    canvas: np.ndarray, joints: list[list[float]], seen: list[bool], weights: list[float], radius: int
) -> None:
    for (x, y), is_seen, weight, colour in zip(joints, seen, weights, JOINT_COLOURS, strict=True):
        if is_seen:
            cv2.circle(canvas, (int(x), int(y)), radius, _dimmed(colour, weight), thickness=-1)


def _draw_hand(canvas: np.ndarray, places: list[Place], weights: list[float], scale: float, radius: int) -> None:
    for (start, end), colour in zip(HAND_EDGES, HAND_COLOURS, strict=True):
        a, b = places[start], places[end]
        if a and b:
            weight = weights[start] * weights[end]
            cv2.line(canvas, a, b, _dimmed(colour, weight), thickness=_scaled(EDGE_WIDTH, scale))
    for place, weight in zip(places, weights, strict=True):
        if place:
            cv2.circle(canvas, place, radius, _dimmed(HAND_JOINT_COLOUR, weight), thickness=-1)


def _draw_feet(canvas: np.ndarray, places: list[Place], weights: list[float], scale: float) -> None:
    for (start, end), colour in zip(FOOT_EDGES, FOOT_EDGE_COLOURS, strict=True):
        a, b = places[start], places[end]
        if a and b:
            weight = weights[start] * weights[end]
            cv2.line(canvas, a, b, _dimmed(colour, weight), thickness=_scaled(EDGE_WIDTH, scale))
    for place, weight, colour in zip(places, weights, FOOT_COLOURS, strict=True):
        if place:
            cv2.circle(canvas, place, _scaled(FOOT_RADIUS, scale), _dimmed(colour, weight), thickness=-1)


def _draw_face(canvas: np.ndarray, places: list[Place], weights: list[float], radius: int) -> None:
    for place, weight in zip(places, weights, strict=True):
        if place:
            cv2.circle(canvas, place, radius, _dimmed(FACE_COLOUR, weight), thickness=-1)
