"""Few shapes for many lengths: a short video is denoised with further frames that its own frames do not see, and that
are cut off the result, so that one program serves all lengths of a bucket."""

import itertools

import numpy as np

from aa_jax.diffusion.windows import WindowPlan, Windows


def bucket(num_frames: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, ... frames: at most half as many again, and none more for the
    lengths that most clips have."""
    sizes = (size for power in itertools.count() for size in (2**power, 3 * 2**power // 2))
    return next(size for size in sizes if size >= num_frames)


def padded_plan(windows: Windows, num_frames: int, num_steps: int) -> tuple[WindowPlan, np.int32 | None]:
    """The plan for `num_frames` frames or, where one window holds the video, some more: those of its `bucket`, but not
    beyond what the strategy takes into one window. The further frames are denoised with the others, which must not see
    them.

    Returns:
      The plan, and how many frames of its window are true, the first ones; None where there are several windows.
    """
    plan = windows.plan(num_frames, num_steps)
    steps, count, length = plan.frames.shape
    if length != num_frames:
        return plan, None

    def as_before(padded: WindowPlan) -> bool:
        return (
            padded.frames.shape == (steps, count, padded.num_frames)
            and np.array_equal(padded.frames[..., :length], plan.frames)
            and np.array_equal(padded.weights[..., :length], plan.weights)
        )

    longer = (windows.plan(frames, num_steps) for frames in range(bucket(num_frames), num_frames, -1))
    return next(filter(as_before, longer), plan), np.int32(num_frames)
