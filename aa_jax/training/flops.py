"""Floating point operations: of a traced function, and at most of a device in a second."""

import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters.partial_eval import dce_jaxpr
from jax.typing import DTypeLike

TERA = 1e12
PEAKS: dict[str, dict[str, float]] = {
    r"H200|H100 80GB HBM3": {"float16": 989.5, "bfloat16": 989.5, "float32": 67},
    r"H200 NVL|H100 NVL": {"float16": 835.5, "bfloat16": 835.5, "float32": 60},
    r"H100 PCIe": {"float16": 756.5, "bfloat16": 756.5, "float32": 51},
    r"A100-(SXM4|PCIE)-\d+GB|A100 80GB PCIe": {"float16": 312, "bfloat16": 312, "float32": 19.5},
    r"A10": {"float16": 125, "bfloat16": 125, "float32": 31.2},
    r"L4": {"float16": 121, "bfloat16": 121, "float32": 30.3},
    r"L40S": {"float16": 362, "bfloat16": 362, "float32": 91.6},
    r"RTX 4090": {"float16": 165.2, "bfloat16": 165.2, "float32": 82.6},
    r"RTX 3090": {"float16": 71, "bfloat16": 71, "float32": 35.6},
    r"V100-SXM\d-\d+GB": {"float16": 125, "float32": 15.7},
    r"V100-PCIE-\d+GB": {"float16": 112, "float32": 14},
    r"T4": {"float16": 65, "float32": 8.1},
    r"TPU v4": {"bfloat16": 275},
    r"TPU v5 lite|TPU v5e": {"bfloat16": 197},
    r"TPU v5|TPU v5p": {"bfloat16": 459},
    r"TPU v6 lite|TPU v6e": {"bfloat16": 918},
}
"""10^12 operations per second by `device_kind` (less the makers' "NVIDIA", "Tesla" and "GeForce") and dtype, from the
vendors' data sheets: half of NVIDIA's figures "with sparsity", GeForce's with sums in float32 (its white papers)."""


def count_flops(jaxpr: ClosedJaxpr) -> float:
    """Floating point operations of all matrix products and convolutions that influence a result of the function.

    A multiplication and its addition are 2; what a convolution would multiply with its padding, or with the holes of
    a dilated input, is not counted, and elementwise operations are not. A scan counts as often as it runs, a
    `while_loop` as if it ran once, `cond` as its largest branch, `shard_map` on all its devices, and what a backward
    pass computes again counts again. Of other kernels cuDNN's attention alone is known: two products forward, five
    backward.
    """
    live, _ = dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return _flops(live)


def used_inputs(jaxpr: ClosedJaxpr) -> list[bool]:
    """Which inputs influence any result of the function, as its structure tells.

    An input that is multiplied by zero, or met by a `stop_gradient`, is used.
    """
    return dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))[1]


def peak_flops(device: jax.Device, dtype: DTypeLike) -> float | None:
    """Operations per second that a device's vendor promises for dense matrix products of `dtype`.

    float32 is the plain one: products in TF32, to which XLA may round them on NVIDIA GPUs since the A100, are several
    times faster.

    Returns:
      None for devices that are not in `PEAKS` (CPUs, parts of a GPU) and dtypes without a figure there.
    """
    kind = re.sub(r"^(NVIDIA |Tesla |GeForce )+", "", device.device_kind)
    for pattern, peaks in PEAKS.items():
        if re.fullmatch(pattern, kind):
            peak = peaks.get(jnp.dtype(dtype).name)
            return None if peak is None else peak * TERA
    return None


def _flops(jaxpr: Jaxpr) -> float:
    return sum(map(_equation_flops, jaxpr.eqns))


def _equation_flops(equation: JaxprEqn) -> float:
    params = equation.params
    match equation.primitive.name:
        case "dot_general":
            return _product_flops(equation)
        case "conv_general_dilated":
            return _convolution_flops(equation)
        case "dot_product_attention_fwd_wrapper":
            return 2 * _attention_product_flops(equation)
        case "dot_product_attention_bwd_wrapper":
            # The scores again, then the gradients of values, weights, queries and keys.
            return 5 * _attention_product_flops(equation)
        case "cond":
            return max(_flops(branch.jaxpr) for branch in params["branches"])
        case "scan":
            return params["length"] * _flops(params["jaxpr"].jaxpr)
        case "shard_map":
            shards = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
            return shards * _flops(params["jaxpr"])
    return sum(map(_flops, _inner(params)))


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The functions that an equation calls."""
    for value in params.values():
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _product_flops(equation: JaxprEqn) -> float:
    lhs, out = _shape(equation.invars[0]), _shape(equation.outvars[0])
    (contracted, _), _ = equation.params["dimension_numbers"]
    return 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)


def _attention_product_flops(equation: JaxprEqn) -> float:
    """Of queries (b, n, heads, d) and keys (b, m, heads, d)."""
    query, key = map(_shape, equation.invars[:2])
    return 2 * math.prod(query) * key[1]


def _convolution_flops(equation: JaxprEqn) -> float:
    params = equation.params
    numbers = params["dimension_numbers"]
    lhs, rhs, out = (
        [_shape(variable)[axis] for axis in axes]
        for variable, axes in zip(
            (*equation.invars, *equation.outvars),
            (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec),
            strict=True,
        )
    )
    batch, features = out[:2]
    meetings = math.prod(
        _meetings(size, taps, outputs, stride, low, hole, spread)
        for size, taps, outputs, stride, (low, _), hole, spread in zip(
            lhs[2:], rhs[2:], out[2:],
            params["window_strides"], params["padding"], params["lhs_dilation"], params["rhs_dilation"],
            strict=True,
        )
    )  # fmt: skip
    # The kernel holds the input channels of one group alone.
    return 2 * batch * features * rhs[1] * meetings


@functools.cache
def _meetings(size: int, taps: int, outputs: int, stride: int, low: int, hole: int, spread: int) -> int:
    """How often along one axis a tap of the kernel meets a value of the input, over all outputs.

    Args:
      size: of the input.
      low: padding before it.
      hole: distance of the input's values.
      spread: distance of the kernel's taps.
    """
    position = np.arange(outputs)[:, None] * stride + np.arange(taps) * spread - low
    return int(np.count_nonzero((position >= 0) & (position < size * hole) & (position % hole == 0)))
