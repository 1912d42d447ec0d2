"""Attention over space and over time; the one place that knows kernels.

Axes: b rows (frames folded in), n queries, m own tokens, r reference rows, k reference tokens, t and s frames,
d channels of a head.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from aa_jax.models.config import ATTENTION_IMPLEMENTATIONS, require
from aa_jax.models.platform import platform
from aa_jax.models.precision import sum_dtype

CPU_STEP_BYTES = 4 << 20
"""Size of the scores that "chunked" computes at a time on a CPU, in reach of its caches and enough work for its cores.
Where one head has more, its queries go by half of it."""
ACCELERATOR_STEP_BYTES = 256 << 20
"""The same on other devices, where a step has to fill the device."""
UNROLLED_FRAMES = 32
"""Longest clip for which the CPU adds the frames' values one by one."""


def dot_product_attention(
    query: Float[Array, "b n heads d"],
    key: Float[Array, "b m heads d"],
    value: Float[Array, "b m heads d"],
    *,
    reference: tuple[Float[Array, "r k heads d"], Float[Array, "r k heads d"]] | None = None,
    implementation: str = "auto",
) -> Float[Array, "b n heads d"]:
    """softmax(query key^T / sqrt(d)) value for every row and head; the softmax is computed in float32 for every dtype.

    With `reference` (keys and values of r rows, r a divisor of b), row i attends in one softmax to its own m tokens
    and to the k tokens of
    reference row i // (b // r): Animate Anyone's spatial attention (section 3.2), which joins two feature maps along
    the width, attends, and keeps the half of the result that belongs to the first.

    Args:
      implementation: "xla" computes all scores at once; "chunked" a bounded part of them at a time; "cudnn" is the
        fused kernel for NVIDIA
        GPUs; "auto" takes "cudnn" where it can run, else "chunked". All compute the same function.

    Raises:
      ValueError: `implementation` is unknown or cannot run here, or b is no multiple of r.
    """
    require(
        implementation in ATTENTION_IMPLEMENTATIONS,
        f"attention implementation is {implementation!r}, expected one of {', '.join(ATTENTION_IMPLEMENTATIONS)}",
    )
    if implementation in ("auto", "cudnn"):
        obstacle = _cudnn_obstacle(query.dtype, query.shape[-1])
        require(
            implementation == "auto" or obstacle is None,
            f"attention 'cudnn' cannot run: {obstacle}; use 'auto' or 'chunked'",
        )
        implementation = "chunked" if obstacle else "cudnn"
    if reference is not None:
        key, value = (_append_tokens(own, shared) for own, shared in zip((key, value), reference, strict=True))
    if implementation == "cudnn":
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
    return _xla(query, key, value) if implementation == "xla" else _chunked(query, key, value)


def temporal_attention(
    query: Float[Array, "b t n heads d"],
    key: Float[Array, "b t n heads d"],
    value: Float[Array, "b t n heads d"],
    num_frames: Int[Array, ""] | None = None,
) -> Float[Array, "b t n heads d"]:
    """softmax(query key^T / sqrt(d)) value over the t frames, for each of the n positions alone; the softmax in
    float32 for every dtype. With `num_frames`, over the first ones only: the others are padding, which none sees."""
    frames, channels = query.shape[1], query.shape[-1]
    scores = (
        jnp.einsum("btnhd,bsnhd->bnhts", query, key, preferred_element_type=sum_dtype(query.dtype)) * channels**-0.5
    )
    if num_frames is not None:
        scores = jnp.where(jnp.arange(frames) < num_frames, scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)
    if platform() != "cpu" or frames > UNROLLED_FRAMES:
        return jnp.einsum("bnhts,bsnhd->btnhd", weights.astype(value.dtype), value)
    # On a CPU the thousands of products of (t, t) with (t, d) matrices cost more to start than to compute. The barrier
    # keeps the weights' transposition out of the sum, which reads each weight d times.
    weights = jax.lax.optimization_barrier(jnp.moveaxis(weights, (3, 4), (1, 2))[..., None])
    ones = [1] * frames
    parts = zip(jax.lax.split(weights, ones, axis=2), jax.lax.split(value[:, None], ones, axis=2), strict=True)
    return functools.reduce(jnp.add, (weight[:, :, 0] * part[:, :, 0] for weight, part in parts)).astype(value.dtype)


