"""From joint rotations to a skeleton in space, standing on the ground.

Space: metres, x to the right of the image, y up, z towards the camera; a character at yaw 0 looks at the camera, so
that its left is at +x. Sides come in the order left, right. At rest arms and legs hang along -y.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aa_jax.data.synthetic.camera import STATURE
from aa_jax.data.synthetic.character import BONES

# Joints that rotate; the last six exist on both sides.
CENTRAL_JOINTS = ("pelvis", "spine", "head")
SIDE_JOINTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
SIDES = 2
FINGERS = 5

# Metres, of a character of 1.7 m.
THIGH, SHIN, ANKLE_HEIGHT, FOOT = 0.41, 0.405, 0.075, 0.175
HIP_ASIDE, HIP_BELOW, WAIST, CHEST = 0.088, 0.02, 0.11, 0.37
SHOULDER_ASIDE, SHOULDER_BELOW, NECK, HEAD = 0.170, 0.045, 0.055, 0.27
UPPER_ARM, FOREARM, HAND = 0.285, 0.245, 0.18

# In hands' lengths: where each finger starts (down the hand, towards the thumb), its length and its three bones.
FINGER_ROOTS = np.array([[0.17, 0.20], [0.50, 0.17], [0.52, 0.055], [0.50, -0.06], [0.46, -0.165]])
FINGER_LENGTHS = np.array([0.46, 0.42, 0.47, 0.43, 0.34])
PHALANGES = np.array([0.46, 0.30, 0.24])
# Leaning of each finger towards the thumb with the fingers spread by 1 radian, and the thumb's own at rest.
FINGER_LEAN = np.array([0.9, 0.55, 0.1, -0.35, -0.8])
THUMB_LEAN = 0.7


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Pose:
    """Joint rotations at several moments.

    Attributes:
      place: (t, 3) of the pelvis, metres; y is the height over standing on the ground.
      central: (t, 3, 3, 3) rotations of `CENTRAL_JOINTS` in their parents' axes, the pelvis's in space.
      sides: (t, 2, 6, 3, 3) rotations of `SIDE_JOINTS`, those of the right as its mirror image.
      curl: (t, 2) bend of the fingers' joints, radians.
      spread: (t, 2) of the fingers, radians.
    """

    place: Float[Array, "t 3"]
    central: Float[Array, "t 3 3 3"]
    sides: Float[Array, "t 2 6 3 3"]
    curl: Float[Array, "t 2"]
    spread: Float[Array, "t 2"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A posed skeleton (or several: leading axes). Points are in metres, axes are rotations in space.

    Attributes:
      pelvis, waist, neck, head: points; `head` is the skull's base.
      pelvis_axes, chest_axes, head_axes: rotations.
      shoulder, elbow, wrist, hip, knee, ankle: points of both sides.
      upper_arm_axes, forearm_axes, hand_axes, thigh_axes, shin_axes, foot_axes: rotations; columns are the directions
        of the limb's own x (lateral), y (up the limb) and z (front).
      hands: 21 points a hand: wrist, then four of each finger from the thumb.
      feet: big toe, small toe and heel of both feet, on the sole.
      factors: length factors of `BONES`, stature made equal.
    """

    pelvis: Float[Array, "*t 3"]
    waist: Float[Array, "*t 3"]
    neck: Float[Array, "*t 3"]
    head: Float[Array, "*t 3"]
    pelvis_axes: Float[Array, "*t 3 3"]
    chest_axes: Float[Array, "*t 3 3"]
    head_axes: Float[Array, "*t 3 3"]
    shoulder: Float[Array, "*t 2 3"]
    elbow: Float[Array, "*t 2 3"]
    wrist: Float[Array, "*t 2 3"]
    hip: Float[Array, "*t 2 3"]
    knee: Float[Array, "*t 2 3"]
    ankle: Float[Array, "*t 2 3"]
    upper_arm_axes: Float[Array, "*t 2 3 3"]
    forearm_axes: Float[Array, "*t 2 3 3"]
    hand_axes: Float[Array, "*t 2 3 3"]
    thigh_axes: Float[Array, "*t 2 3 3"]
    shin_axes: Float[Array, "*t 2 3 3"]
    foot_axes: Float[Array, "*t 2 3 3"]
    hands: Float[Array, "*t 2 21 3"]
    feet: Float[Array, "*t 2 3 3"]
    factors: Float[Array, "*t 12"]


