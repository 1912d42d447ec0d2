"""Pose guiders: a few convolutions that turn a drawn skeleton into features at latent resolution (section 3.2 of the
paper)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.models.config import Policy, PoseGuiderConfig
from aa_jax.models.layers import conv, zeros_init

# (out channels, kernel, stride) of the paper's convolutions as Open-AnimateAnyone resolves them.
PAPER_LAYERS = ((3, 3, 1), (16, 4, 2), (16, 3, 1), (32, 4, 2), (32, 3, 1), (64, 4, 2), (64, 3, 1), (128, 3, 1))


class ControlNetPoseGuider(nnx.Module):
    """ControlNet's conditioning embedding: 3x3 convolutions with SiLU, every second one with stride 2; starts at
    zero."""

    def __init__(self, config: PoseGuiderConfig, *, policy: Policy, rngs: nnx.Rngs):
        channels = config.block_out_channels
        self.conv_in = conv(3, channels[0], 3, policy=policy, rngs=rngs)
        blocks = []
        for narrow, wide in zip(channels, channels[1:], strict=False):
            blocks += [
                conv(narrow, narrow, 3, policy=policy, rngs=rngs),
                conv(narrow, wide, 3, stride=2, policy=policy, rngs=rngs),
            ]
        self.blocks = nnx.List(blocks)
        self.conv_out = conv(channels[-1], config.out_channels, 3, kernel_init=zeros_init, policy=policy, rngs=rngs)

    def __call__(self, images: Float[Array, "*b h w 3"]) -> Float[Array, "*b h2 w2 c"]:
        x = jax.nn.silu(self.conv_in(images))
        for block in self.blocks:
            x = jax.nn.silu(block(x))
        return self.conv_out(x)


class PaperPoseGuider(nnx.Module):
    """The paper's guider: 4x4 convolutions with stride 2 and 16/32/64/128 channels, Gaussian weights, a last
    projection that starts at zero.

    With batch norm and ReLU it is the first form of Open-AnimateAnyone, with SiLU alone its second. `conv_layers`
    counts norms and activations as PyTorch's `Sequential` does.
    """

    def __init__(self, config: PoseGuiderConfig, *, policy: Policy, rngs: nnx.Rngs):
        paper = config.architecture == "paper"
        layers: list[Callable] = []
        width = 3
        for out_channels, kernel, stride in PAPER_LAYERS:
            init = nnx.initializers.normal(0.02)
            layers.append(
                conv(
                    width,
                    out_channels,
                    kernel,
                    stride=stride,
                    padding=(1, 1),
                    kernel_init=init,
                    policy=policy,
                    rngs=rngs,
                )
            )
            if paper:
                layers.append(
                    nnx.BatchNorm(out_channels, use_running_average=True, epsilon=1e-5, dtype=policy.dtype, rngs=rngs)
                )
            layers.append(jax.nn.relu if paper else jax.nn.silu)
            width = out_channels
        self.conv_layers = nnx.List(layers)
        self.final_proj = conv(width, config.out_channels, 1, kernel_init=zeros_init, policy=policy, rngs=rngs)
        self.scale = nnx.Param(jnp.full(1, 1.0 if paper else 2.0))

    def __call__(self, images: Float[Array, "*b h w 3"]) -> Float[Array, "*b h2 w2 c"]:
        x = images
        for layer in self.conv_layers:
            x = layer(x)
        return self.final_proj(x) * self.scale[...].astype(x.dtype)


def PoseGuider(  # noqa: N802 - stands for the class that the configuration names
    config: PoseGuiderConfig, *, policy: Policy | None = None, rngs: nnx.Rngs
) -> ControlNetPoseGuider | PaperPoseGuider:
    """The guider of `config.architecture`: drawn images in `config.input_range` to features, of which each stands for
    `config.downscale` pixels a side."""
    cls = ControlNetPoseGuider if config.architecture == "controlnet" else PaperPoseGuider
    return cls(config, policy=policy or Policy(), rngs=rngs)
