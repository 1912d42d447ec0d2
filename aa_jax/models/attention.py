"""Attention over space and over time; the one place that knows kernels.

Axes: b rows (frames folded in), n queries, m own tokens, r reference rows, k reference tokens, t frames, d channels
  of a head.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from aa_jax.models.config import ATTENTION_IMPLEMENTATIONS, require

CPU_STEP_BYTES = 5 << 20
"""Scores that "chunked" computes at a time on a CPU: they stay in cache, and are enough work for all cores."""
ACCELERATOR_STEP_BYTES = 256 << 20
"""The same on accelerators, where a step is to fill the device."""

KeysValues = tuple[Float[Array, "r k heads d"], Float[Array, "r k heads d"]]


def dot_product_attention(
    query: Float[Array, "b n heads d"],
    key: Float[Array, "b m heads d"],
    value: Float[Array, "b m heads d"],
    *,
    reference: KeysValues | None = None,
    implementation: str = "auto",
) -> Float[Array, "b n heads d"]:
    """softmax(query key^T / sqrt(d)) value for every row and head, the softmax in float32 for every dtype.

    With `reference` (keys and values of r rows, r a divisor of b), row i attends in one softmax to its own tokens and
    to the tokens of
    reference row i // (b // r): Animate Anyone's spatial attention (section 3.2), which joins the two feature maps
    along the width, attends, and keeps the own half of the result.

    Args:
      implementation: "xla" computes all scores at once; "chunked" a bounded part of them at a time, with the same
        result; "cudnn" is the fused
        kernel of NVIDIA GPUs; "auto" takes "cudnn" where it can run and "chunked" elsewhere.

    Raises:
      ValueError: an unknown implementation, "cudnn" where it cannot run, or reference rows that do not divide the rows.
    """
    require(
        implementation in ATTENTION_IMPLEMENTATIONS,
        f"attention implementation is {implementation!r}, expected one of {', '.join(ATTENTION_IMPLEMENTATIONS)}",
    )
    if reference is not None:
        key, value = (_append_rows(own, shared) for own, shared in zip((key, value), reference, strict=True))
    if implementation in ("auto", "cudnn"):
        obstacle = _cudnn_obstacle(query.dtype, query.shape[-1])
        require(
            implementation == "auto" or obstacle is None,
            f"attention='cudnn' cannot run: {obstacle}; use 'auto' or 'chunked'",
        )
        implementation = "chunked" if obstacle else "cudnn"
    return _KERNELS[implementation](query, key, value)


def temporal_attention(
    query: Float[Array, "b t n heads d"],
    key: Float[Array, "b t n heads d"],
    value: Float[Array, "b t n heads d"],
) -> Float[Array, "b t n heads d"]:
    """Attention over the t frames, for each of the n positions alone; the softmax in float32 for every dtype."""
    scores = jnp.einsum("btnhd,bsnhd->bnhts", query, key, preferred_element_type=jnp.float32) * query.shape[-1] ** -0.5
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bnhts,bsnhd->btnhd", weights, value)


def _append_rows(
    own: Float[Array, "b m heads d"], shared: Float[Array, "r k heads d"]
) -> Float[Array, "b m+k heads d"]:
    """Own tokens, followed by those of the reference row that the row shares with its neighbours."""
    rows, references = own.shape[0], shared.shape[0]
    require(rows % references == 0, f"{references} reference rows cannot serve {rows} rows: expected a divisor")
    return jnp.concatenate([own, jnp.repeat(shared, rows // references, axis=0)], axis=1)


def _cudnn_obstacle(dtype: DTypeLike, head_dim: int) -> str | None:
    """Why cuDNN's fused attention cannot run here, or None if it can."""
    device = jax.devices()[0]
    capability = str(getattr(device, "compute_capability", "")).partition(".")[0]
    if device.platform != "gpu" or not capability.isdigit():
        return f"the device is {device.device_kind}, expected an NVIDIA GPU"
    if int(capability) < 8:
        return f"{device.device_kind} has compute capability {device.compute_capability}, expected at least 8.0"
    if dtype not in (jnp.float16, jnp.bfloat16):
        return f"the dtype is {jnp.dtype(dtype).name}, expected float16 or bfloat16"
    largest = 256 if int(capability) >= 9 else 128
    if head_dim % 8 or head_dim > largest:
        return f"heads have {head_dim} channels, expected a multiple of 8 up to {largest} on {device.device_kind}"
    return None


