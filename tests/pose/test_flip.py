"""Mirrored keypoints."""

import numpy as np

from aa_jax.pose.flip import PARTNERS, flip_keypoints
from aa_jax.pose.keypoints import FACE, NUM_KEYPOINTS, Keypoints


def keypoints():
    rng = np.random.default_rng(0)
    points, scores = rng.uniform(0, 1, (3, NUM_KEYPOINTS, 2)), rng.uniform(0, 1, (3, NUM_KEYPOINTS))
    return Keypoints(points=points, scores=scores, height=20, width=10)


def test_twice_is_the_identity():
    twice = flip_keypoints(flip_keypoints(keypoints()))
    np.testing.assert_allclose(twice.points, keypoints().points, atol=1e-6)
    np.testing.assert_array_equal(twice.scores, keypoints().scores)


def test_left_and_right_change_places():
    before, after = keypoints(), flip_keypoints(keypoints())
    for left, right in ((5, 2), (7, 4), (13, 10), (15, 14), (18, 21), (20, 23), (92, 113), (112, 133)):
        np.testing.assert_allclose(after.points[:, left], [1, 0] + [-1, 1] * before.points[:, right], atol=1e-6)
        np.testing.assert_array_equal(after.scores[:, left], before.scores[:, right])
    for middle in (0, 1):
        np.testing.assert_allclose(after.points[:, middle, 0], 1 - before.points[:, middle, 0], atol=1e-6)


def test_a_symmetric_face_stays_as_it_is():
    """A schematic face of 68 points: jaw, brows, nose, eyes, lips, each point at its place."""
    jaw = [(np.cos(a), np.sin(a)) for a in np.linspace(np.pi, 0, 17)]
    brows = [(x, -0.5) for x in (-0.7, -0.6, -0.5, -0.4, -0.3, 0.3, 0.4, 0.5, 0.6, 0.7)]
    nose = [(0, y) for y in (-0.3, -0.2, -0.1, 0)] + [(x, 0.1) for x in (-0.2, -0.1, 0, 0.1, 0.2)]
    eye = [(-0.2, 0), (-0.1, -0.1), (0.1, -0.1), (0.2, 0), (0.1, 0.1), (-0.1, 0.1)]
    eyes = [(x - 0.5, y - 0.3) for x, y in eye] + [(x + 0.5, y - 0.3) for x, y in eye]
    outer = [(np.cos(a) * 0.4, 0.5 + 0.2 * np.sin(a)) for a in np.pi + np.arange(12) * np.pi / 6]
    inner = [(np.cos(a) * 0.3, 0.5 + 0.1 * np.sin(a)) for a in np.pi + np.arange(8) * np.pi / 4]
    face = np.array(jaw + brows + nose + eyes + outer + inner)
    np.testing.assert_allclose(face[PARTNERS[FACE] - FACE.start] * (-1, 1), face, atol=1e-9)
