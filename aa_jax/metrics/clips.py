"""Clips on their way into networks: checked, and a batch at a time."""

from collections.abc import Iterator

import numpy as np


def check_clip(frames: np.ndarray, what: str = "frames") -> None:
    """Raise ValueError unless `frames` is a clip, uint8 (t, h, w, 3) with at least one frame."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or frames.size == 0:
        raise ValueError(f"{what} of shape {frames.shape} and dtype {frames.dtype} given, expected uint8 (t, h, w, 3)")


def batches(count: int, batch_size: int) -> Iterator[slice]:
    """`count` items in batches of `batch_size`, what is left over one by one: two shapes, and nothing computed in vain.

    Raises:
      ValueError: a batch size that is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} given, expected 1 or more")
    whole = count - count % batch_size
    for start in range(0, whole, batch_size):
        yield slice(start, start + batch_size)
    for start in range(whole, count):
        yield slice(start, start + 1)
