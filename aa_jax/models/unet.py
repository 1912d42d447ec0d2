"""The UNet of SD-1.5 from its blocks up, as ReferenceNet, ControlNet and the denoising UNet share it."""

import functools
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from aa_jax.models.config import Policy, Remat, UNetConfig
from aa_jax.models.layers import Downsample, TimestepEmbedding, Upsample, conv
from aa_jax.models.parts import in_parts
from aa_jax.models.resnet import ResnetBlock2D
from aa_jax.models.temporal import MotionModule
from aa_jax.models.transformer import Conditions, Transformer2DModel, both_halves

T = TypeVar("T")
Features = dict[str, Float[Array, "r k c"]]
"""The feature bank: per attention site the normed tokens that go into self-attention."""
Residuals = list[Float[Array, "b t h2 w2 d"]]
"""A ControlNet's result: what is added to each skip connection in order, and to the mid block's output."""


def rematerialised(function: Callable[..., T], remat: Remat) -> Callable[..., T]:
    """`function`, whose backward pass computes again what `Policy.remat` says."""
    if remat == "none":
        return function
    kept = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "products" else None
    return jax.checkpoint(function, policy=kept)


def frame_by_frame(
    function: Callable[..., tuple[Array, Features]], *inputs: Float[Array, "b t h w _"], size: int | None
) -> tuple[Float[Array, "b2 t h w c"], Features]:
    """What treats each frame alone, on `size` frames at a time, which yields no features, or on all."""
    if size is None or size >= inputs[0].shape[1]:
        return function(*inputs)
    return in_parts(lambda *some: function(*some)[0], *inputs, axis=1, size=size), {}


class UNetBlock(nnx.Module):
    """Layers at one resolution: each a ResNet block, then attention and a motion module where the block has them."""

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        config: UNetConfig,
        *,
        attention: bool,
        policy: Policy,
        rngs: nnx.Rngs,
    ):
        self.resnets = nnx.List(
            [
                ResnetBlock2D(
                    width,
                    out_channels,
                    time_channels=4 * config.block_out_channels[0],
                    groups=config.norm_num_groups,
                    epsilon=1e-5,
                    norm_axes=3 if config.group_norm_over_frames else 2,
                    policy=policy,
                    rngs=rngs,
                )
                for width in in_channels
            ]
        )
        if attention:
            self.attentions = nnx.List(
                [Transformer2DModel(out_channels, config, policy=policy, rngs=rngs) for _ in in_channels]
            )
        self.has_attention = attention
        if config.motion is not None:
            self.motion_modules = nnx.List(
                [MotionModule(out_channels, config.motion, policy=policy, rngs=rngs) for _ in in_channels]
            )
        self.has_motion = config.motion is not None
        self.frames_alone = not config.group_norm_over_frames
        self.remat = policy.remat

    def layer(
        self,
        index: int,
        inputs: tuple[Float[Array, "b t h w _"], ...],
        time_embedding: Float[Array, "r d"],
        name: str,
        conditions: Conditions,
    ) -> tuple[Float[Array, "b t h w d"], Features]:
        """Run layer `index` of the block called `name` on the inputs, channels side by side. Where it works on some
        frames at a time, it keeps no features."""

        def run(inputs: tuple[Array, ...], time_embedding: Array, conditions: Conditions) -> tuple[Array, Features]:
            site = f"{name}.attentions.{index}"

            def spatial(*inputs: Array) -> tuple[Array, Features]:
                x = self.resnets[index](jnp.concatenate(inputs, -1) if len(inputs) > 1 else inputs[0], time_embedding)
                if not self.has_attention:
                    return x, {}
                x, feature = self.attentions[index](x, site, conditions)
                return x, {site: feature}

            x, features = frame_by_frame(spatial, *inputs, size=conditions.layer_frames if self.frames_alone else None)
            if self.has_motion:
                x = self.motion_modules[index](x, conditions.num_frames, conditions.layer_frames)
            return x, features

        return rematerialised(run, self.remat)(inputs, time_embedding, conditions)


class DownBlock(UNetBlock):
    """Layers, then a downsampling convolution in all but the last block."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        config: UNetConfig,
        *,
        attention: bool,
        last: bool,
        policy: Policy,
        rngs: nnx.Rngs,
    ):
        widths = [in_channels] + [out_channels] * (config.layers_per_block - 1)
        super().__init__(widths, out_channels, config, attention=attention, policy=policy, rngs=rngs)
        if not last:
            self.downsamplers = nnx.List([Downsample(out_channels, padding=(1, 1), policy=policy, rngs=rngs)])
        self.last = last

    def __call__(
        self, x: Float[Array, "b t h w c"], time_embedding: Float[Array, "r d"], name: str, conditions: Conditions
    ) -> tuple[Float[Array, "b t h2 w2 d"], list[Array], Features]:
        """The block's result, its skip connections in order, and its features."""
        skips: list[Array] = []
        features: Features = {}
        for index in range(len(self.resnets)):
            x, found = self.layer(index, (x,), time_embedding, name, conditions)
            skips.append(x)
            features |= found
        if not self.last:
            x = in_parts(self.downsamplers[0], x, axis=1, size=conditions.layer_frames)
            skips.append(x)
        return x, skips, features


