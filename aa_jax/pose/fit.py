"""Keypoints on a frame of another aspect, by the same three modes as images."""

import dataclasses

import numpy as np

from aa_jax.image import ResizeMode
from aa_jax.pose.keypoints import Keypoints


def fit_keypoints(keypoints: Keypoints, height: int, width: int, mode: ResizeMode) -> Keypoints:
    """The keypoints as they lie on a frame of `height` x `width`.

    Args:
      mode: "stretch" keeps the normalised coordinates, "crop" scales the old frame to cover the new one, "letterbox"
        to fit inside it; both keep the centre.
    """
    if mode == "stretch":
        points = keypoints.points
    else:
        ratios = np.array([width / keypoints.width, height / keypoints.height])
        scale = ratios.max() if mode == "crop" else ratios.min()
        points = (keypoints.points - 0.5) * (scale / ratios) + 0.5
    return dataclasses.replace(keypoints, points=points, height=height, width=width)
