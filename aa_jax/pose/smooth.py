"""Keypoints over time: short gaps filled, jitter smoothed. Each point is smoothed within its runs of visible frames.

A point that is not visible (score below 0.3) takes no part, neither as input nor as output.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view

from aa_jax.pose.keypoints import VISIBLE, Keypoints


def fill_gaps(keypoints: Keypoints, *, max_gap: int) -> Keypoints:
    """Interpolate points and scores linearly where a point is not visible for at most `max_gap` frames.

    Longer gaps, and those before the first and after the last visible frame, stay as they are.

    Raises:
      ValueError: `max_gap` is no positive whole number.
    """
    if not isinstance(max_gap, int | np.integer) or max_gap < 1:
        raise ValueError(f"max_gap {max_gap!r} given, expected a positive whole number of frames")
    points, scores = keypoints.points.astype(np.float64), keypoints.scores.astype(np.float64)
    for point, visible in enumerate((keypoints.scores >= VISIBLE).T):
        seen = np.flatnonzero(visible)
        for before, after in zip(seen[:-1], seen[1:], strict=True):
            if 1 < after - before <= max_gap + 1:
                share = np.arange(1, after - before) / (after - before)
                for values in (points[:, point], scores[:, point, None]):
                    values[before + 1 : after] = values[before] + share[:, None] * (values[after] - values[before])
    return dataclasses.replace(keypoints, points=points, scores=scores)


def savitzky_golay(keypoints: Keypoints, *, window: int = 7, order: int = 2) -> Keypoints:
    """Fit a polynomial to each window of frames, and take its value in the middle (Savitzky and Golay, 1964).

    Near the ends of a run the polynomial of its first or last window is taken. A run shorter than the window has a
    window of its own length, or one less to be odd; one too short for the order stays as it is.

    Args:
      keypoints: of any length.
      window: frames, an odd number.
      order: of the polynomial, less than `window`; polynomials up to it are kept exactly.

    Raises:
      ValueError: another window or order.
    """
    if not isinstance(window, int | np.integer) or window < 1 or window % 2 == 0:
        raise ValueError(f"window {window!r} given, expected an odd positive number of frames")
    if not isinstance(order, int | np.integer) or not 0 <= order < window:
        raise ValueError(f"order {order!r} given, expected a whole number from 0 to {window - 1}, below the window")
    points = keypoints.points.astype(np.float64)
    for point, visible in enumerate((keypoints.scores >= VISIBLE).T):
        for run in _runs(visible):
            length = run.stop - run.start
            fitting = min(window, length - (length + 1) % 2)
            if fitting > order:
                points[run, point] = _fit(points[run, point], fitting, order)
    return dataclasses.replace(keypoints, points=points)


def one_euro(keypoints: Keypoints, *, min_cutoff: float = 1.0, beta: float = 100.0, d_cutoff: float = 1.0) -> Keypoints:
    """A low-pass filter whose cutoff rises with speed (Casiez, Roussel and Vogel, CHI 2012, algorithm 1).

    It is causal: a frame depends on no later one, and lags behind motion by about 1 / (2 pi cutoff) seconds, which
    `savitzky_golay` does not: that is the better choice for clips, this one for poses as they come. Lengths are
    measured in image heights, so that the filter does the same in x and y; each run begins anew.

    Args:
      keypoints: with their rate, `fps`.
      min_cutoff: cutoff at rest, in Hz: lower is smoother.
      beta: how much the cutoff rises with speed, in Hz per image height per second: higher lags less.
      d_cutoff: cutoff of the speed's own filter, in Hz.

    Raises:
      ValueError: keypoints without `fps`, or a parameter out of range.
    """
    if keypoints.fps is None:
        raise ValueError("keypoints without fps given: the One-Euro filter needs their frames per second")
    for value, what in ((min_cutoff, "min_cutoff"), (d_cutoff, "d_cutoff")):
        if not 0 < value < np.inf:
            raise ValueError(f"{what} {value!r} given, expected a positive number of Hz")
    if not 0 <= beta < np.inf:
        raise ValueError(f"beta {beta!r} given, expected a number that is not negative")
    unit = np.array([keypoints.width / keypoints.height, 1.0])
    places = keypoints.points.astype(np.float64) * unit
    visible = (keypoints.scores >= VISIBLE)[..., None]
    speed = np.zeros(places.shape[1:])
    for frame in range(1, len(places)):
        running = visible[frame] & visible[frame - 1]
        latest = (places[frame] - places[frame - 1]) * keypoints.fps
        speed = np.where(running, speed + _share(d_cutoff, keypoints.fps) * (latest - speed), 0.0)
        share = _share(min_cutoff + beta * np.abs(speed), keypoints.fps)
        smooth = places[frame - 1] + share * (places[frame] - places[frame - 1])
        places[frame] = np.where(running, smooth, places[frame])
    points = np.where(visible, places / unit, keypoints.points)
    return dataclasses.replace(keypoints, points=points)


def _share(cutoff: float | np.ndarray, fps: float) -> float | np.ndarray:
    """What a new value weighs in a first-order low-pass filter of this cutoff, in Hz."""
    return 1 / (1 + fps / (2 * np.pi * cutoff))


def _runs(visible: Bool[np.ndarray, " t"]) -> list[slice]:
    """The stretches of frames in which a point is visible."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], visible, [False]])))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2)]


def _fit(values: Float[np.ndarray, "t k"], window: int, order: int) -> Float[np.ndarray, "t k"]:
    half = window // 2
    powers = np.vander(np.arange(-half, half + 1) / max(half, 1), order + 1)
    basis, _ = np.linalg.qr(powers)
    projection = basis @ basis.T  # row i: the value at place i of the polynomial fitted to a window
    middle = np.einsum("w,tkw->tk", projection[half], sliding_window_view(values, window, axis=0))
    return np.concatenate([projection[:half] @ values[:window], middle, projection[half + 1 :] @ values[-window:]])
