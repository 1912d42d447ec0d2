"""Retargeting: a driving person's motion on a reference person of another size, place and build.

Animate Anyone (section 4.1) rescales the driving skeleton's lengths to the reference's. Two ways of it are in use:

* "affine": one scale and one shift for everything, as MimicMotion (`mimicmotion/dwpose/preprocess.py`).
* "bones": each bone by a ratio of its own, from the neck outwards, as MusePose (`pose_align.py`).

Both need driving lengths that can be compared with the reference's, one image. They are measured where the driving
person poses most like the reference: lengths on an image change with the pose, and so a clip retargeted to itself stays
what it is. The published systems take all frames (MimicMotion) or one that the user names (MusePose), and fit by means;
here it is medians. Lengths are in image heights, so that x and y compare.
"""

import dataclasses
import itertools
import warnings
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from aa_jax.image import ResizeMode, same_aspect
from aa_jax.pose.fit import fit_keypoints
from aa_jax.pose.keypoints import (
    BODY,
    FACE,
    FARTHEST,
    FEET,
    LEFT_HAND,
    NUM_KEYPOINTS,
    RIGHT_HAND,
    VISIBLE,
    Keypoints,
)

RetargetMethod = Literal["affine", "bones", "none"]
METHODS = get_args(RetargetMethod)

NECK = 1
HEAD = (0, 14, 15, 16, 17)
# MimicMotion's: elbows and wrists, which swing widest, say least of a person's size.
STEADY_JOINTS = (0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
# Bones by name; left and right have one ratio, as in MusePose.
BONES = {
    "neck": ((1, 0),),
    "head": tuple(itertools.combinations(HEAD, 2)),
    "shoulders": ((1, 2), (1, 5)),
    "upper arms": ((2, 3), (5, 6)),
    "forearms": ((3, 4), (6, 7)),
    "torso": ((1, 8), (1, 11)),
    "thighs": ((8, 9), (11, 12)),
    "shins": ((9, 10), (12, 13)),
}
# What moves with what, and by which ratio, parents first. Hands and feet are as large as the head.
TREE: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("neck", BONES["neck"]),
    ("shoulders", BONES["shoulders"]),
    ("torso", BONES["torso"]),
    ("upper arms", BONES["upper arms"]),
    ("thighs", BONES["thighs"]),
    ("forearms", BONES["forearms"]),
    ("shins", BONES["shins"]),
    ("head", tuple((0, joint) for joint in HEAD[1:])),
    ("head", tuple((0, point) for point in range(NUM_KEYPOINTS)[FACE])),
    ("head", tuple((13 if foot < 3 else 10, point) for foot, point in enumerate(range(NUM_KEYPOINTS)[FEET]))),
    ("head", tuple((7, point) for point in range(NUM_KEYPOINTS)[LEFT_HAND])),
    ("head", tuple((4, point) for point in range(NUM_KEYPOINTS)[RIGHT_HAND])),
)
# A reference frame is good enough with so much of the joints of the frame that shows most.
ENOUGH = 0.75
# Frames count as poses like the reference's up to so many times the least difference.
ALIKE = 1.25
# Differences this close, for a body of size 1, are equal.
EQUAL = 1e-3
# A bone longer or shorter against the whole body by more than this is seen end-on, not built so.
MOST_UNLIKE = 2.5


