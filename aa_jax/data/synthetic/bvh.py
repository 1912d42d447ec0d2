"""Motion capture in BVH files, performed by synthetic characters.

Directions of limbs and orientations of pelvis, chest and head are taken from the file, lengths are the character's.
The rest pose must face +z with y up, as is usual; travel over the ground is left out.
"""

import dataclasses
import functools
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from aa_jax.atomic import StrPath
from aa_jax.data.synthetic.skeleton import Pose

# Names of each joint in files of several systems, without case, underscores and what is before a colon; the first found
# counts. {} is left or right.
NAMES = {
    "pelvis": ("hips", "hip", "pelvis", "root"),
    "chest": ("chest2", "spine2", "spine1", "chest", "spine", "thorax"),
    "head": ("head",),
    "shoulder": ("{}arm", "{}upperarm", "{}uparm", "{}shoulder"),
    "elbow": ("{}forearm", "{}lowerarm", "{}lowarm", "{}elbow"),
    "wrist": ("{}hand", "{}wrist"),
    "hip": ("{}upleg", "{}upperleg", "{}thigh", "{}hip"),
    "knee": ("{}leg", "{}lowerleg", "{}lowleg", "{}shin", "{}knee"),
    "ankle": ("{}foot", "{}ankle"),
    "toe": ("{}toebase", "{}toes", "{}toe"),
}
CENTRAL = ("pelvis", "chest", "head")
# Fingers are not in most files.
RELAXED_CURL, RELAXED_SPREAD = 0.4, 0.1
# A joint bent by less than this sine does not tell where its limb's front is.
STRAIGHT = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """A BVH file.

    Attributes:
      names: of the joints, end sites left out; parents come first.
      parents: index of each joint's parent, -1 for the root.
      offsets: (j, 3) from the parent.
      channels: of each joint, as "Xposition" or "Zrotation", in the file's order.
      values: (t, c) of all channels, degrees.
      fps: frames per second.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float[np.ndarray, "j 3"]
    channels: tuple[tuple[str, ...], ...]
    values: Float[np.ndarray, "t c"]
    fps: float

    def solve(self) -> tuple[Float[np.ndarray, "t j 3"], Float[np.ndarray, "t j 3 3"]]:
        """Places and axes of all joints in space."""
        count = len(self.values)
        places, axes = np.zeros((count, len(self.names), 3)), np.zeros((count, len(self.names), 3, 3))
        column = 0
        for joint, (parent, channels) in enumerate(zip(self.parents, self.channels, strict=True)):
            offset, turn = np.tile(self.offsets[joint], (count, 1)), np.tile(np.eye(3), (count, 1, 1))
            for channel in channels:
                axis, value = "XYZ".index(channel[0].upper()), self.values[:, column]
                column += 1
                if channel.lower().endswith("position"):
                    offset[:, axis] = value
                else:
                    turn = turn @ _about(axis, np.deg2rad(value))
            if parent < 0:
                places[:, joint], axes[:, joint] = offset, turn
            else:
                places[:, joint] = places[:, parent] + np.einsum("tij,tj->ti", axes[:, parent], offset)
                axes[:, joint] = axes[:, parent] @ turn
        return places, axes


def files(folder: StrPath) -> list[Path]:
    """The BVH files of a folder, sorted.

    Raises:
      FileNotFoundError: there is no folder, or no BVH file in it.
    """
    found = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() == ".bvh")
    if not found:
        raise FileNotFoundError(f"{folder} has no BVH files (.bvh), expected a folder of them")
    return found


def load_bvh(path: StrPath) -> Capture:
    """Read a BVH file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no BVH file, or is cut short.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist, expected a BVH file")
    try:
        words = Path(path).read_text().split()
        return _parse(words)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path} is damaged or no BVH file: {error or type(error).__name__}") from error


def perform(path: StrPath, number: int, times: Float[np.ndarray, " n"]) -> Pose:
    """The pose at `times` (seconds) after a start in the file that `number` chooses; before the file's first and after
    its last frame it stands still.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no BVH file, or lacks a joint.
    """
    places, axes, fps = _load_joints(os.fspath(path))
    # The warm-up lies before the start, so that it is at the latest where the clip still fits.
    room = max(len(places["pelvis"]) / fps - times[-1], 0.0)
    start = np.random.default_rng((2, number)).uniform(0, room)
    frame = np.clip((times + start) * fps, 0, len(places["pelvis"]) - 1.001)
    low, part = np.floor(frame).astype(int), frame - np.floor(frame)

    def at(track: np.ndarray) -> np.ndarray:
        weight = part.reshape(-1, *[1] * (track.ndim - 1))
        return track[low] * (1 - weight) + track[np.minimum(low + 1, len(track) - 1)] * weight

    return _pose({name: at(track) for name, track in places.items()}, {name: at(track) for name, track in axes.items()})


@functools.lru_cache(maxsize=64)
def _load_joints(path: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float]:
    """Tracks of the places of all joints of `NAMES`, as "left_knee", and of the axes of central ones."""
    capture = load_bvh(path)
    places, axes = capture.solve()
    known = {name.split(":")[-1].replace("_", "").lower(): index for index, name in enumerate(capture.names)}
    found: dict[str, int] = {}
    for joint, names in NAMES.items():
        for side in ("",) if joint in CENTRAL else ("left", "right"):
            match = next((known[name.format(side)] for name in names if name.format(side) in known), None)
            if match is None:
                wanted = ", ".join(name.format(side) for name in names)
                raise ValueError(
                    f"{path} has no joint {side} {joint}: expected one of {wanted}, found {', '.join(known)}"
                )
            found[f"{side}_{joint}" if side else joint] = match
    return (
        {name: places[:, index] for name, index in found.items()},
        {name: axes[:, found[name]] for name in CENTRAL},
        capture.fps,
    )


