"""Poses: keypoints, their files and their drawing. NumPy and OpenCV only."""

from aa_jax.pose.draw import draw_pose, draw_poses
from aa_jax.pose.files import load_keypoints, load_pose, save_keypoints
from aa_jax.pose.keypoints import Keypoints

__all__ = ["Keypoints", "draw_pose", "draw_poses", "load_keypoints", "load_pose", "save_keypoints"]
