"""The reference's parts of the body moved to the frames' keypoints: how far one comes without learning anything.

All that it is told is the reference image, its keypoints and the frames'. The character is cut out along its skeleton
(GrabCut), each of its pixels goes to a part of the body, and the parts are painted, from the farthest to the nearest,
over the reference with the character's place filled from around it.

Points are in pixels, x and y; the first pixel's centre is (0.5, 0.5).
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from aa_jax.evaluation.body import PARTS, TORSO, TRUNK_POINTS, Body, Part, axes, bodies
from aa_jax.pose.keypoints import Keypoints

# Cutting out is finer than the image where that is lower than this: limbs of few pixels have soft edges.
FINE_HEIGHT = 256
# Distances from the bones, in radii of the part: surely the character, probably, perhaps.
SURE, PROBABLE, POSSIBLE = 0.5, 1.0, 1.6
# Within so much, a part in front of others owns what is seen, and goes on behind what is in front of it.
CORE = 0.75
# A bone that points at the camera is short, and its texture is not stretched by more.
LONGEST, SHORTEST = 4.0, 0.05
# How much the torso resists the shear and squeeze of its points, for it is thick: in squared lengths of the torso.
STIFFNESS = 1.0


def warp(
    reference: UInt8[np.ndarray, "h w 3"], reference_pose: Keypoints, pose: Keypoints
) -> UInt8[np.ndarray, "t h w 3"]:
    """The reference in the poses of the frames. Parts with a point that is not seen are left out.

    Args:
      reference: the image.
      reference_pose: its keypoints, one frame.
      pose: those of the frames, on images of the reference's aspect.
    """
    height, width = reference.shape[:2]
    (shown,) = bodies(reference_pose, height, width)
    layers, background = take_apart(reference, shown)
    frames = []
    for body in bodies(pose, height, width):
        picture = background.astype(np.float32)
        scale = _scale(shown, body)
        for number in body.from_far_to_near():
            if number in layers and number in body.bones:
                # Pixel centres: cv2 counts from the first one's.
                move = motion(number, shown, body, scale)
                move[:, 2] += move[:, :2].sum(axis=1) / 2 - 0.5
                moved = cv2.warpAffine(layers[number], move, (width, height), flags=cv2.INTER_LINEAR)
                picture = picture * (1 - moved[..., 3:]) + moved[..., :3]
        frames.append(np.round(picture).clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def _scale(shown: Body, body: Body) -> float:
    """How much larger the body is: the median of its bones' lengths, for those that point elsewhere than before are
    longer or shorter."""
    both = [number for number in shown.bones if number in body.bones]
    ratios = [axes(body.bones[number])[0] / max(axes(shown.bones[number])[0], 1e-3) for number in both]
    return max(float(np.median(ratios)), SHORTEST) if both else 1.0


def motion(number: int, shown: Body, body: Body, scale: float) -> Float[np.ndarray, "2 3"]:
    """The affine map of a part from the reference to the frame.

    Along its bone it follows both ends; across, where nothing says how wide it is, it is scaled as the whole body. The
    torso also follows shoulders and hips, by least squares that prefer what its bone says.
    """
    before, after = shown.bones[number], body.bones[number]
    (old_length, old_axes), (new_length, new_axes) = axes(before), axes(after)
    along = np.clip(new_length / max(old_length, 1e-3), SHORTEST * scale, LONGEST * scale)
    matrix = new_axes @ np.diag([along, scale]) @ old_axes.T
    if number == TORSO:
        points = [point for point in TRUNK_POINTS if shown.seen[point] and body.seen[point]]
        before, after = shown.points[points], body.points[points]
        old, new = before - before.mean(axis=0), after - after.mean(axis=0)
        stiffness = STIFFNESS * shown.unit**2
        matrix = np.linalg.solve(old.T @ old + stiffness * np.eye(2), old.T @ new + stiffness * matrix.T).T
    return np.column_stack([matrix, after.mean(axis=0) - matrix @ before.mean(axis=0)])


def take_apart(
    image: UInt8[np.ndarray, "h w 3"], body: Body
) -> tuple[dict[int, Float[np.ndarray, "h w 4"]], UInt8[np.ndarray, "h w 3"]]:
    """Each part's pixels and what is behind them all.

    Returns:
      By part, colours times opacity, and opacity in [0, 1]; and the image without the character.
    """
    height, width = image.shape[:2]
    finer = max(1, round(FINE_HEIGHT / height))
    size = (width * finer, height * finer)

    def coarse(mask: Bool[np.ndarray, "h2 w2"]) -> Float[np.ndarray, "h w"]:
        return cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)

    far = {number: _distance(bone, PARTS[number], body.unit, size, finer) for number, bone in body.bones.items()}
    if not far:
        return {}, image
    character = _cut_out(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.min([*far.values()], axis=0))
    owner = _owners(far, body.from_far_to_near())
    layers = {}
    for number, distance in far.items():
        own = character & (owner == number)
        if own.any():
            opacity, seen = coarse(own | (character & (distance < CORE))), coarse(own)
            hidden = (opacity > 0) & (seen < opacity / 2)
            colours = np.where(hidden[..., None], _fill(image, seen < 0.5), image) if hidden.any() else image
            layers[number] = np.dstack([colours * opacity[..., None], opacity]).astype(np.float32)
    rim = cv2.dilate(character.astype(np.uint8), np.ones((finer + 3, finer + 3)))
    return layers, _fill(image, coarse(rim > 0) > 0)


def _distance(
    bone: Float[np.ndarray, "2 2"], part: Part, unit: float, size: tuple[int, int], finer: int
) -> Float[np.ndarray, "h w"]:
    """From the bone to each pixel, in radii of the part there."""
    row, column = np.indices(size[::-1])
    offset = (np.stack([column, row], axis=-1) + 0.5) / finer - bone[0]
    direction = bone[1] - bone[0]
    place = (offset @ direction / max(direction @ direction, 1e-6)).clip(0, 1)
    radius = unit * (part.radii[0] + (part.radii[1] - part.radii[0]) * place)
    return np.linalg.norm(offset - place[..., None] * direction, axis=-1) / radius


def _owners(far: dict[int, Float[np.ndarray, "h w"]], order: list[int]) -> Int[np.ndarray, "h w"]:
    """Which part each pixel shows: the nearest bone's, unless it lies well within a part that is in front."""
    ordered = [number for number in order if number in far]
    # Of places that several are well within, the last takes it.
    reach = np.stack([np.where(far[number] < CORE, -place, far[number]) for place, number in enumerate(ordered, 1)])
    return np.array(ordered)[reach.argmin(axis=0)]


def _cut_out(image: UInt8[np.ndarray, "h w 3"], distance: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where the character is: GrabCut, which separates its colours from those around it, told where to look."""
    mask = np.select(
        [distance < SURE, distance < PROBABLE, distance < POSSIBLE],
        [cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD],
        cv2.GC_BGD,
    ).astype(np.uint8)
    inside = distance < PROBABLE
    if min(inside.sum(), (~inside).sum()) < 16:  # too few colours on one side to tell
        return inside
    cv2.setRNGSeed(0)
    cv2.grabCut(image, mask, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return cv2.dilate(inside.astype(np.uint8), np.ones((3, 3))) > 0  # with the pixels of the edge


def _fill(image: UInt8[np.ndarray, "h w 3"], hole: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a hole filled from its edges; as it is where there is nothing but the hole."""
    return image if hole.all() else cv2.inpaint(image, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
