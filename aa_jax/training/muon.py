"""Muon's updates (Jordan et al., 2024; scaled as arXiv 2502.16982, section 2.2, does).

`optax.contrib.muon` iterates for every matrix by itself, and on every device. Here all matrices of one shape go through
the iteration together, cut over the devices: a fraction of the compiling, and each device does its share.
"""

from collections import defaultdict

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

# Newton-Schulz: X <- a X + (b A + c A^2) X with A = X X^T brings all singular values near 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# As large as AdamW's updates are.
RMS = 0.2


def scale_by_muon(
    momentum: float, *, dtype: str | None = None, mesh: Mesh | None = None
) -> optax.GradientTransformation:
    """Nesterov's momentum, orthogonalised; of leaves with two axes and more.

    Args:
      dtype: of the momentum that is kept, by default the gradients'.
      mesh: the devices that share the work.
    """
    return optax.chain(
        optax.trace(momentum, nesterov=True, accumulator_dtype=dtype),
        optax.stateless(lambda updates, _: orthogonalize(updates, mesh)),
    )


def orthogonalize(updates: optax.Updates, mesh: Mesh | None = None) -> optax.Updates:
    """Kernels as matrices from inputs, of convolutions those of the whole window, to outputs, each replaced by the
    orthogonal matrix nearest to it and scaled to a root mean square of about `RMS`."""
    leaves, structure = jax.tree.flatten(updates)
    groups = defaultdict(list)
    for index, leaf in enumerate(leaves):
        outputs = leaf.shape[-1]
        groups[tuple(sorted((leaf.size // outputs, outputs)))].append(index)
    for (short, long), indices in groups.items():
        flat = [leaves[index].reshape(-1, leaves[index].shape[-1]) for index in indices]
        stack = jnp.stack([matrix if matrix.shape == (short, long) else matrix.T for matrix in flat])
        scaled = RMS * long**0.5 * _iterate(stack, mesh)
        for index, matrix, new in zip(indices, flat, scaled, strict=False):
            leaves[index] = (new if matrix.shape == (short, long) else new.T).reshape(leaves[index].shape)
    return jax.tree.unflatten(structure, leaves)


def _iterate(x: Float[Array, "k m n"], mesh: Mesh | None) -> Float[Array, "k2 m n"]:
    """At least k matrices, the first of which are the orthogonalised ones."""
    if mesh is not None and mesh.size > 1:
        x = jnp.pad(x, ((0, -len(x) % mesh.size), (0, 0), (0, 0)))
        x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(mesh.axis_names)))
    a, b, c = COEFFICIENTS
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + 1e-8)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
