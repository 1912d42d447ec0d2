"""Work that is done part by part, so that the temporaries of the parts are not in memory together."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array


def in_parts(function: Callable[..., Array], *arrays: Array, axis: int, size: int | None) -> Array:
    """`function(*arrays)`, computed from `size` slices along `axis` at a time.

    Args:
      function: of slices of `arrays`, which are equally long along `axis`; it treats each alone, and its result has as
        many of them along the same axis.
      size: None for all at once. Where it does not divide the length, some slices are computed twice.
    """
    length = arrays[0].shape[axis]
    if size is None or size >= length:
        return function(*arrays)

    def part(start: Array | int) -> Array:
        return function(*(jax.lax.dynamic_slice_in_dim(x, start, size, axis) for x in arrays))

    def write(index: Array, out: Array) -> Array:
        start = jnp.minimum(index * size, length - size)
        return jax.lax.dynamic_update_slice_in_dim(out, part(start), start, axis)

    found = jax.eval_shape(part, 0)
    shape = (*found.shape[:axis], length, *found.shape[axis + 1 :])
    # What is written over must not be there before its loop begins, as a constant would, so it is made of the input.
    blank = jnp.broadcast_to(arrays[0].ravel()[0].astype(found.dtype) * 0, shape)
    return jax.lax.fori_loop(0, math.ceil(length / size), write, blank)
