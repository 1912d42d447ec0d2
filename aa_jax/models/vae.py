"""AutoencoderKL, the image autoencoder of Stable Diffusion: images in [-1, 1] to latents at an eighth of their size
(or what `VAEConfig.downscale` says), and back."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from aa_jax.models.attention import dot_product_attention
from aa_jax.models.config import Policy, VAEConfig
from aa_jax.models.layers import Downsample, GroupNorm, Upsample, conv, linear
from aa_jax.models.resnet import ResnetBlock2D

# Of an untrained encoder's latents. At 0 they would be half noise, of which a decoder learns slowly.
INITIAL_LOG_VARIANCE = -6.0


def symmetric(images: UInt8[Array, "*b h w 3"]) -> Float[Array, "*b h w 3"]:
    """Pixels as the VAE takes them, in [-1, 1]."""
    return images / jnp.float32(127.5) - 1


class DiagonalGaussian(NamedTuple):
    """The encoder's distribution over latents, not yet scaled."""

    mean: Float[Array, "*b h w c"]
    log_variance: Float[Array, "*b h w c"]

    def sample(self, key: jax.Array) -> Float[Array, "*b h w c"]:
        """Draw latents."""
        return self.mean + jnp.exp(0.5 * self.log_variance) * jax.random.normal(key, self.mean.shape, self.mean.dtype)


class SelfAttention2D(nnx.Module):
    """Single-head self-attention over all positions of an image, after group norm, with a residual."""

    def __init__(self, channels: int, config: VAEConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.group_norm = GroupNorm(channels, config.norm_num_groups, epsilon=1e-6)
        self.to_q = linear(channels, channels, policy=policy, rngs=rngs)
        self.to_k = linear(channels, channels, policy=policy, rngs=rngs)
        self.to_v = linear(channels, channels, policy=policy, rngs=rngs)
        self.to_out = nnx.List([linear(channels, channels, policy=policy, rngs=rngs)])
        self.implementation = policy.attention

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        tokens = rearrange(self.group_norm(x), "b h w c -> b (h w) 1 c")
        out = dot_product_attention(
            self.to_q(tokens), self.to_k(tokens), self.to_v(tokens), implementation=self.implementation
        )
        return x + self.to_out[0](out.reshape(x.shape))


class Block(nnx.Module):
    """ResNet blocks at one resolution, then down- or upsampling where the block has it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        layers: int,
        config: VAEConfig,
        *,
        resampling: Literal["down", "up"] | None,
        policy: Policy,
        rngs: nnx.Rngs,
    ):
        self.resnets = nnx.List(
            [
                _resnet(in_channels if index == 0 else out_channels, out_channels, config, policy, rngs)
                for index in range(layers)
            ]
        )
        if resampling == "down":
            self.downsamplers = nnx.List([Downsample(out_channels, padding=(0, 1), policy=policy, rngs=rngs)])
        if resampling == "up":
            self.upsamplers = nnx.List([Upsample(out_channels, policy=policy, rngs=rngs)])
        self.resampling = resampling

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        for resnet in self.resnets:
            x = resnet(x)
        if self.resampling == "down":
            x = self.downsamplers[0](x)
        if self.resampling == "up":
            x = self.upsamplers[0](x, (2 * x.shape[-3], 2 * x.shape[-2]))
        return x


class MidBlock(nnx.Module):
    """ResNet block, attention, ResNet block."""

    def __init__(self, channels: int, config: VAEConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.resnets = nnx.List([_resnet(channels, channels, config, policy, rngs) for _ in range(2)])
        self.attentions = nnx.List([SelfAttention2D(channels, config, policy=policy, rngs=rngs)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nnx.Module):
    """Images to the moments of the latents."""

    def __init__(self, config: VAEConfig, *, policy: Policy, rngs: nnx.Rngs):
        channels = config.block_out_channels
        self.conv_in = conv(config.in_channels, channels[0], 3, policy=policy, rngs=rngs)
        blocks = []
        for level, width in enumerate(channels):
            resampling: Literal["down"] | None = "down" if level < len(channels) - 1 else None
            blocks.append(
                Block(
                    channels[max(level - 1, 0)],
                    width,
                    config.layers_per_block,
                    config,
                    policy=policy,
                    rngs=rngs,
                    resampling=resampling,
                )
            )
        self.down_blocks = nnx.List(blocks)
        self.mid_block = MidBlock(channels[-1], config, policy=policy, rngs=rngs)
        self.conv_norm_out = GroupNorm(channels[-1], config.norm_num_groups, epsilon=1e-6)
        self.conv_out = conv(channels[-1], 2 * config.latent_channels, 3, policy=policy, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 c"]:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nnx.Module):
    """Latents to images."""

    def __init__(self, config: VAEConfig, *, policy: Policy, rngs: nnx.Rngs):
        channels = config.block_out_channels[::-1]
        self.conv_in = conv(config.latent_channels, channels[0], 3, policy=policy, rngs=rngs)
        self.mid_block = MidBlock(channels[0], config, policy=policy, rngs=rngs)
        blocks = []
        for level, width in enumerate(channels):
            layers = config.layers_per_block + 1
            resampling: Literal["up"] | None = "up" if level < len(channels) - 1 else None
            blocks.append(
                Block(
                    channels[max(level - 1, 0)], width, layers, config, policy=policy, rngs=rngs, resampling=resampling
                )
            )
        self.up_blocks = nnx.List(blocks)
        self.conv_norm_out = GroupNorm(channels[-1], config.norm_num_groups, epsilon=1e-6)
        self.conv_out = conv(channels[-1], config.out_channels, 3, policy=policy, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 3"]:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class AutoencoderKL(nnx.Module):
    """The autoencoder. The UNets work on latents multiplied by `scaling_factor`; `encode` and `decode` work on
    unscaled ones."""

    def __init__(self, config: VAEConfig, *, policy: Policy | None = None, rngs: nnx.Rngs):
        policy = policy or Policy()
        latent = config.latent_channels
        self.encoder = Encoder(config, policy=policy, rngs=rngs)
        self.decoder = Decoder(config, policy=policy, rngs=rngs)
        self.quant_conv = conv(2 * latent, 2 * latent, 1, bias_init=_little_noise, policy=policy, rngs=rngs)
        self.post_quant_conv = conv(latent, latent, 1, policy=policy, rngs=rngs)

    def encode(self, images: Float[Array, "b h w 3"]) -> DiagonalGaussian:
        """Images in [-1, 1] to the distribution of their latents. Height and width must be divisible by
        `VAEConfig.downscale`."""
        mean, log_variance = jnp.split(self.quant_conv(self.encoder(images)), 2, -1)
        return DiagonalGaussian(mean, jnp.clip(log_variance, -30.0, 20.0))

    def decode(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 3"]:
        """Latents to images, about [-1, 1], not clipped."""
        return self.decoder(self.post_quant_conv(latents))


def _little_noise(key: jax.Array, shape: tuple[int], dtype: DTypeLike = jnp.float32) -> Float[Array, " c"]:
    """The bias of means and logarithms of variances, of an encoder that is not trained."""
    del key
    return jnp.repeat(jnp.array([0.0, INITIAL_LOG_VARIANCE], dtype), shape[0] // 2)


def _resnet(in_channels: int, out_channels: int, config: VAEConfig, policy: Policy, rngs: nnx.Rngs) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels,
        out_channels,
        time_channels=None,
        groups=config.norm_num_groups,
        epsilon=1e-6,
        policy=policy,
        rngs=rngs,
    )
