"""Motion capture files performed by synthetic characters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.data.synthetic import SyntheticSource
from aa_jax.data.synthetic.bvh import files, load_bvh, perform
from aa_jax.data.synthetic.character import BONES
from aa_jax.data.synthetic.skeleton import pose_skeleton

# A figure in a T-pose; each joint: name, parent's depth, offset.
JOINTS = (
    ("Hips", 0, (0, 90, 0)), ("Spine", 1, (0, 20, 0)), ("Neck", 2, (0, 30, 0)), ("Head", 3, (0, 10, 0)),
    ("LeftArm", 2, (17, 25, 0)), ("LeftForeArm", 3, (28, 0, 0)), ("LeftHand", 4, (25, 0, 0)),
    ("RightArm", 2, (-17, 25, 0)), ("RightForeArm", 3, (-28, 0, 0)), ("RightHand", 4, (-25, 0, 0)),
    ("LeftUpLeg", 1, (9, 0, 0)), ("LeftLeg", 2, (0, -42, 0)), ("LeftFoot", 3, (0, -42, 0)),
    ("LeftToeBase", 4, (0, -6, 14)),
    ("RightUpLeg", 1, (-9, 0, 0)), ("RightLeg", 2, (0, -42, 0)), ("RightFoot", 3, (0, -42, 0)),
    ("RightToeBase", 4, (0, -6, 14)),
)  # fmt: skip
FRAMES, RATE = 60, 30
POSE = jax.jit(pose_skeleton)


def write(path, angles=None, joints=JOINTS):
    """A file with rotations Z X Y in degrees: `angles` gives (frames, 3) of some joints."""
    lines, depth = ["HIERARCHY"], -1
    for index, (name, level, offset) in enumerate(joints):
        while depth >= level:
            lines.append("}")
            depth -= 1
        root = "Xposition Yposition Zposition " if index == 0 else ""
        lines += [f"{'JOINT' if index else 'ROOT'} {name}", "{", "OFFSET " + " ".join(map(str, offset)),
                  f"CHANNELS {6 if index == 0 else 3} {root}Zrotation Xrotation Yrotation"]  # fmt: skip
        depth = level
        if index + 1 == len(joints) or joints[index + 1][1] <= level:
            lines += ["End Site", "{", "OFFSET 0 1 0", "}"]
    lines += ["}"] * (depth + 1)
    values = np.zeros((FRAMES, 3 + 3 * len(joints)))
    for name, turn in (angles or {}).items():
        column = 3 + 3 * [joint[0] for joint in joints].index(name)
        values[:, column : column + 3] = turn
    lines += [
        "MOTION",
        f"Frames: {FRAMES}",
        f"Frame Time: {1 / RATE}",
        *(" ".join(f"{v:.6f}" for v in row) for row in values),
    ]
    path.write_text("\n".join(lines))
    return path


def posed(path):
    return POSE(jnp.ones(len(BONES)), perform(path, 0, np.arange(24) / 12))


def test_reading(tmp_path):
    capture = load_bvh(write(tmp_path / "t.bvh", {"LeftArm": (0, 0, 90)}))
    assert capture.names == tuple(name for name, *_ in JOINTS) and capture.fps == pytest.approx(RATE)
    places, _ = capture.solve()
    where = {name: places[0, index] for index, name in enumerate(capture.names)}
    # The offset of the root is replaced by its position channels.
    np.testing.assert_allclose(where["RightHand"], [-70, 45, 0], atol=1e-6)
    np.testing.assert_allclose(where["LeftHand"], [17, 45, -53], atol=1e-6)


def test_a_t_pose_is_a_t_pose(tmp_path):
    bones = posed(write(tmp_path / "t.bvh"))
    arms = np.asarray(bones.wrist - bones.shoulder)
    assert (np.abs(arms[:, 0, 0]) > 0.4).all() and (arms[:, 0, 0] > 0).all() and (arms[:, 1, 0] < 0).all()
    np.testing.assert_allclose(arms[..., 1:], 0, atol=0.01)
    legs = np.asarray(bones.ankle - bones.hip)
    np.testing.assert_allclose(legs[..., [0, 2]], 0, atol=0.01)
    toes = np.asarray(bones.feet[:, :, 0] - bones.ankle)
    assert (toes[..., 2] > 0.1).all()
    np.testing.assert_allclose(bones.head_axes, np.broadcast_to(np.eye(3), (24, 3, 3)), atol=1e-4)


def test_limbs_point_where_the_file_says(tmp_path):
    """Arms lowered, a forearm raised to the front, a knee bent, the figure turned to its left."""
    turns = {"LeftArm": (-90, 0, 0), "RightArm": (90, 0, 0), "LeftForeArm": (0, 0, -90), "RightUpLeg": (0, -60, 0),
             "RightLeg": (0, 80, 0), "Hips": (0, 0, 90)}  # fmt: skip
    bones = posed(write(tmp_path / "pose.bvh", turns))

    def direction(start, end, side):
        vector = np.asarray(getattr(bones, end)[0, side] - getattr(bones, start)[0, side])
        return vector / np.linalg.norm(vector)

    # Turned by 90 degrees to its left, the figure's front is +x.
    for side in (0, 1):
        np.testing.assert_allclose(direction("shoulder", "elbow", side), [0, -1, 0], atol=0.02)
    np.testing.assert_allclose(direction("elbow", "wrist", 0), [1, 0, 0], atol=0.02)
    np.testing.assert_allclose(direction("elbow", "wrist", 1), [0, -1, 0], atol=0.02)
    np.testing.assert_allclose(direction("hip", "knee", 1), [np.sin(np.pi / 3), -0.5, 0], atol=0.02)
    np.testing.assert_allclose(direction("knee", "ankle", 1), [-np.sin(np.pi / 9), -np.cos(np.pi / 9), 0], atol=0.02)


def test_characters_perform_files(tmp_path):
    write(tmp_path / "a.bvh", {"RightArm": np.stack([np.linspace(0, 80, FRAMES)] + [np.zeros(FRAMES)] * 2, -1)})
    write(tmp_path / "b.BVH")
    (tmp_path / "notes.txt").write_text("")
    assert [path.name for path in files(tmp_path)] == ["a.bvh", "b.BVH"]
    source = SyntheticSource(split="train", num_clips=12, num_frames=4, height=96, width=72, bvh=tmp_path)
    assert len({source[index].motion.family for index in range(12)}) == 2
    clip = next(clip for clip in (source[i] for i in range(12)) if clip.motion.family.endswith("a.bvh"))
    assert clip.masks([0]).mean() > 0.05
    right = clip.keypoints.points[:, 4] - clip.keypoints.points[:, 2]
    assert np.ptp(right, axis=0).max() > 0.005
    still = next(clip for clip in (source[i] for i in range(12)) if clip.motion.family.endswith("b.BVH"))
    assert np.ptp(still.keypoints.points, axis=0).max() < 1e-4


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no BVH files"):
        SyntheticSource(split="train", num_clips=1, num_frames=4, height=96, width=72, bvh=tmp_path)
    whole = write(tmp_path / "whole.bvh")
    with pytest.raises(ValueError, match="belong to none"):
        SyntheticSource(split="both", num_clips=1, num_frames=4, height=96, width=72, bvh=tmp_path)
    text = whole.read_text()
    damaged = {"cut.bvh": text[: len(text) // 2], "empty.bvh": "", "no.bvh": "hello " * 20, "short.bvh": text[:-40],
               "words.bvh": text.replace("OFFSET 9", "OFFSET nine")}  # fmt: skip
    for name, content in damaged.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=f"{name} is damaged or no BVH file"):
            load_bvh(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_bvh(tmp_path / "none.bvh")
    armless = write(tmp_path / "armless.bvh", joints=tuple(joint for joint in JOINTS if "LeftHand" not in joint[0]))
    with pytest.raises(ValueError, match="has no joint left wrist: expected one of lefthand, leftwrist"):
        perform(armless, 0, np.zeros(2))
