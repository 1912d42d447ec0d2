"""The parts of the body by their keypoints: where each lies on an image, and which is in front of which.

Points are in pixels, x and y; the first pixel's centre is (0.5, 0.5).
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float

from aa_jax.pose.keypoints import VISIBLE, Keypoints


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the body that moves as one.

    Attributes:
      start, end: keypoints between whose middles its bone lies.
      radii: at start and end, how far from the bone it reaches, in lengths of the torso.
      limb: "arm", "leg" or "trunk".
      side: 1 for the character's left, -1 for its right, 0 for the trunk.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    radii: tuple[float, float]
    limb: str
    side: int


NECK, RIGHT_SHOULDER, RIGHT_HIP, LEFT_SHOULDER, LEFT_HIP = 1, 2, 8, 5, 11
TRUNK_POINTS = [NECK, RIGHT_SHOULDER, LEFT_SHOULDER, RIGHT_HIP, LEFT_HIP]
# Of each side hip, knee, ankle, toes; shoulder, elbow, wrist, knuckles.
LEGS = {-1: ((8,), (9,), (10,), (21, 22)), 1: ((11,), (12,), (13,), (18, 19))}
ARMS = {-1: ((2,), (3,), (4,), (122, 126)), 1: ((5,), (6,), (7,), (101, 105))}
TORSO, HEAD = 0, 1
PARTS = (
    Part(start=(NECK,), end=(RIGHT_HIP, LEFT_HIP), radii=(0.33, 0.33), limb="trunk", side=0),
    Part(start=(NECK,), end=(0, 14, 15, 16, 17), radii=(0.15, 0.42), limb="trunk", side=0),
    # Trouser legs and sleeves hang over what comes out of them: of legs the thigh is painted last. Hands are over arms.
    *(Part(start=leg[bone], end=leg[bone + 1], radii=radii, limb="leg", side=side)
      for side, leg in LEGS.items() for bone, radii in ((2, (0.13, 0.11)), (1, (0.15, 0.11)), (0, (0.22, 0.16)))),
    *(Part(start=arm[bone], end=arm[bone + 1], radii=radii, limb="arm", side=side)
      for side, arm in ARMS.items() for bone, radii in ((0, (0.16, 0.13)), (1, (0.12, 0.09)), (2, (0.09, 0.18)))),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Body:
    """The keypoints of one image: (134, 2) in its pixels, and whether each is seen."""

    points: Float[np.ndarray, "134 2"]
    seen: Bool[np.ndarray, "134"]

    @functools.cached_property
    def bones(self) -> dict[int, Float[np.ndarray, "2 2"]]:
        """Start and end of each part's bone, by number; without those that are not seen."""
        found = {}
        for number, part in enumerate(PARTS):
            ends = [self.points[[point for point in points if self.seen[point]]] for points in (part.start, part.end)]
            if number == HEAD and ends[1].size:
                # Of nose, eyes and ears some are hidden as the head turns; the middle of their box keeps its place.
                ends[1] = (ends[1].min(axis=0, keepdims=True) + ends[1].max(axis=0, keepdims=True)) / 2
            elif not self.seen[[*part.start, *part.end]].all():
                continue
            if ends[0].size and ends[1].size:
                found[number] = np.stack([each.mean(axis=0) for each in ends])
        return found

    @property
    def unit(self) -> float:
        """Length of the torso; where it is not seen, as long as the head's place suggests."""
        lengths = {number: axes(bone)[0] for number, bone in self.bones.items()}
        return max(lengths.get(TORSO, lengths.get(HEAD, 0.0) / 0.42), 1.0)

    def from_far_to_near(self) -> list[int]:
        """The parts in the order that they are painted in.

        Keypoints do not say what is in front, but toes point where the body faces, and who faces right shows the right
        side. Arms are behind the back of one who is seen from behind, and before the chest of one who is not: before
        the chest is where arms are busy, and at its sides it makes no difference. The near leg is over the far one, and
        both under the torso, since tops and skirts hang over the hips.
        """
        toes = [(toe, leg[2][0]) for leg in LEGS.values() for toe in leg[3]]
        ahead = [self.points[toe, 0] - self.points[ankle, 0] for toe, ankle in toes if self.seen[[toe, ankle]].all()]
        right = float(np.mean(ahead)) if ahead else 0.0
        shoulders = [LEFT_SHOULDER, RIGHT_SHOULDER]
        front = float(-np.diff(self.points[shoulders, 0])[0]) if self.seen[shoulders].all() else 1.0

        def nearness(number: int) -> tuple[float, float]:
            part = PARTS[number]
            near = -part.side * right
            if part.limb == "trunk":
                return 0, float(front > 0) - 0.5 if number == HEAD else 0
            return (-1 if part.limb == "leg" else 1 if front + 2 * near > 0 else -2), near

        return sorted(range(len(PARTS)), key=nearness)


def bodies(keypoints: Keypoints, height: int, width: int) -> list[Body]:
    """Of every frame, on images of `height` x `width`."""
    points, seen = keypoints.points.astype(np.float64) * (width, height), keypoints.scores >= VISIBLE
    return [Body(points=points[frame], seen=seen[frame]) for frame in range(len(points))]


def axes(bone: Float[np.ndarray, "2 2"]) -> tuple[float, Float[np.ndarray, "2 2"]]:
    """Its length, and the directions along and across it as columns."""
    x, y = bone[1] - bone[0]
    length = float(np.hypot(x, y))
    if length == 0:
        return 0.0, np.eye(2)
    return length, np.array([[x, -y], [y, x]]) / length
