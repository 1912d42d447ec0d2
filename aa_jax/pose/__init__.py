"""Poses: keypoints, their formats, drawing, smoothing and retargeting. NumPy and OpenCV only."""

from aa_jax.pose.draw import DrawStyle, draw_pose, draw_poses
from aa_jax.pose.files import load_keypoints, load_pose, save_keypoints
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.people import People, follow
from aa_jax.pose.retarget import retarget
from aa_jax.pose.smooth import fill_gaps, one_euro, savitzky_golay
from aa_jax.pose.wholebody import from_dwpose, from_rtmlib

__all__ = [
    "DrawStyle",
    "Keypoints",
    "People",
    "draw_pose",
    "draw_poses",
    "fill_gaps",
    "follow",
    "from_dwpose",
    "from_rtmlib",
    "load_keypoints",
    "load_pose",
    "one_euro",
    "retarget",
    "save_keypoints",
    "savitzky_golay",
]
