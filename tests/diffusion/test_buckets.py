"""Lengths of a bucket share their plan's shape, and their own frames' windows and weights are what they were."""

import numpy as np
import pytest

from aa_jax.diffusion import Moore, Paper, Shifted, Triangular, Uniform, WindowPlan, bucket, padded_plan

STEPS = 5
STRATEGIES = (
    Paper(length=24),
    Uniform(length=24, overlap=4),
    Triangular(length=20, overlap=10),
    Shifted(length=24, overlap=4),
    Moore(length=24, overlap=4),
)


def shape(plan):
    return plan.num_frames, plan.frames.shape, plan.weights.shape


def test_buckets():
    sizes = [bucket(frames) for frames in range(1, 50)]
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    assert all(frames <= size <= 1.5 * frames for frames, size in enumerate(sizes, 1))
    assert {bucket(frames) for frames in range(17, 25)} == {24}


@pytest.mark.parametrize("windows", STRATEGIES, ids=lambda w: type(w).__name__)
def test_few_shapes(windows):
    """One for 17 to 24 frames in a window of 24."""
    shapes = [shape(padded_plan(windows, frames, STEPS)[0]) for frames in range(1, windows.length + 1)]
    assert len(set(shapes[16:20])) == 1
    assert len(set(shapes)) <= 9


@pytest.mark.parametrize("windows", STRATEGIES, ids=lambda w: type(w).__name__)
def test_the_true_frames_are_treated_as_without(windows):
    for frames in range(1, 121):
        plan = windows.plan(frames, STEPS)
        padded, true_frames = padded_plan(windows, frames, STEPS)
        assert padded.num_frames >= frames
        if true_frames is None:
            np.testing.assert_array_equal(padded.frames, plan.frames)
            np.testing.assert_array_equal(padded.weights, plan.weights)
            continue
        assert true_frames == frames <= windows.length and padded.num_frames <= windows.length
        np.testing.assert_array_equal(padded.frames[..., :frames], plan.frames)
        np.testing.assert_array_equal(padded.weights[..., :frames], plan.weights)
        assert padded.frames[..., frames:].min(initial=frames) >= frames


class Odd:
    """A strategy of a user's own, whose weights depend on the number of frames."""

    def plan(self, num_frames, num_steps):
        frames = np.arange(num_frames, dtype=np.int32)[None, None].repeat(2, axis=1)
        weights = np.full(frames.shape, 0.5, np.float32)
        weights[:, 0], weights[:, 1] = 1 / num_frames, 1 - 1 / num_frames
        return WindowPlan(frames=frames, weights=weights, num_frames=num_frames)


def test_a_strategy_that_padding_would_change_is_not_padded():
    plan, true_frames = padded_plan(Odd(), 5, STEPS)
    assert plan.num_frames == 5 == true_frames