def retarget(driving: Keypoints, reference: Keypoints, *, method: RetargetMethod = "affine") -> Keypoints:
    """The driving motion as the reference person would do it.

    A clip retargeted to itself stays as it is, and where and how large the driving person is in the image changes
    nothing. Where the driving person poses most like the reference, the result stands at the reference's place.

    Args:
      driving: the motion.
      reference: the person to do it, in the first frame that shows three quarters of the joints that any frame shows.
      method: "affine": one scale, and a shift; "bones": each bone's length by its own ratio, from the neck outwards;
        feet, face and hands move with ankles, nose and wrists and are scaled as the head is. "none": nothing moves;
        the driving image is fitted into the reference's, with its aspect kept.

    Returns:
      The driving frames and scores, on an image of the reference's height and width. Input that cannot be compared,
      such as a missing or a foreshortened bone, is warned of, and takes the next coarser way: a bone the scale of the
      whole body, the whole body that of method "none".

    Raises:
      ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"retargeting method {method!r} given, expected one of {', '.join(METHODS)}")
    mode: ResizeMode = "stretch" if same_aspect(_size(driving), _size(reference)) else "letterbox"
    unmoved = fit_keypoints(driving, reference.height, reference.width, mode)
    if method == "none":
        return unmoved
    match = _match(driving, reference)
    if match is None:
        return unmoved
    joints = _fitted_joints(match)
    scale = _body_scale(match, joints)
    if scale is None:
        return unmoved
    moved = _affine(match, scale, joints) if method == "affine" else _bones(match, scale, joints)
    return _on_image_of(reference, driving, moved)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Match:
    """What is to be compared.

    Attributes:
      points: (t, 134, 2) driving, in image heights.
      seen: (t, 134) which of them are visible.
      target: (134, 2) reference, in image heights.
      common: (t, 134) which points are visible in both.
      alike: (k,) driving frames with poses like the reference's, which give the lengths.
      likest: the driving frame with the pose most like the reference's, which gives the place.
    """

    points: Float[np.ndarray, "t 134 2"]
    seen: Bool[np.ndarray, "t 134"]
    target: Float[np.ndarray, "134 2"]
    common: Bool[np.ndarray, "t 134"]
    alike: Int[np.ndarray, " k"]
    likest: int

    def vectors(self, pairs: tuple[tuple[int, int], ...]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
        """Between the joints of each pair that are visible in both, in all frames alike: reference's, driving's."""
        starts, ends = np.array(pairs).reshape(-1, 2).T
        points, common = self.points[self.alike], self.common[self.alike]
        both = common[:, starts] & common[:, ends]
        target = np.broadcast_to(self.target[ends] - self.target[starts], (*both.shape, 2))
        return target[both], (points[:, ends] - points[:, starts])[both]


def _size(keypoints: Keypoints) -> tuple[int, int]:
    return keypoints.height, keypoints.width


def _in_heights(keypoints: Keypoints) -> Float[np.ndarray, "t 134 2"]:
    return keypoints.points.astype(np.float64) * (keypoints.width / keypoints.height, 1)


def _match(driving: Keypoints, reference: Keypoints) -> _Match | None:
    """What is visible in both, and when; None, with a warning, where that is less than two joints."""
    seen, target_seen = driving.scores >= VISIBLE, reference.scores >= VISIBLE
    shown = target_seen[:, BODY].sum(1)
    enough = max(2, np.ceil(ENOUGH * shown.max()))
    frame = int(np.argmax(shown >= enough))
    common = seen & target_seen[frame]
    counts = common[:, BODY].sum(1)
    if counts.max() < 2:
        what = [name for name, most in (("reference", shown), ("driving", seen[:, BODY].sum(1))) if most.max() < 2]
        reason = f"the {' and the '.join(what)} pose shows" if what else "reference and driving pose have in common"
        _warn(f"{reason} fewer than 2 body joints: the driving pose is left as it is")
        return None
    points, target = _in_heights(driving), _in_heights(reference)[frame]
    differences = _differences(points[:, BODY], target[BODY], common[:, BODY])
    differences[counts < min(enough, counts.max())] = np.inf
    alike = np.flatnonzero(differences <= ALIKE * differences.min() + EQUAL)
    likest = int(np.argmax(differences <= differences.min() + EQUAL))
    return _Match(points=points, seen=seen, target=target, common=common, alike=alike, likest=likest)


def _differences(
    points: Float[np.ndarray, "t j 2"], target: Float[np.ndarray, "j 2"], common: Bool[np.ndarray, "t j"]
) -> Float[np.ndarray, " t"]:
    """How unlike the poses are whatever their sizes and places, for an RMS size of 1."""
    weights = common[..., None] / np.maximum(common.sum(1), 1)[:, None, None]

    def shape(points: np.ndarray) -> np.ndarray:
        centred = points - (weights * points).sum(1, keepdims=True)
        size = np.sqrt((weights * centred**2).sum((1, 2), keepdims=True))
        return centred / np.where(size > 0, size, 1)

    return np.sqrt((weights * (shape(points) - shape(np.broadcast_to(target, points.shape))) ** 2).sum((1, 2)))


def _ratio(target: Float[np.ndarray, " n"], driving: Float[np.ndarray, " n"]) -> float | None:
    """The median of target / driving, where what is long in both counts more; None where there is none to compare."""
    there = (target != 0) & (driving != 0)
    if not there.any():
        return None
    target, driving = target[there], driving[there]
    ratios = target / driving
    weights = np.minimum(np.abs(target) / np.abs(target).sum(), np.abs(driving) / np.abs(driving).sum())
    order = np.argsort(ratios)
    ratios, weights = ratios[order], weights[order]
    return float(np.interp(0.5, (np.cumsum(weights) - weights / 2) / weights.sum(), ratios))


def _length_ratio(match: _Match, pairs: tuple[tuple[int, int], ...]) -> float | None:
    target, driving = match.vectors(pairs)
    return _ratio(np.linalg.norm(target, axis=1), np.linalg.norm(driving, axis=1))


def _likely(ratio: float | None, whole: float) -> bool:
    return ratio is not None and 1 / MOST_UNLIKE <= ratio / whole <= MOST_UNLIKE


def _fitted_joints(match: _Match) -> tuple[int, ...]:
    """The joints that give the scale and the place: steady ones, or all where there are fewer than two."""
    if match.common[match.alike][:, STEADY_JOINTS].sum(1).min() >= 2:
        return STEADY_JOINTS
    _warn("only arms are visible in both poses: the scale is measured on them")
    return tuple(range(NUM_KEYPOINTS)[BODY])


def _body_scale(match: _Match, joints: tuple[int, ...]) -> float | None:
    """The scale of the whole body; None, with a warning, where all joints fall on one point.

    From heights, as in MimicMotion: widths change when a person turns. From all distances where heights say another
    thing, as between a standing and a lying person.
    """
    pairs = tuple(itertools.combinations(joints, 2))
    target, driving = match.vectors(pairs)
    overall = _length_ratio(match, pairs)
    if overall is None:
        _warn("all joints that are visible in both poses fall on one point: the driving pose is left as it is")
        return None
    by_height = _ratio(target[:, 1], driving[:, 1])
    if by_height is not None and _likely(by_height, overall):
        return by_height
    _warn("the heights of the poses do not compare (one stands and one lies?): the scale is that of all distances")
    return overall


def _shift(match: _Match, scale: float, joints: tuple[int, ...]) -> Float[np.ndarray, "2"]:
    frame = match.likest
    visible = [joint for joint in joints if match.common[frame, joint]]
    return np.median(match.target[visible] - scale * match.points[frame, visible], axis=0)


def _affine(match: _Match, scale: float, joints: tuple[int, ...]) -> Float[np.ndarray, "t 134 2"]:
    return scale * match.points + _shift(match, scale, joints)


def _bones(match: _Match, scale: float, joints: tuple[int, ...]) -> Float[np.ndarray, "t 134 2"]:
    """Every point at its scaled distance from the nearest joint above it that is visible; the neck, and what has no
    visible joint above it, by the scale of the whole body."""
    ratios = _bone_ratios(match, scale)
    if match.common[match.likest, NECK]:
        shift = _shift(match, scale, (NECK,))
    else:
        _warn("the neck, the root of the bones, is not visible in both poses: the place is that of the whole body")
        shift = _shift(match, scale, joints)
    points, seen = match.points, match.seen
    moved = scale * points + shift
    # The nearest visible joint above each point, before and after; at first none.
    anchors = np.zeros_like(points), np.zeros_like(points)
    anchored = np.zeros_like(seen)
    for bone, edges in TREE:
        parents, children = np.array(edges).T
        for anchor, place in zip(anchors, (points, moved), strict=True):
            anchor[:, children] = np.where(seen[:, parents, None], place[:, parents], anchor[:, parents])
        anchored[:, children] = seen[:, parents] | anchored[:, parents]
        before, after = (anchor[:, children] for anchor in anchors)
        by_bone = after + ratios[bone] * (points[:, children] - before)
        moved[:, children] = np.where(anchored[:, children, None], by_bone, moved[:, children])
    return moved


def _bone_ratios(match: _Match, scale: float) -> dict[str, float]:
    """Each bone's reference length over its driving length; the body's scale, with a warning, where unknown."""
    measured = {name: _length_ratio(match, pairs) for name, pairs in BONES.items()}
    unknown = [name for name, ratio in measured.items() if ratio is None]
    unlikely = [name for name, ratio in measured.items() if ratio is not None and not _likely(ratio, scale)]
    for names, reason in (
        (unknown, "not visible in both poses"),
        (unlikely, f"more than {MOST_UNLIKE:g} times off the body's scale, so probably seen end-on"),
    ):
        if names:
            _warn(f"{', '.join(names)}: {reason}; scaled as the whole body is")
    return {name: ratio if ratio is not None and _likely(ratio, scale) else scale for name, ratio in measured.items()}


def _on_image_of(reference: Keypoints, driving: Keypoints, moved: Float[np.ndarray, "t 134 2"]) -> Keypoints:
    points = moved / (reference.width / reference.height, 1)
    lost = (np.abs(points) > FARTHEST).any(-1)
    scores = np.where(lost, 0, driving.scores)
    if (scores != driving.scores).any():
        _warn(f"{(lost.sum(1) > 0).sum()} frames have points more than {FARTHEST:g} image sizes away: their score is 0")
    points = np.clip(points, -FARTHEST, FARTHEST)
    return dataclasses.replace(driving, points=points, scores=scores, height=reference.height, width=reference.width)


def _warn(what: str) -> None:
    warnings.warn(f"retargeting: {what}", UserWarning, stacklevel=3)
