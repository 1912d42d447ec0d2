"""What the metric networks are made of: convolutions, batch norms, and a tower of them with taps.

Weights begin as zeros, since they always come from a file. Products are exact float32 on every device: GPUs and TPUs
would round them to TF32 or bfloat16, and a metric must not depend on where it runs.

Axis legend, here and in all of `networks`: b batch, t frames, h height, w width, c and d channels. Channels come last.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class Conv(nnx.Module):
    """A convolution over (h, w) or (t, h, w), as the kernel's size has two numbers or three.

    Args:
      stride: on every axis, or on each.
      padding: "SAME" (TensorFlow's: of an odd number the larger half comes after), "VALID", or how much on every side.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: str | int = "SAME",
        use_bias: bool = False,
    ):
        self.kernel = nnx.Param(jnp.zeros((*kernel, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None
        self.stride = (stride,) * len(kernel) if isinstance(stride, int) else stride
        self.padding = padding

    def __call__(self, x: Float[Array, "b *in c"]) -> Float[Array, "b *out d"]:
        kernel = self.kernel[...]
        if isinstance(self.padding, str):
            size = kernel.shape[:-2]
            pads = jax.lax.padtype_to_pads(x.shape[1:-1], size, self.stride, self.padding)
        else:
            pads = [(self.padding, self.padding)] * len(self.stride)
        x = (_convolve_3d if len(self.stride) == 3 else _convolve)(x, kernel, self.stride, pads)
        return x if self.bias is None else x + self.bias[...]


def _convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Float[Array, "b h2 w2 d"]:
    return jax.lax.conv_general_dilated(
        x, kernel, stride, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=jax.lax.Precision.HIGHEST
    )


def _convolve_3d(
    x: Float[Array, "b t h w c"],
    kernel: Float[Array, "kt kh kw c d"],
    stride: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Float[Array, "b t2 h2 w2 d"]:
    """One convolution in two dimensions, of the frames that a kernel meets at once, laid side by side as channels.

    On a CPU XLA's own in three dimensions takes two to five times as long, and a hundred times where the output is
    small.
    """
    length, step = len(kernel), stride[0]
    x = jnp.pad(x, ((0, 0), pads[0], (0, 0), (0, 0), (0, 0)))
    last = x.shape[1] - length
    met = jnp.concatenate([x[:, first : first + last + 1 : step] for first in range(length)], -1)
    flat = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    out = _convolve(met.reshape(-1, *met.shape[2:]), flat, stride[1:], pads[1:])
    return out.reshape(*met.shape[:2], *out.shape[1:])


class BatchNorm(nnx.Module):
    """Batch normalisation by stored statistics."""

    def __init__(self, channels: int, *, epsilon: float):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.Param(jnp.zeros(channels))
        self.var = nnx.Param(jnp.ones(channels))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        gain = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
        return (x - self.mean[...]) * gain + self.bias[...]


class Tower(nnx.Module):
    """Layers one after another, under the numbers that torchvision gives them.

    Attributes:
      taps: the numbers of the layers whose outputs are wanted.
      widths: channels of these outputs.
    """

    def __init__(self, layers: Sequence[Callable], *, taps: tuple[int, ...], widths: tuple[int, ...]):
        self.features = nnx.List(layers)
        self.taps = taps
        self.widths = widths

    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _h _w _c"]]:
        outputs = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                outputs.append(x)
        return outputs