def _append_tokens(
    own: Float[Array, "b m heads d"], shared: Float[Array, "r k heads d"]
) -> Float[Array, "b m+k heads d"]:
    """A row's own tokens, followed by those of the reference row that it shares with its neighbours."""
    rows, references = own.shape[0], shared.shape[0]
    require(
        rows % references == 0, f"{references} reference rows cannot serve {rows} rows: expected a divisor of {rows}"
    )
    return jnp.concatenate([own, jnp.repeat(shared, rows // references, axis=0)], axis=1)


def _cudnn_obstacle(dtype: DTypeLike, channels: int) -> str | None:
    """Why cuDNN's fused attention cannot run on the default device, or None if it can."""
    device = jax.devices()[0]
    if platform() != jax.default_backend():
        return f"the program is for another platform, {platform()}"
    major = str(getattr(device, "compute_capability", "")).partition(".")[0]
    if not major.isdigit() or int(major) < 8:
        return f"the device is {device.device_kind}, expected an NVIDIA GPU of compute capability 8.0 or more"
    if dtype not in (jnp.float16, jnp.bfloat16):
        return f"the dtype is {jnp.dtype(dtype).name}, expected float16 or bfloat16"
    largest = 256 if int(major) >= 9 else 128
    if channels % 8 or channels > largest:
        return f"a head has {channels} channels, expected a multiple of 8 up to {largest} on {device.device_kind}"
    return None


def _xla(query: Array, key: Array, value: Array) -> Array:
    scores = jnp.einsum("bnhd,bmhd->bhnm", query, key, preferred_element_type=sum_dtype(query.dtype))
    scores = scores * query.shape[-1] ** -0.5
    return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores, axis=-1).astype(value.dtype), value)


def _chunked(query: Array, key: Array, value: Array) -> Array:
    """Exact attention with a bounded number of scores at a time, in the backward pass too.

    On a CPU a step is some rows, else some heads of a row, else some queries of a head. On other devices it is some
    queries of all rows and heads, so that these two axes can be sharded.
    """
    (rows, queries, heads, _), tokens = query.shape, key.shape[1]
    if platform() == "cpu":
        row_step = _step(rows, heads * queries * tokens, CPU_STEP_BYTES)
        head_step = _step(heads, queries * tokens, CPU_STEP_BYTES)
        query_step = _step(queries, tokens, CPU_STEP_BYTES // 2)
    else:
        row_step, head_step = rows, heads
        query_step = _step(queries, rows * heads * tokens, ACCELERATOR_STEP_BYTES)

    def attend_head(
        query: Float[Array, "n d"], key: Float[Array, "m d"], value: Float[Array, "m d"]
    ) -> Float[Array, "n d"]:
        if query_step == queries:
            return _attend(query, key, value)
        steps = math.ceil(queries / query_step)
        parts = jnp.pad(query, ((0, steps * query_step - queries), (0, 0))).reshape(steps, query_step, -1)
        return jax.lax.map(lambda part: _attend(part, key, value), parts).reshape(-1, value.shape[-1])[:queries]

    def attend_row(*qkv: Float[Array, "_ heads d"]) -> Float[Array, "n heads d"]:
        return _map(attend_head, *(x.swapaxes(0, 1) for x in qkv), step=head_step).swapaxes(0, 1)

    return _map(attend_row, query, key, value, step=row_step)


def _step(count: int, scores: int, limit: int) -> int:
    """How many of `count` things with so many float32 scores each to compute at a time: at most `limit` bytes, in
    steps of like size."""
    return math.ceil(count / math.ceil(count / max(1, limit // (4 * scores))))


def _map(function: Callable[..., Array], *arrays: Array, step: int) -> Array:
    """`function` of the slices of `arrays` along their first axis, `step` of them at a time."""
    batch_size = None if step == 1 else 0 if step == arrays[0].shape[0] else step
    return jax.lax.map(lambda slices: function(*slices), arrays, batch_size=batch_size)


@jax.checkpoint
def _attend(query: Float[Array, "n d"], key: Float[Array, "m d"], value: Float[Array, "m d"]) -> Float[Array, "n d"]:
    """Attention of one head. The sum of the weights divides the result instead of each weight: n x d divisions
    instead of n x m."""
    scale = query.shape[-1] ** -0.5
    if query.dtype == sum_dtype(
        query.dtype
    ):  # Cheaper than scaling the scores; in lower precision it would round once more.
        query, scale = query * scale, 1.0
    scores = jnp.einsum("nd,md->nm", query, key, preferred_element_type=sum_dtype(query.dtype)) * scale
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    out = jnp.einsum("nm,md->nd", weights.astype(value.dtype), value, preferred_element_type=sum_dtype(value.dtype))
    return (out / weights.sum(axis=-1, keepdims=True)).astype(value.dtype)