def _pose(places: dict[str, np.ndarray], axes: dict[str, np.ndarray]) -> Pose:
    pelvis, chest, head = (_frame(axes[name][..., 1], axes[name][..., 2]) for name in CENTRAL)
    central = np.stack([pelvis, _local(pelvis, chest), _local(chest, head)], axis=1)
    mirror = np.array([[1.0, -1, -1], [-1, 1, 1], [-1, 1, 1]])
    sides = []
    for side in ("left", "right"):
        bone = {name.removeprefix(f"{side}_"): place for name, place in places.items() if name.startswith(side)}
        upper_arm = _limb(bone["shoulder"], bone["elbow"], bone["wrist"], chest, forward=1.0)
        forearm = _frame(bone["elbow"] - bone["wrist"], upper_arm[..., 2])
        thigh = _limb(bone["hip"], bone["knee"], bone["ankle"], pelvis, forward=-1.0)
        shin = _frame(bone["knee"] - bone["ankle"], thigh[..., 2])
        toes = bone["toe"] - bone["ankle"]
        toes = toes / np.linalg.norm(toes, axis=-1, keepdims=True)
        # Toes are lower than ankles: the sole's direction is what is left of theirs without that.
        foot = _frame(shin[..., 1] + 0.35 * toes, toes + 0.35 * shin[..., 1])
        turns = [_local(chest, upper_arm), _local(upper_arm, forearm), np.tile(np.eye(3), (len(chest), 1, 1)),
                 _local(pelvis, thigh), _local(thigh, shin), _local(shin, foot)]  # fmt: skip
        sides.append(np.stack(turns, axis=1) * (mirror if side == "right" else 1.0))
    count = len(pelvis)
    return Pose(
        place=jnp.zeros((count, 3)),
        central=jnp.asarray(central, jnp.float32),
        sides=jnp.asarray(np.stack(sides, axis=1), jnp.float32),
        curl=jnp.full((count, 2), RELAXED_CURL),
        spread=jnp.full((count, 2), RELAXED_SPREAD),
    )


def _limb(start: np.ndarray, middle: np.ndarray, end: np.ndarray, parent: np.ndarray, *, forward: float) -> np.ndarray:
    """Axes of the upper bone of a limb: y up the bone, z to where it bends, or as the parent's if it is straight."""
    up, lower = start - middle, end - middle
    up = up / np.linalg.norm(up, axis=-1, keepdims=True)
    lower = lower / np.linalg.norm(lower, axis=-1, keepdims=True)
    bent = forward * (lower - (lower * up).sum(axis=-1, keepdims=True) * up)
    amount = np.clip(np.linalg.norm(bent, axis=-1, keepdims=True) / STRAIGHT, 0, 1)
    straight = parent[..., 2] - (parent[..., 2] * up).sum(axis=-1, keepdims=True) * up
    return _frame(up, amount * bent + (1 - amount) * STRAIGHT * straight)


def _frame(up: np.ndarray, front: np.ndarray) -> np.ndarray:
    """The rotation whose y is along `up` and whose z is nearest to `front`; columns are the axes."""
    y = up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-9)
    x = np.cross(y, front)
    x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _local(parent: np.ndarray, child: np.ndarray) -> np.ndarray:
    return np.swapaxes(parent, -1, -2) @ child


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    turn = np.zeros((len(angle), 3, 3))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    turn[:, axis, axis] = 1
    turn[:, a, a] = turn[:, b, b] = np.cos(angle)
    turn[:, b, a], turn[:, a, b] = np.sin(angle), -np.sin(angle)
    return turn


def _parse(words: list[str]) -> Capture:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[np.ndarray] = []
    channels: list[tuple[str, ...]] = []
    # Open braces: the index of the joint, or None for an end site.
    stack: list[int | None] = []
    opening: int | None = None
    if not words or words[0].upper() != "HIERARCHY":
        raise ValueError("it does not begin with HIERARCHY")
    position = 1
    while words[position].upper() != "MOTION":
        word = words[position].upper()
        if word in ("ROOT", "JOINT"):
            opening = len(names)
            names.append(words[position + 1])
            parents.append(next((joint for joint in reversed(stack) if joint is not None), -1))
            offsets.append(np.zeros(3))
            channels.append(())
            position += 2
        elif word == "END":
            opening = None
            position += 2
        elif word == "{":
            stack.append(opening)
            position += 1
        elif word == "}":
            stack.pop()
            position += 1
        elif word == "OFFSET":
            if stack[-1] is not None:
                offsets[stack[-1]] = np.array([float(value) for value in words[position + 1 : position + 4]])
            position += 4
        elif word == "CHANNELS":
            count = int(words[position + 1])
            channels[stack[-1] or 0] = tuple(words[position + 2 : position + 2 + count])
            position += 2 + count
        else:
            raise ValueError(f"{words[position]!r} is unexpected in the hierarchy")
    if [word.upper() for word in words[position + 1 : position + 2]] != ["FRAMES:"]:
        raise ValueError("it does not say how many frames it has")
    count, seconds = int(words[position + 2]), float(words[position + 5])
    numbers = np.array([float(word) for word in words[position + 6 :]])
    width = sum(len(own) for own in channels)
    if count < 2 or seconds <= 0 or len(numbers) != count * width:
        raise ValueError(
            f"{len(numbers)} numbers, expected {count} frames (2 or more) of {width} channels, {seconds} s each"
        )
    return Capture(
        names=tuple(names), parents=tuple(parents), offsets=np.array(offsets), channels=tuple(channels),
        values=numbers.reshape(count, width), fps=1 / seconds,
    )  # fmt: skip
