"""In which dtype sums are taken."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def sum_dtype(dtype: DTypeLike) -> np.dtype:
    """The dtype of statistics, scores and other sums over values of `dtype`: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def widen(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x` in at least float32."""
    return x.astype(sum_dtype(x.dtype))