class MidBlock(nnx.Module):
    """ResNet block, attention, (motion module,) ResNet block at the lowest resolution."""

    def __init__(self, channels: int, config: UNetConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.resnets = nnx.List(
            [
                ResnetBlock2D(
                    channels,
                    channels,
                    time_channels=4 * config.block_out_channels[0],
                    groups=config.norm_num_groups,
                    epsilon=1e-5,
                    norm_axes=3 if config.group_norm_over_frames else 2,
                    policy=policy,
                    rngs=rngs,
                )
                for _ in range(2)
            ]
        )
        self.attentions = nnx.List([Transformer2DModel(channels, config, policy=policy, rngs=rngs)])
        self.has_motion = config.motion is not None and config.motion.mid_block
        if config.motion is not None and config.motion.mid_block:
            self.motion_modules = nnx.List([MotionModule(channels, config.motion, policy=policy, rngs=rngs)])
        self.frames_alone = not config.group_norm_over_frames
        self.remat = policy.remat

    def __call__(
        self, x: Float[Array, "b t h w c"], time_embedding: Float[Array, "r d"], name: str, conditions: Conditions
    ) -> tuple[Float[Array, "b t h w c"], Features]:
        def run(x: Array, time_embedding: Array, conditions: Conditions) -> tuple[Array, Features]:
            site = f"{name}.attentions.0"
            size = conditions.layer_frames if self.frames_alone else None

            def spatial(x: Array) -> tuple[Array, Features]:
                x, feature = self.attentions[0](self.resnets[0](x, time_embedding), site, conditions)
                return x, {site: feature}

            x, features = frame_by_frame(spatial, x, size=size)
            if self.has_motion:
                x = self.motion_modules[0](x, conditions.num_frames, conditions.layer_frames)
            return in_parts(lambda x: self.resnets[1](x, time_embedding), x, axis=1, size=size), features

        return rematerialised(run, self.remat)(x, time_embedding, conditions)


class UpBlock(UNetBlock):
    """Layers that each take in a skip connection, then an upsampling convolution in all but the last block."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        config: UNetConfig,
        *,
        attention: bool,
        last: bool,
        policy: Policy,
        rngs: nnx.Rngs,
    ):
        layers = config.layers_per_block + 1
        widths = [in_channels] + [out_channels] * (layers - 1)
        skips = [out_channels] * (layers - 1) + [skip_channels]
        joined = [width + skip for width, skip in zip(widths, skips, strict=True)]
        super().__init__(joined, out_channels, config, attention=attention, policy=policy, rngs=rngs)
        if not last:
            self.upsamplers = nnx.List([Upsample(out_channels, policy=policy, rngs=rngs)])
        self.last = last

    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        skips: list[Array],
        time_embedding: Float[Array, "r d"],
        name: str,
        conditions: Conditions,
        layers: slice = slice(None),
    ) -> tuple[Float[Array, "b t h2 w2 d"], list[Array], Features]:
        """The block's result, or that of some of its layers, the skip connections that are left, and its features."""
        features: Features = {}
        for index in range(len(self.resnets))[layers]:
            *skips, skip = skips
            x, found = self.layer(index, (x, skip), time_embedding, name, conditions)
            features |= found
        if not self.last:
            *_, height, width, _ = skips[-1].shape
            upsample = functools.partial(self.upsamplers[0], size=(height, width))
            x = in_parts(upsample, x, axis=1, size=conditions.layer_frames)
        return x, skips, features


class UNetEncoder(nnx.Module):
    """The UNet's first half, as far as the mid block."""

    def __init__(self, config: UNetConfig, *, policy: Policy, rngs: nnx.Rngs):
        channels = config.block_out_channels
        levels = len(channels)
        self.conv_in = conv(config.in_channels, channels[0], 3, policy=policy, rngs=rngs)
        self.time_embedding = TimestepEmbedding(channels[0], 4 * channels[0], policy=policy, rngs=rngs)
        self.down_blocks = nnx.List(
            [
                DownBlock(
                    channels[max(level - 1, 0)],
                    channels[level],
                    config,
                    attention=config.attention_levels[level],
                    last=level == levels - 1,
                    policy=policy,
                    rngs=rngs,
                )
                for level in range(levels)
            ]
        )
        self.mid_block = MidBlock(channels[-1], config, policy=policy, rngs=rngs)

    def named_blocks(self) -> list[tuple[str, nnx.Module]]:
        """Every block with its name, in the order of the forward pass."""
        down = [(f"down_blocks.{i}", block) for i, block in enumerate(self.down_blocks)]
        return [*down, ("mid_block", self.mid_block)]

    def sites(self) -> Iterator[tuple[str, Transformer2DModel]]:
        """Every attention site with its name, in the order of the forward pass."""
        for name, block in self.named_blocks():
            for index, site in enumerate(getattr(block, "attentions", ())):
                yield f"{name}.attentions.{index}", site

    def condition(
        self, context: Float[Array, "r k d"], bank: Features | None = None, *, guided: bool = False
    ) -> Conditions:
        """Project all conditions once.

        Args:
          context: image embedding tokens; with `guided`, the unconditional row first.
          bank: a ReferenceNet's features, of any resolution.
          guided: evaluate with and without the condition, for classifier-free guidance.
        """
        sites = dict(self.sites())
        return Conditions(
            context={name: site.condition_context(context) for name, site in sites.items()},
            reference={name: sites[name].condition_reference(feature) for name, feature in (bank or {}).items()},
            fork=next(iter(sites)) if guided else None,
        )

    def embed_time(self, timesteps: Num[Array, " s"]) -> Float[Array, "s d"]:
        """Time embeddings of many timesteps at once."""
        return self.time_embedding(timesteps)

    def encode(
        self, x: Float[Array, "b t h w c"], time_embedding: Float[Array, "r d"], conditions: Conditions
    ) -> tuple[Float[Array, "b t h w d"], list[Array], Features]:
        """From conv_in's output to the mid block's: that, the skip connections in order, and the features."""
        skips = [x]
        features: Features = {}
        for level, block in enumerate(self.down_blocks):
            x, found_skips, found = block(x, time_embedding, f"down_blocks.{level}", conditions)
            skips += found_skips
            features |= found
        if conditions.fork:
            skips = [skip if len(skip) == len(x) else both_halves(skip) for skip in skips]
        x, found = self.mid_block(x, time_embedding, "mid_block", conditions)
        return x, skips, features | found


class UNet(UNetEncoder):
    """Everything of the UNet but its last norm and convolution."""

    def __init__(self, config: UNetConfig, *, policy: Policy, rngs: nnx.Rngs):
        super().__init__(config, policy=policy, rngs=rngs)
        channels = config.block_out_channels
        levels = len(channels)
        self.up_blocks = nnx.List(
            [
                UpBlock(
                    channels[min(level + 1, levels - 1)],
                    channels[max(level - 1, 0)],
                    channels[level],
                    config,
                    attention=config.attention_levels[level],
                    last=level == 0,
                    policy=policy,
                    rngs=rngs,
                )
                for level in reversed(range(levels))
            ]
        )

    def named_blocks(self) -> list[tuple[str, nnx.Module]]:
        """See `UNetEncoder`."""
        return [*super().named_blocks(), *[(f"up_blocks.{i}", block) for i, block in enumerate(self.up_blocks)]]

    def trunk(
        self,
        sample: Float[Array, "b t h w c"],
        time_embedding: Float[Array, "r d"],
        conditions: Conditions,
        pose: Float[Array, "b t h w d"] | None = None,
        residuals: Residuals | None = None,
        inner: Float[Array, "rb t h w d"] | None = None,
    ) -> tuple[Float[Array, "rb t h w d"], Features, Float[Array, "rb t h w d"]]:
        """Run conv_in to the last up block. `pose` is added to conv_in's output, `residuals` to the skip connections
        and the mid block's output. A guided evaluation gives 2 b rows, of which the unconditional ones get none.

        With `inner`, what went into the last layer at another timestep, only that layer is run, on it and conv_in's
        output, which changes most from step to step (DeepCache, arXiv 2312.00858).

        Returns:
          The result, the features, and what went into the last layer.
        """
        x = self.conv_in(sample)
        if pose is not None:
            x = x + pose
        features: Features = {}
        last, skips = f"up_blocks.{len(self.up_blocks) - 1}", [x]
        if inner is None:
            x, skips, features = self.encode(x, time_embedding, conditions)
            if residuals is not None:
                *skips, x = [
                    own.at[len(own) - len(more) :].add(more) for own, more in zip([*skips, x], residuals, strict=True)
                ]
            for level, up_block in enumerate(self.up_blocks[:-1]):
                x, skips, found = up_block(x, skips, time_embedding, f"up_blocks.{level}", conditions)
                features |= found
            x, skips, found = self.up_blocks[-1](x, skips, time_embedding, last, conditions, slice(-1))
            features |= found
            inner = x
        elif conditions.fork:
            skips = [both_halves(x)]
        x, _, found = self.up_blocks[-1](inner, skips, time_embedding, last, conditions, slice(-1, None))
        return x, features | found, inner
