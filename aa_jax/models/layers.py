"""Layers that every network here is made of: convolutions, linear layers, norms, time embedding.

Axis legend, here and in all of `models`: b batch, t frames, h height, w width, n tokens, c and d channels. Channels
come last.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from aa_jax.models.config import Policy
from aa_jax.models.convolution import conv_general_dilated
from aa_jax.models.parts import in_parts
from aa_jax.models.platform import platform
from aa_jax.models.precision import widen


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: tuple[int, int] | None = None,
    use_bias: bool = True,
    kernel_init: Callable = nnx.initializers.lecun_normal(),  # noqa: B008 - a constant
    bias_init: Callable = nnx.initializers.zeros_init(),  # noqa: B008
    policy: Policy,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square 2-D convolution over the last three axes (h, w, c).

    Args:
      padding: before and after, on both axes; half the kernel by default.
    """
    return nnx.Conv(
        in_channels,
        out_channels,
        (kernel, kernel),
        strides=stride,
        padding=(padding or (kernel // 2, kernel // 2),) * 2,
        use_bias=use_bias,
        kernel_init=kernel_init,
        bias_init=bias_init,
        dtype=policy.dtype,
        conv_general_dilated=conv_general_dilated,
        rngs=rngs,
    )


def linear(
    in_features: int,
    out_features: int,
    *,
    use_bias: bool = True,
    kernel_init: Callable = nnx.initializers.lecun_normal(),  # noqa: B008 - a constant
    policy: Policy,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """A linear layer over the last axis."""
    return nnx.Linear(
        in_features,
        out_features,
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=policy.dtype,
        rngs=rngs,
    )


zeros_init = nnx.initializers.zeros_init()


class GroupNorm(nnx.Module):
    """Group normalisation over groups of channels and all spatial axes, statistics in float32.

    Args:
      spatial_axes: how many axes before the channels the statistics run over: 2 for one frame (h, w), 3 for a clip
        (t, h, w).
    """

    def __init__(self, channels: int, groups: int, *, epsilon: float, spatial_axes: int = 2):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.groups = groups
        self.epsilon = epsilon
        self.axes = tuple(range(-1 - spatial_axes, -1))

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        # Statistics are taken per channel first and joined per group after: the big reductions then run along whole
        # rows of channels.
        wide = widen(x)
        mean = self._over_group(jnp.mean(wide, self.axes, keepdims=True))
        variance = self._over_group(jnp.mean(jnp.square(wide - mean), self.axes, keepdims=True))
        gain = jax.lax.rsqrt(variance + self.epsilon) * self.scale[...]
        return ((wide - mean) * gain + self.bias[...]).astype(x.dtype)

    def _over_group(self, per_channel: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Mean over each group of channels, given back to each of its channels."""
        *lead, c = per_channel.shape
        grouped = jnp.mean(per_channel.reshape(*lead, self.groups, -1), -1)
        return jnp.repeat(grouped, c // self.groups, axis=-1)


class LayerNorm(nnx.Module):
    """Layer normalisation over the channels, statistics in float32; epsilon as in PyTorch."""

    def __init__(self, channels: int, *, epsilon: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        wide = widen(x)
        mean = jnp.mean(wide, -1, keepdims=True)
        variance = jnp.mean(jnp.square(wide - mean), -1, keepdims=True)
        return ((wide - mean) * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]).astype(
            x.dtype
        )


class Downsample(nnx.Module):
    """Halves the resolution by a 3x3 convolution with stride 2."""

    def __init__(self, channels: int, *, padding: tuple[int, int], policy: Policy, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, 3, stride=2, padding=padding, policy=policy, rngs=rngs)

    def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b h2 w2 c"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """Doubles the resolution by nearest neighbours, cut to `size` where that is odd, then a 3x3 convolution."""

    def __init__(self, channels: int, *, policy: Policy, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, 3, policy=policy, rngs=rngs)

    def __call__(self, x: Float[Array, "*b h w c"], size: tuple[int, int]) -> Float[Array, "*b h2 w2 c"]:
        doubled = jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)
        return self.conv(doubled[..., : size[0], : size[1], :])


CPU_STEP_BYTES = 10 << 20
"""Size of the widest features that a feed-forward computes at a time on a CPU."""


class GEGLU(nnx.Module):
    """Gated linear unit with an exact (erf) GELU gate."""

    def __init__(self, in_features: int, out_features: int, *, policy: Policy, rngs: nnx.Rngs):
        self.proj = linear(in_features, 2 * out_features, policy=policy, rngs=rngs)

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b d"]:
        value, gate = jnp.split(self.proj(x), 2, axis=-1)
        return value * jax.nn.gelu(gate, approximate=False)


class FeedForward(nnx.Module):
    """Transformer feed-forward: GEGLU to four times the width and back. Index 1 of `net` is PyTorch's dropout, which
    has no weights."""

    def __init__(self, channels: int, *, policy: Policy, rngs: nnx.Rngs):
        inner = 4 * channels
        layers: list[Callable] = [
            GEGLU(channels, inner, policy=policy, rngs=rngs),
            nnx.identity,
            linear(inner, channels, policy=policy, rngs=rngs),
        ]
        self.net = nnx.List(layers)
        self.inner = inner

    def __call__(self, x: Float[Array, "*b n c"]) -> Float[Array, "*b n c"]:
        def run(x: Array) -> Array:
            for layer in self.net:
                x = layer(x)
            return x

        return in_parts(run, x, axis=x.ndim - 2, size=self._tokens_at_a_time(x))

    def _tokens_at_a_time(self, x: Float[Array, "*b n c"]) -> int | None:
        """On a CPU, what goes through its caches; all elsewhere, and where several devices may share the tokens."""
        if platform() != "cpu" or not jax.sharding.get_abstract_mesh().empty:
            return None
        *rows, tokens, _ = x.shape
        parts = math.ceil(math.prod(rows) * tokens * 2 * self.inner * x.dtype.itemsize / CPU_STEP_BYTES)
        return math.ceil(tokens / parts)


def sinusoidal_embedding(timesteps: Num[Array, " s"], channels: int) -> Float[Array, "s c"]:
    """Cosines then sines of the timesteps at geometric frequencies (diffusers' `get_timestep_embedding` as SD-1.5
    sets it), float32."""
    half = channels // 2
    frequencies = jnp.exp(-math.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


class TimestepEmbedding(nnx.Module):
    """Two linear layers over the sinusoidal embedding."""

    def __init__(self, in_features: int, out_features: int, *, policy: Policy, rngs: nnx.Rngs):
        self.in_features = in_features
        self.linear_1 = linear(in_features, out_features, policy=policy, rngs=rngs)
        self.linear_2 = linear(out_features, out_features, policy=policy, rngs=rngs)

    def __call__(self, timesteps: Num[Array, " s"]) -> Float[Array, "s d"]:
        return self.linear_2(jax.nn.silu(self.linear_1(sinusoidal_embedding(timesteps, self.in_features))))
