"""The ResNet block of UNets and VAE."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.models.config import Policy
from aa_jax.models.layers import GroupNorm, conv, linear


class ResnetBlock2D(nnx.Module):
    """Two 3x3 convolutions, each after group norm and SiLU, with the time embedding added between them, and a residual.

    Args:
      time_channels: width of the time embedding, None without one (VAE).
      norm_axes: axes of the norm statistics before the channels, 2 (h, w) or 3 (t, h, w).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_channels: int | None,
        groups: int,
        epsilon: float,
        norm_axes: int = 2,
        policy: Policy,
        rngs: nnx.Rngs,
    ):
        self.norm1 = GroupNorm(in_channels, groups, epsilon=epsilon, spatial_axes=norm_axes)
        self.conv1 = conv(in_channels, out_channels, 3, policy=policy, rngs=rngs)
        if time_channels is not None:
            self.time_emb_proj = linear(time_channels, out_channels, policy=policy, rngs=rngs)
        self.norm2 = GroupNorm(out_channels, groups, epsilon=epsilon, spatial_axes=norm_axes)
        self.conv2 = conv(out_channels, out_channels, 3, policy=policy, rngs=rngs)
        if in_channels != out_channels:
            self.conv_shortcut = conv(in_channels, out_channels, 1, policy=policy, rngs=rngs)
        self.has_shortcut = in_channels != out_channels

    def __call__(
        self, x: Float[Array, "b *t h w c"], time_embedding: Float[Array, "r d"] | None = None
    ) -> Float[Array, "b *t h w d"]:
        """`time_embedding` has one row, or as many as `x`."""
        hidden = self.conv1(jax.nn.silu(self.norm1(x)))
        if time_embedding is not None:
            shift = self.time_emb_proj(jax.nn.silu(time_embedding))
            hidden = hidden + shift.reshape(shift.shape[0], *(1,) * (x.ndim - 2), -1)
        hidden = self.conv2(jax.nn.silu(self.norm2(hidden)))
        return (self.conv_shortcut(x) if self.has_shortcut else x) + hidden
