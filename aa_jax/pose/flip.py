"""Keypoints of the mirrored image: left and right change places."""

import dataclasses

import numpy as np

from aa_jax.pose.keypoints import BODY, FACE, FEET, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, Keypoints

# Each point's partner among the points of its part. Face: the 68 points of iBUG 300-W.
BODY_PARTNERS = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
FEET_PARTNERS = (3, 4, 5, 0, 1, 2)
FACE_PARTNERS = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    27, 28, 29, 30, 35, 34, 33, 32, 31,  # nose
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,  # eyes
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,  # outer lips
    64, 63, 62, 61, 60, 67, 66, 65,  # inner lips
)  # fmt: skip


def _partners() -> np.ndarray:
    indices = np.arange(NUM_KEYPOINTS)
    partners = indices.copy()
    for part, order in ((BODY, BODY_PARTNERS), (FEET, FEET_PARTNERS), (FACE, FACE_PARTNERS)):
        partners[part] = indices[part][list(order)]
    partners[LEFT_HAND], partners[RIGHT_HAND] = indices[RIGHT_HAND], indices[LEFT_HAND]
    return partners


PARTNERS = _partners()


def flip_keypoints(keypoints: Keypoints) -> Keypoints:
    """The keypoints as a detector finds them in the horizontally mirrored frames."""
    points = keypoints.points[:, PARTNERS] * (-1, 1) + (1, 0)
    return dataclasses.replace(keypoints, points=points, scores=keypoints.scores[:, PARTNERS])
