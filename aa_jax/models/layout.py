"""Where clips lie on many devices: cut along their windows, along their frames, or not at all.

Temporal layers need all frames of a position, all others need all positions of a frame: where a clip is cut along its
frames, it is cut along its positions in between.
"""

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array

WINDOW, FRAME = "window", "frame"
"""Axes of a mesh, by which of a clip's axes is cut over it."""


def lay(x: Array, *axes: str | None) -> Array:
    """`x`, each of its first axes cut over that axis of the mesh that `jax.set_mesh` has set, if it has one of that
    name, and whole along the others."""
    mesh = jax.sharding.get_abstract_mesh()
    if not {WINDOW, FRAME} & set(mesh.axis_names):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*(a if a in mesh.axis_names else None for a in axes)))