def _xla(query: Array, key: Array, value: Array) -> Array:
    scores = jnp.einsum("bnhd,bmhd->bhnm", query, key, preferred_element_type=jnp.float32) * query.shape[-1] ** -0.5
    return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores, axis=-1).astype(value.dtype), value)


def _chunked(query: Array, key: Array, value: Array) -> Array:
    """Exact attention with a bounded number of scores at a time, in the forward and in the backward pass.

    On a CPU a step is some rows, or some heads of one row, or some queries of one head: whole heads feed the matrix
    product best. On accelerators it is some queries of all rows and heads, so that these two axes can be sharded.
    """
    (rows, queries, heads, _), tokens = query.shape, key.shape[1]
    if jax.default_backend() == "cpu":
        row_step = _step(rows, heads * queries * tokens, CPU_STEP_BYTES)
        head_step = _step(heads, queries * tokens, CPU_STEP_BYTES)
        query_step = _step(queries, tokens, CPU_STEP_BYTES)
    else:
        row_step, head_step = rows, heads
        query_step = _step(queries, rows * heads * tokens, ACCELERATOR_STEP_BYTES)

    def attend_head(
        query: Float[Array, "n d"], key: Float[Array, "m d"], value: Float[Array, "m d"]
    ) -> Float[Array, "n d"]:
        return _map_slices(lambda part: _attend(part, key, value), query, step=query_step)

    def attend_row(*arrays: Float[Array, "_ heads d"]) -> Float[Array, "n heads d"]:
        return _map(attend_head, *(x.swapaxes(0, 1) for x in arrays), step=head_step).swapaxes(0, 1)

    return _map(attend_row, query, key, value, step=row_step)


def _attend(query: Float[Array, "n d"], key: Float[Array, "m d"], value: Float[Array, "m d"]) -> Float[Array, "n d"]:
    """One head; the division comes after the product with the values, over fewer numbers."""
    scaled = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    scores = jnp.einsum("nd,md->nm", scaled, key, preferred_element_type=jnp.float32)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    out = jnp.einsum("nm,md->nd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    return (out / total).astype(query.dtype)


def _step(count: int, scores: int, budget: int) -> int:
    """How many of `count` items, of `scores` float32 scores each, to take at a time."""
    return min(count, max(1, budget // (4 * scores)))


def _map(function: Callable[..., Array], *arrays: Array, step: int) -> Array:
    """`function` over the first axis of `arrays`, `step` items at a time, computed anew in the backward pass."""
    if step >= arrays[0].shape[0]:
        return jax.vmap(function)(*arrays)
    return jax.lax.map(jax.checkpoint(lambda items: function(*items)), arrays, batch_size=step)


def _map_slices(function: Callable[[Array], Array], x: Float[Array, "n d"], *, step: int) -> Float[Array, "n d"]:
    """`function` over slices of `step` rows of `x`."""
    rows = x.shape[0]
    if step >= rows:
        return function(x)
    whole = rows - rows % step
    parts = jax.lax.map(jax.checkpoint(function), x[:whole].reshape(-1, step, x.shape[1]))
    done = parts.reshape(whole, -1)
    return done if whole == rows else jnp.concatenate([done, function(x[whole:])])


_KERNELS: dict[str, Callable[..., Array]] = {
    "xla": _xla,
    "chunked": _chunked,
    "cudnn": functools.partial(jax.nn.dot_product_attention, implementation="cudnn"),
}
