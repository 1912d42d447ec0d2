"""Long videos: which frames are denoised together at which step, and how much each prediction counts, as tables.

A temporal layer sees at most `length` frames. A longer video is covered by overlapping windows; each is predicted on
its own, and a frame's prediction is the weighted mean over the windows that hold it. A strategy chooses windows and
weights, `sample` knows only the tables.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """The windows of a run.

    A pytree: under `jax.jit` the tables are traced, so that plans of one shape share a program.

    Attributes:
      frames: frame numbers, int32 (steps, windows, length); steps is 1 if all steps share the windows.
      weights: float32 of the same shape; in each step, those of one frame sum to one over the windows that hold it.
      num_frames: frames in the video (static).
    """

    frames: Any
    weights: Any
    num_frames: int = dataclasses.field(metadata={"static": True})


class Windows(Protocol):
    """A strategy. Implementations are frozen dataclasses."""

    def plan(self, num_frames: int, num_steps: int) -> WindowPlan:
        """The tables for a video of `num_frames` (1 or more) in `num_steps` steps (1 or more).

        A video of at most `length` frames is one window of its own length.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
    """Temporal aggregation as Animate Anyone (arXiv 2311.17117) has it from EDGE (arXiv 2211.10658).

    Windows overlap by half, and after each step the first half of a window becomes the second half of the one before
    it, `x[1:, :half] = x[:-1, half:]`. So a frame follows the prediction of the earliest window that has it outside its
    first half (the first window owns all its frames), which is a weight of one for that window and zero for the others.
    (EDGE does not do so after its last step, and cross-fades instead.) The last window is moved back to end at the last
    frame.
    """

    length: int = 24

    def __post_init__(self) -> None:
        _check_length_and_overlap(self, self.length, self.length // 2)

    def plan(self, num_frames: int, num_steps: int) -> WindowPlan:
        half = self.length // 2
        frames = _frames(_starts(num_frames, self.length, half), num_frames, self.length)
        owns = np.zeros(frames.shape, dtype=bool)
        owns[:, half:] = True
        owns[0] = True
        owned = np.flatnonzero(owns)
        _, earliest = np.unique(frames.ravel()[owned], return_index=True)
        weights = np.zeros(frames.shape)
        weights.ravel()[owned[earliest]] = 1
        return _plan(frames[None], weights[None], num_frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform:
    """Windows `length - overlap` apart, predictions averaged; the last one is moved back to end at the last frame."""

    length: int = 24
    overlap: int = 4

    def __post_init__(self) -> None:
        _check_length_and_overlap(self, self.length, self.overlap)

    def plan(self, num_frames: int, num_steps: int) -> WindowPlan:
        frames = _frames(_starts(num_frames, self.length, self.overlap), num_frames, self.length)
        return _plan(frames[None], np.ones((1, *frames.shape)), num_frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Triangular:
    """As `Uniform`, but a prediction counts for less the nearer its frame is to an end of the window.

    Windows so fade into each other where they overlap, and the frames with context on one side only count least.
    """

    length: int = 24
    overlap: int = 12

    def __post_init__(self) -> None:
        _check_length_and_overlap(self, self.length, self.overlap)

    def plan(self, num_frames: int, num_steps: int) -> WindowPlan:
        frames = _frames(_starts(num_frames, self.length, self.overlap), num_frames, self.length)
        position = np.arange(frames.shape[1])
        triangle = np.minimum(position, position[::-1]) + 1.0
        return _plan(frames[None], np.broadcast_to(triangle, (1, *frames.shape)), num_frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shifted:
    """As `Uniform`, but the inner windows move from step to step, so that no seam stays in place.

    Offsets follow the bit-reversed step number, which spreads them evenly over any run of steps. All steps have the
    same number of windows, one more than `Uniform`'s at most; where a step needs fewer, the last window is repeated
    with a weight of zero.
    """

    length: int = 24
    overlap: int = 4

    def __post_init__(self) -> None:
        _check_length_and_overlap(self, self.length, self.overlap)

    def plan(self, num_frames: int, num_steps: int) -> WindowPlan:
        stride = self.length - self.overlap
        last = max(num_frames - self.length, 0)
        # The second window starts 1 to `stride` frames in; with 1, this many are needed to reach the end.
        inner = np.arange(math.ceil((last - 1) / stride) + 1 if last else 0) * stride
        shifts = stride - np.floor(stride * np.array([bit_reversed(step) for step in range(num_steps)])).astype(int)
        starts = np.minimum(np.pad(shifts[:, None] + inner, ((0, 0), (1, 0))), last)
        frames = _frames(starts, num_frames, self.length)
        repeated = np.diff(starts, prepend=-1) == 0
        return _plan(frames, np.where(repeated[..., None], 0.0, np.ones(frames.shape)), num_frames)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moore:
    """Moore-AnimateAnyone's windows (its `src/pipelines/context.py`), for results equal to that system's.

    A closed loop: the last window wraps, so that the last frame is followed by the first, as if the video were
    periodic. Predictions are averaged. Every step has the windows of step 0. Prefer another strategy for videos that
    are no loops.
    """

    length: int = 24
    overlap: int = 4

    def __post_init__(self) -> None:
        _check_length_and_overlap(self, self.length, self.overlap)

    def plan(self, num_frames: int, num_steps: int) -> WindowPlan:
        _check_num_frames(num_frames)
        frames = np.array([moore_windows(num_frames, length=self.length, overlap=self.overlap)])
        return _plan(frames, np.ones(frames.shape), num_frames)


def moore_windows(
    num_frames: int, *, length: int, overlap: int, stride: int = 1, step: int = 0, closed_loop: bool = True
) -> list[list[int]]:
    """Windows of one step, as the context scheduler of Moore-AnimateAnyone makes them.

    Args:
      num_frames: frames in the video.
      length: frames in a window.
      overlap: frames that neighbouring windows share.
      stride: windows of every 1st, 2nd, 4th, ... frame: this many spacings at most, fewer for a short video.
      step: denoising step, which shifts the windows.
      closed_loop: whether windows go on until the video is wrapped.
    """
    if num_frames <= length:
        return [list(range(num_frames))]
    windows = []
    shift = bit_reversed(step)
    for level in range(min(stride, math.ceil(math.log2(num_frames / length)) + 1)):
        spacing = 2**level
        pad = round(num_frames * shift)
        first = int(shift * spacing) + pad
        end = num_frames + pad - (0 if closed_loop else overlap)
        for start in range(first, end, length * spacing - overlap):
            windows.append([frame % num_frames for frame in range(start, start + length * spacing, spacing)])
    return windows


def bit_reversed(step: int) -> float:
    """Binary digits of `step` mirrored at the point: 0, 1/2, 1/4, 3/4, 1/8, ..., in [0, 1) (van der Corput)."""
    return int(f"{step:064b}"[::-1], 2) / 2**64


def get_windows(name: str, *, length: int = 24, overlap: int | None = None) -> Windows:
    """The strategy of that name: "paper", "uniform", "triangular", "shifted" or "moore".

    Args:
      name: which one.
      length: frames in a window; at most what the temporal layers were made for (24 or 32 for most weights).
      overlap: frames that neighbouring windows share, below `length`. Default: half of `length` for "paper", which
        allows no other, and for "triangular"; a sixth for the others.

    Raises:
      ValueError: unknown name, or a length or overlap that does not fit.
    """
    strategies: dict[str, Callable[..., Windows]] = {
        "uniform": Uniform,
        "triangular": Triangular,
        "shifted": Shifted,
        "moore": Moore,
    }
    if name == "paper":
        if overlap not in (None, length // 2):
            raise ValueError(
                f"overlap is {overlap}, but windows 'paper' overlap by half their length "
                f"({length // 2} of {length}): leave it out"
            )
        return Paper(length=length)
    if name not in strategies:
        raise ValueError(f"windows is {name!r}, expected one of paper, {', '.join(strategies)}")
    if overlap is None:
        overlap = length // 2 if name == "triangular" else length // 6
    return strategies[name](length=length, overlap=overlap)


def _check_length_and_overlap(strategy: Windows, length: int, overlap: int) -> None:
    if length < 1:
        raise ValueError(f"{type(strategy).__name__}.length is {length}, expected 1 frame or more")
    if not 0 <= overlap < length:
        raise ValueError(
            f"{type(strategy).__name__}.overlap is {overlap}, expected 0 to {length - 1} (below the length {length})"
        )


def _check_num_frames(num_frames: int) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}, expected 1 or more")


def _starts(num_frames: int, length: int, overlap: int) -> NDArray[np.int64]:
    """First frames of windows `length - overlap` apart, the last of them moved back to end at the last frame."""
    last = max(num_frames - length, 0)
    return np.append(np.arange(0, last, length - overlap), last)


def _frames(starts: Int[np.ndarray, "*w"], num_frames: int, length: int) -> Int[np.ndarray, "*w l"]:
    """Consecutive frames from each start, `length` of them or as many as there are."""
    _check_num_frames(num_frames)
    return starts[..., None] + np.arange(min(length, num_frames))


def _plan(frames: Int[np.ndarray, "s n l"], weights: Float[np.ndarray, "s n l"], num_frames: int) -> WindowPlan:
    """Brings the weights of each frame to a sum of one in each step."""
    steps = np.arange(len(frames))[:, None, None]
    total = np.zeros((len(frames), num_frames))
    np.add.at(total, (steps, frames), weights)
    return WindowPlan(
        frames=frames.astype(np.int32),
        weights=(weights / total[steps, frames]).astype(np.float32),
        num_frames=num_frames,
    )
