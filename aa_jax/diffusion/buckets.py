"""Few shapes for many lengths: a video is denoised with further frames that its own frames do not see, and that are cut
off the result, so that one program serves all lengths of a bucket."""

import bisect
import dataclasses
import itertools

import numpy as np

from aa_jax.diffusion.windows import WindowPlan, Windows


def bucket(num_frames: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, ... frames: at most half as many again, and none more for the
    lengths that most clips have."""
    sizes = (size for power in itertools.count() for size in (2**power, 3 * 2**power // 2))
    return next(size for size in sizes if size >= num_frames)


def padded_plan(
    windows: Windows, num_frames: int, num_steps: int, *, masked: bool
) -> tuple[WindowPlan, np.int32 | None]:
    """A plan for `num_frames` frames or some more, the same shape for all lengths of a bucket.

    Where windows are shorter than the video, its bucket are the lengths that take as many windows of the same length.
    The windows are those of the true length (also where the last one wraps round to the first frame), and the further
    frames are in none. Where windows hold the whole video, its bucket is `bucket`'s, but not beyond what the strategy
    takes into one window; the further frames are denoised with the others, which must not see them.

    Args:
      masked: whether the network can leave frames out of a window (`Conditions.num_frames`). If not, videos that fit
        into one window keep their length.

    Returns:
      The plan, and how many frames of its windows are true, the first ones; None where all are.
    """
    plan = windows.plan(num_frames, num_steps)
    steps, count, length = plan.frames.shape
    whole = length == num_frames
    if whole and not masked:
        return plan, None
    largest = bucket(num_frames) if whole else count * length

    def differs(frames: int) -> bool:
        return windows.plan(frames, num_steps).frames.shape != (steps, count, frames if whole else length)

    # What takes more windows, or windows that are no longer whole, takes them for every greater length too.
    longer = bisect.bisect_left(range(num_frames, largest + 1), True, key=differs) + num_frames - 1
    if not whole:
        return dataclasses.replace(plan, num_frames=longer), None
    padded = windows.plan(longer, num_steps)
    same = (
        np.array_equal(padded.frames[..., :length], plan.frames),
        np.array_equal(padded.weights[..., :length], plan.weights),
    )
    return (padded, np.int32(num_frames)) if all(same) else (plan, None)
