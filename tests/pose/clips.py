"""Keypoints to test with: one person who moves, every point seen, no two points in one place."""

import dataclasses

import numpy as np

from aa_jax.pose import Keypoints


def make_clip(frames: int = 4, *, height: int = 720, width: int = 1280, fps: float | None = None) -> Keypoints:
    """Points within the image, each on its own smooth path; scores from 0.5 to 1; the neck between the shoulders."""
    rng = np.random.default_rng(0)
    start, step = rng.uniform(0.2, 0.7, (134, 2)), rng.uniform(-0.2, 0.2, (134, 2))
    points = start + step * np.sin(np.arange(frames) / 7)[:, None, None]
    scores = rng.uniform(0.5, 1, (frames, 134))
    points[:, 1], scores[:, 1] = points[:, [2, 5]].mean(axis=1), scores[:, [2, 5]].min(axis=1)
    return Keypoints(points=points, scores=scores, height=height, width=width, fps=fps)


def hide(keypoints: Keypoints, frames: object, points: object) -> Keypoints:
    """The same with a score of 0 for these points in these frames."""
    scores = keypoints.scores.copy()
    scores[frames, points] = 0
    return dataclasses.replace(keypoints, scores=scores)


def assert_same_clip(one: Keypoints, other: Keypoints, points: object = slice(None)) -> None:
    """Equal sizes and scores, and equal places of the points that are not missing; of these points."""
    assert (one.height, one.width, len(one)) == (other.height, other.width, len(other))
    np.testing.assert_allclose(one.scores[:, points], other.scores[:, points], atol=1e-6)
    seen = other.scores[:, points] > 0
    np.testing.assert_allclose(one.points[:, points][seen], other.points[:, points][seen], atol=2e-6)