def rotation(angles: Float[Array, "*a 3"]) -> Float[Array, "*a 3 3"]:
    """The rotation about y, then x, then z, by angles (x, y, z) in radians."""
    (cx, cy, cz), (sx, sy, sz) = (jnp.moveaxis(f(angles), -1, 0) for f in (jnp.cos, jnp.sin))
    rows = (
        (cz * cy - sz * sx * sy, -sz * cx, cz * sy + sz * sx * cy),
        (sz * cy + cz * sx * sy, cz * cx, sz * sy - cz * sx * cy),
        (-cx * sy, sx, cx * cy),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def stature_factors(lengths: Float[Array, "12"]) -> Float[Array, "12"]:
    """Length factors scaled so that the standing height is near 1.7 m, a quarter of its difference left."""
    parts = {
        "shin": SHIN + ANKLE_HEIGHT,
        "thigh": THIGH,
        "torso": WAIST + CHEST + HIP_BELOW,
        "neck": NECK,
        "head": HEAD,
    }
    standing = sum(length * lengths[BONES.index(name)] for name, length in parts.items())
    return lengths * (STATURE / standing) ** 0.75


def pose_skeleton(lengths: Float[Array, "12"], pose: Pose) -> Skeleton:
    """The skeleton of every moment of `pose` on bones of these length factors (`BONES`)."""
    factors = stature_factors(lengths)
    of = dict(zip(BONES, factors, strict=True))
    # Rotations of the right are mirrored at x = 0.
    mirror = jnp.array([[[1.0, 1, 1], [1, 1, 1], [1, 1, 1]], [[1.0, -1, -1], [-1, 1, 1], [-1, 1, 1]]])[:, None]
    sides = pose.sides * mirror

    def aside(x: Array | float, y: Array | float, z: Array | float = 0.0) -> Float[Array, "2 3"]:
        left = jnp.stack([jnp.asarray(value, jnp.float32) for value in (x, y, z)])
        return jnp.stack([left, left * jnp.array([-1.0, 1.0, 1.0])])

    def apply(axes: Float[Array, "... 3 3"], offset: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
        return jnp.einsum("...ij,...j->...i", axes, offset)

    down = jnp.array([0.0, -1.0, 0.0])
    pelvis_axes = pose.central[:, 0]
    chest_axes = pelvis_axes @ pose.central[:, 1]
    head_axes = chest_axes @ pose.central[:, 2]
    pelvis = jnp.zeros_like(pose.place)
    waist = pelvis + apply(pelvis_axes, -down * WAIST * of["torso"])
    neck = waist + apply(chest_axes, -down * CHEST * of["torso"])
    head = neck + apply((chest_axes + head_axes) / 2, -down * NECK * of["neck"])

    chest, hips = chest_axes[:, None], pelvis_axes[:, None]
    shoulder_offset = aside(SHOULDER_ASIDE * of["shoulders"], -SHOULDER_BELOW)
    shoulder = neck[:, None] + apply(chest, shoulder_offset)
    upper_arm = chest @ sides[:, :, 0]
    forearm = upper_arm @ sides[:, :, 1]
    hand = forearm @ sides[:, :, 2]
    elbow = shoulder + apply(upper_arm, down * UPPER_ARM * of["upper_arm"])
    wrist = elbow + apply(forearm, down * FOREARM * of["forearm"])

    hip = pelvis[:, None] + apply(hips, aside(HIP_ASIDE * of["hips"], -HIP_BELOW))
    thigh = hips @ sides[:, :, 3]
    shin = thigh @ sides[:, :, 4]
    foot = shin @ sides[:, :, 5]
    knee = hip + apply(thigh, down * THIGH * of["thigh"])
    ankle = knee + apply(shin, down * SHIN * of["shin"])
    length = FOOT * of["foot"]
    soles = [(-0.02, length), (0.035, length - 0.03), (0.0, -0.06)]
    toes = jnp.stack([aside(x, -ANKLE_HEIGHT, z) for x, z in soles], axis=1)
    feet = ankle[:, :, None] + apply(foot[:, :, None], toes)
    hands = wrist[:, :, None] + apply(hand[:, :, None], _fingers(pose, of["hand"]))

    # The lowest of the soles is on the ground.
    lift = pose.place - jnp.array([0.0, 1.0, 0.0]) * feet[..., 1].min(axis=(1, 2))[:, None]
    points = {"pelvis": pelvis, "waist": waist, "neck": neck, "head": head}
    side_points = {"shoulder": shoulder, "elbow": elbow, "wrist": wrist, "hip": hip, "knee": knee, "ankle": ankle}
    return Skeleton(
        **{name: point + lift for name, point in points.items()},
        **{name: point + lift[:, None] for name, point in side_points.items()},
        pelvis_axes=pelvis_axes,
        chest_axes=chest_axes,
        head_axes=head_axes,
        upper_arm_axes=upper_arm,
        forearm_axes=forearm,
        hand_axes=hand,
        thigh_axes=thigh,
        shin_axes=shin,
        foot_axes=foot,
        hands=hands + lift[:, None, None],
        feet=feet + lift[:, None, None],
        factors=jnp.broadcast_to(factors, (len(lift), len(BONES))),
    )


def _fingers(pose: Pose, factor: Float[Array, ""]) -> Float[Array, "t 2 21 3"]:
    """The 21 points of both hands in the hands' own axes, the wrist at 0: fingers hang along -y, thumbs at +z."""
    curl, spread = pose.curl[..., None], pose.spread[..., None]
    roots = HAND * jnp.stack([jnp.zeros(FINGERS), -FINGER_ROOTS[:, 0], FINGER_ROOTS[:, 1]], axis=-1)
    thumb = jnp.arange(FINGERS) == 0
    lean = FINGER_LEAN * spread + jnp.where(thumb, THUMB_LEAN, 0.0)
    bend = jnp.where(thumb, 0.45, 1.0) * curl
    palm = jnp.array([-1.0, 1.0])[:, None]
    points = [jnp.broadcast_to(roots, (*lean.shape, 3))]
    for bone in range(3):
        angle = bend * (bone + 0.7)
        direction = jnp.stack(
            [jnp.sin(angle) * palm, -jnp.cos(angle) * jnp.cos(lean), jnp.cos(angle) * jnp.sin(lean)], axis=-1
        )
        points.append(points[-1] + HAND * (FINGER_LENGTHS * PHALANGES[bone])[:, None] * direction)
    fingers = jnp.stack(points, axis=-2)
    wrist = jnp.zeros((*fingers.shape[:2], 1, 3))
    return factor * jnp.concatenate([wrist, fingers.reshape(*fingers.shape[:2], 20, 3)], axis=2)
