"""Temporal layers: AnimateDiff's motion modules, which let every position attend over the frames of a clip."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from aa_jax.models.attention import temporal_attention
from aa_jax.models.config import MotionConfig, Policy
from aa_jax.models.layers import FeedForward, GroupNorm, LayerNorm, linear, zeros_init
from aa_jax.models.layout import FRAME, ROWS, lay
from aa_jax.models.parts import in_parts


class Buffer(nnx.Variable):
    """A stored array that is not trained."""


def position_table(length: int, channels: int) -> Float[np.ndarray, "1 length c"]:
    """Sinusoidal position encoding, sines and cosines interleaved (AnimateDiff's `PositionalEncoding`), float32."""
    position = np.arange(length, dtype=np.float32)[:, None]
    frequency = np.exp(np.arange(0, channels, 2, dtype=np.float32) * np.float32(-math.log(10000.0) / channels))
    table = np.zeros((1, length, channels), np.float32)
    table[0, :, 0::2] = np.sin(position * frequency)
    table[0, :, 1::2] = np.cos(position * frequency)
    return table


class PositionalEncoding(nnx.Module):
    """Adds the encoding of the frame's place in the clip; every clip starts at place 0."""

    def __init__(self, channels: int, max_length: int):
        self.pe = Buffer(jnp.asarray(position_table(max_length, channels)))

    def __call__(self, x: Float[Array, "b t n c"]) -> Float[Array, "b t n c"]:
        frames, longest = x.shape[1], self.pe.shape[1]
        if frames > longest:
            raise ValueError(
                f"a window of {frames} frames is longer than the {longest} positions of the temporal layers: "
                "use shorter windows"
            )
        return x + self.pe[0, :frames, None].astype(x.dtype)


class TemporalSelfAttention(nnx.Module):
    """Self-attention over frames at each position; positions are encoded in queries, keys and values alike."""

    def __init__(self, channels: int, config: MotionConfig, *, policy: Policy, rngs: nnx.Rngs):
        make = functools.partial(linear, channels, channels, policy=policy, rngs=rngs)
        self.to_q = make(use_bias=False)
        self.to_k = make(use_bias=False)
        self.to_v = make(use_bias=False)
        self.to_out = nnx.List([make()])
        self.pos_encoder = PositionalEncoding(channels, config.max_length)
        self.heads = config.num_attention_heads

    def __call__(self, x: Float[Array, "b t n c"], num_frames: Int[Array, ""] | None = None) -> Float[Array, "b t n c"]:
        x = self.pos_encoder(x)
        split = functools.partial(rearrange, pattern="b t n (heads d) -> b t n heads d", heads=self.heads)
        out = temporal_attention(split(self.to_q(x)), split(self.to_k(x)), split(self.to_v(x)), num_frames)
        return self.to_out[0](rearrange(out, "b t n heads d -> b t n (heads d)"))


class TemporalTransformerBlock(nnx.Module):
    """Two temporal self-attentions and a feed-forward, each after a layer norm and with a residual."""

    def __init__(self, channels: int, config: MotionConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.attention_blocks = nnx.List(
            [TemporalSelfAttention(channels, config, policy=policy, rngs=rngs) for _ in range(2)]
        )
        self.norms = nnx.List([LayerNorm(channels) for _ in range(2)])
        self.ff = FeedForward(channels, policy=policy, rngs=rngs)
        self.ff_norm = LayerNorm(channels)

    def __call__(self, x: Float[Array, "b t n c"], num_frames: Int[Array, ""] | None = None) -> Float[Array, "b t n c"]:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attention(norm(x), num_frames)
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(nnx.Module):
    """Norm, linear layer in, a temporal block, linear layer out that starts at zero, residual."""

    def __init__(self, channels: int, config: MotionConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.norm = GroupNorm(channels, config.norm_num_groups, epsilon=1e-6)
        self.proj_in = linear(channels, channels, policy=policy, rngs=rngs)
        self.transformer_blocks = nnx.List([TemporalTransformerBlock(channels, config, policy=policy, rngs=rngs)])
        self.proj_out = linear(channels, channels, kernel_init=zeros_init, policy=policy, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        num_frames: Int[Array, ""] | None = None,
        layer_frames: int | None = None,
    ) -> Float[Array, "b t h w c"]:
        _, t, h, w, _ = x.shape
        tokens = in_parts(lambda x: self.proj_in(self.norm(x)), x, axis=1, size=layer_frames)
        tokens = in_parts(
            lambda tokens: self.proj_out(self.transformer_blocks[0](tokens, num_frames)),
            lay(lay(rearrange(tokens, "b t h w c -> b t (h w) c"), ROWS, FRAME), ROWS, None, FRAME),
            axis=2,
            size=None if layer_frames is None else math.ceil(h * w * layer_frames / t),
        )
        return x + rearrange(lay(tokens, ROWS, FRAME), "b t (h w) c -> b t h w c", h=h, w=w)


class MotionModule(nnx.Module):
    """The container that AnimateDiff's files name `motion_modules.i.temporal_transformer`."""

    def __init__(self, channels: int, config: MotionConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.temporal_transformer = TemporalTransformer(channels, config, policy=policy, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        num_frames: Int[Array, ""] | None = None,
        layer_frames: int | None = None,
    ) -> Float[Array, "b t h w c"]:
        """See `Conditions` of `num_frames` and `layer_frames`."""
        return self.temporal_transformer(x, num_frames, layer_frames)
