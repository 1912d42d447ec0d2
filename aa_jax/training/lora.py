"""Low-rank changes of frozen matrices (arXiv 2106.09685): kernel + a b, with b = 0 at first.

`KEY.lora_a` (inputs, rank) and `KEY.lora_b` (rank, outputs) belong to the kernel `KEY`; a convolution's kernel counts
as a matrix from all its taps to the output channels.
"""

import math

import jax
import jax.numpy as jnp

from aa_jax.models.config import require
from aa_jax.training.state import Params

A, B = ".lora_a", ".lora_b"


def init_lora(shapes: dict[str, jax.ShapeDtypeStruct], rank: int, key: jax.Array) -> Params:
    """The changes' parameters for kernels of these shapes: normal with variance 1 / rank, and zero.

    Raises:
      ValueError: one is no kernel.
    """
    params: Params = {}
    for index, (name, leaf) in enumerate(sorted(shapes.items())):
        require(name.endswith(".kernel"), f"lora.targets fits {name}, but only kernels have low-rank changes")
        *inputs, outputs = leaf.shape
        params[name + A] = jax.random.normal(jax.random.fold_in(key, index), (math.prod(inputs), rank)) * rank**-0.5
        params[name + B] = jnp.zeros((rank, outputs))
    return params


def merge_lora(params: Params) -> Params:
    """The parameters with all changes added to their kernels; without any, as they are."""
    changed = {key.removesuffix(A) for key in params if key.endswith(A)}
    merged = {key: value for key, value in params.items() if not key.endswith((A, B))}
    for key in changed:
        kernel = params[key]
        change = (params[key + A] @ params[key + B]).reshape(kernel.shape)
        merged[key] = kernel + change.astype(kernel.dtype)
    return merged
