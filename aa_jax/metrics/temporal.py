"""Metrics over time: how much a clip flickers, and whether what it shows moves along with the true flow.

Frames are uint8 RGB (t, h, w, 3), NumPy's or JAX's. Flow is in pixels to the right and down: what frame t shows at
column x and row y is at (x, y) + flow[t, y, x] in frame t + 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float

from aa_jax.metrics.image import Clip, Frame, Mask, each_frame, exact_mean

Flow = Float[Array, "n h w 2"] | Float[np.ndarray, "n h w 2"]
# A pixel of the next frame that receives more than so many pixels receives two surfaces.
CROWDED = 1.5


def flicker(frames: Clip) -> float:
    """VBench's temporal flickering score: 1 - the mean absolute difference of frames that follow one another.

    Values are in [0, 1], and so is the score; 1 is a still. It tells flicker from motion only where the true clip is
    still, or beside the true clip's score (`vbench/temporal_flickering.py`; VBench takes clips of still scenes).

    Raises:
      ValueError: another type or shape, or less than 2 frames.
    """
    _check(frames, least=2)
    return 1 - float(np.mean(each_frame(_absolute_difference, frames[:-1], frames[1:]), dtype=np.float64)) / 255


def second_difference(predicted: Clip, true: Clip) -> float:
    """How uneven a clip is in time, relative to the true one: the mean of `(f[t+1] - 2 f[t] + f[t-1])^2` of the one
    over that of the other.

    1 is as even as the truth, more is flicker, less is too smooth; infinite where the truth moves evenly and the
    prediction does not, NaN where both do.

    Raises:
      ValueError: another type or shape, clips of two shapes, or less than 3 frames.
    """
    for frames in (predicted, true):
        _check(frames, least=3)
    if predicted.shape != true.shape:
        raise ValueError(f"predicted frames {predicted.shape} and true frames {true.shape} given, expected one shape")
    energy, true_energy = (
        np.mean(each_frame(_squared_second_difference, frames[:-2], frames[1:-1], frames[2:]), dtype=np.float64)
        for frames in (predicted, true)
    )
    if true_energy == 0:
        return float("nan") if energy == 0 else float("inf")
    return float(energy / true_energy)


def warping_error(frames: Clip, flow: Flow, visible: Mask) -> float:
    """Mean squared difference between a frame and the next one looked up along the flow, of values in [0, 1].

    That of Lai et al. 2018 (arXiv 1808.00449) as their `evaluate_WarpError.py` has it: a mean over the pixels and
    channels of each pair of frames, then over the pairs. Values between pixels are interpolated linearly; pixels that
    leave the image do not count, nor do pairs in which none counts.

    Args:
      flow: (t - 1, h, w, 2), true or given, never that of the predicted frames themselves, which would forgive what
        moves wrongly.
      visible: (t - 1, h, w) where what a frame shows is seen in the next one too (`visible_both_ways`,
        `visible_uncrowded`).

    Returns:
      NaN if no pixel of any pair counts.

    Raises:
      ValueError: another type or shape, or less than 2 frames.
    """
    _check(frames, least=2)
    pairs = (len(frames) - 1, *frames.shape[1:3])
    if flow.shape != (*pairs, 2) or visible.shape != pairs or visible.dtype != np.bool_:
        raise ValueError(
            f"flow {flow.shape} and visible {visible.dtype} {visible.shape} given for frames {frames.shape}, expected "
            f"{(*pairs, 2)} and bool {pairs}"
        )
    errors = each_frame(_warping_error, frames[:-1], frames[1:], flow, visible)
    counted = errors[np.isfinite(errors)]
    return float(np.mean(counted, dtype=np.float64)) if counted.size else float("nan")


def visible_both_ways(flow: Flow, backward: Flow) -> Bool[np.ndarray, "n h w"]:
    """Where flow and backward flow agree and change smoothly: the mask of Lai et al. 2018, for estimated flow.

    With w the flow of a pixel and v the backward flow where it leads to, `|w + v|^2 <= 0.01 (|w|^2 + |v|^2) + 0.5`, and
    `|grad w|^2 <= 0.01 |w|^2 + 0.002` (Ruder et al. 2016, arXiv 1604.08610, after Sundaram et al. 2010).

    Args:
      flow: from frame t to t + 1.
      backward: from frame t + 1 to t, at the pixels of frame t + 1.

    Raises:
      ValueError: another shape, or two shapes.
    """
    _check_flow(flow)
    if backward.shape != flow.shape:
        raise ValueError(f"flow {flow.shape} and backward flow {backward.shape} given, expected one shape")
    return each_frame(_visible_both_ways, flow, backward)


def visible_uncrowded(flow: Flow) -> Bool[np.ndarray, "n h w"]:
    """Where pixels have their place in the next frame for themselves: for true flow, which is also given where
    something is hidden in the next frame.

    Each pixel is laid onto the next frame (its 4 nearest pixels, weighted linearly). Where more than 1.5 pixels fall
    on one, something is hidden; flow alone does not tell which, and neither counts. A plane that shrinks to less than
    two thirds of its area in one frame is taken for hidden as well. (Occlusion from how many pixels arrive: Wang et
    al. 2018, arXiv 1711.05890.)

    Raises:
      ValueError: another shape.
    """
    _check_flow(flow)
    return each_frame(_visible_uncrowded, flow)


def _check(frames: Clip, least: int) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or len(frames) < least:
        raise ValueError(
            f"frames {frames.dtype} {frames.shape} given, expected uint8 (t, h, w, 3) of {least} frames or more"
        )


def _check_flow(flow: Flow) -> None:
    if flow.ndim != 4 or flow.shape[3] != 2 or len(flow) == 0:
        raise ValueError(f"flow {flow.shape} given, expected (n, h, w, 2) with n of 1 or more")


def _absolute_difference(first: Frame, second: Frame) -> Float[Array, ""]:
    return exact_mean(jnp.abs(second.astype(jnp.int32) - first.astype(jnp.int32)))


def _squared_second_difference(before: Frame, frame: Frame, after: Frame) -> Float[Array, ""]:
    past, present, future = (x.astype(jnp.int32) for x in (before, frame, after))
    return exact_mean((future - 2 * present + past) ** 2)


def _warping_error(
    frame: Frame, following: Frame, flow: Float[Array, "h w 2"], visible: Bool[Array, "h w"]
) -> Float[Array, ""]:
    height, width = visible.shape
    places = _targets(flow)
    counts = visible & jnp.all((places >= 0) & (places <= jnp.array([width - 1, height - 1])), axis=-1)
    squares = ((_look_up(following / 255, places) - frame / 255) ** 2).mean(axis=-1)
    return jnp.sum(jnp.sum(jnp.where(counts, squares, 0), axis=1)) / jnp.sum(counts)


def _visible_both_ways(flow: Float[Array, "h w 2"], backward: Float[Array, "h w 2"]) -> Bool[Array, "h w"]:
    back = _look_up(backward, _targets(flow))
    agree = _squared(flow + back) <= 0.01 * (_squared(flow) + _squared(back)) + 0.5
    # Differences to the next row and column, none at the last.
    slope = sum(
        _squared(jnp.diff(flow, axis=axis, append=jax.lax.slice_in_dim(flow, -1, None, axis=axis))) for axis in (0, 1)
    )
    return agree & (slope <= 0.01 * _squared(flow) + 0.002)


def _visible_uncrowded(flow: Float[Array, "h w 2"]) -> Bool[Array, "h w"]:
    places = _targets(flow)
    low = jnp.floor(places).astype(jnp.int32)
    received = jnp.zeros(flow.shape[:2])
    for corner in np.ndindex(2, 2):
        column, row = jnp.moveaxis(low + jnp.array(corner), -1, 0)
        weight = jnp.prod(1 - jnp.abs(places - low - jnp.array(corner)), axis=-1)
        # A negative index would count from the end.
        received = received.at[
            jnp.where(row < 0, flow.shape[0], row), jnp.where(column < 0, flow.shape[1], column)
        ].add(weight, mode="drop")
    return _look_up(received[..., None], places)[..., 0] <= CROWDED


def _targets(flow: Float[Array, "h w 2"]) -> Float[Array, "h w 2"]:
    """Column and row in the next frame."""
    row, column = jnp.indices(flow.shape[:2])
    return jnp.stack([column, row], axis=-1) + flow


def _look_up(image: Float[Array, "h w c"], places: Float[Array, "h w 2"]) -> Float[Array, "h w c"]:
    """Values at columns and rows, linear between pixels; outside of the image those of its edge."""
    rows_and_columns = [places[..., 1], places[..., 0]]

    def channel(values: Float[Array, "h w"]) -> Float[Array, "h w"]:
        return map_coordinates(values, rows_and_columns, order=1, mode="nearest")

    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)


def _squared(vectors: Float[Array, "h w 2"]) -> Float[Array, "h w"]:
    return jnp.sum(vectors**2, axis=-1)
