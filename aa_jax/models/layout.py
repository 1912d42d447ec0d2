"""Where clips lie on many devices: cut between the halves of guidance, between windows, along frames, or not at all.

Temporal layers need all frames of a position, all others need all positions of a frame: where a clip is cut along its
frames, it is cut along its positions in between.
"""

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array

HALF, WINDOW, FRAME = "half", "window", "frame"
"""Axes of a mesh, by what is cut over it."""
ROWS = (HALF, WINDOW)
"""What the rows of a guided evaluation are cut over: all unconditional windows, then all conditional ones."""


def lay(x: Array, *axes: str | tuple[str, ...] | None) -> Array:
    """`x`, each of its first axes cut over those axes of the mesh that `jax.set_mesh` has set, of those that it has,
    and whole along the others."""
    names = jax.sharding.get_abstract_mesh().axis_names
    if not {HALF, WINDOW, FRAME} & set(names):
        return x
    wanted = (axis if isinstance(axis, tuple) else (axis,) for axis in axes)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*(tuple(a for a in w if a in names) for w in wanted)))
