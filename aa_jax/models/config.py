"""Shapes and variants of the networks, and the one policy for how they compute."""

import dataclasses
from typing import Literal, TypeVar, get_args

import jax.numpy as jnp
from jax.typing import DTypeLike

PoseGuiderArchitecture = Literal["controlnet", "paper", "open"]
ATTENTION_IMPLEMENTATIONS = ("auto", "xla", "chunked", "cudnn")
Remat = Literal["none", "products", "layers"]


T = TypeVar("T")


def needed(value: T | None, what: str) -> T:
    """`value`, which is there; ValueError(what is missing) if not."""
    if value is None:
        raise ValueError(f"the model has no {what}")
    return value


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless `condition` holds."""
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """How networks compute: one value instead of flags handed through every layer.

    Attributes:
      dtype: compute dtype of convolutions, products and activations. Norm statistics, softmax and time embeddings
        stay float32.
      attention: kernel choice, one of `ATTENTION_IMPLEMENTATIONS`; "auto" picks by device, dtype and head size.
      remat: what a UNet layer (ResNet block, attention, temporal layer) keeps for its backward pass: "none" of it is
        computed again, all but the "products" of matrices is, or all ("layers"), so that only what goes from layer to
        layer is kept.
    """

    dtype: DTypeLike = jnp.float32
    attention: str = "auto"
    remat: Remat = "none"

    def __post_init__(self) -> None:
        require(
            self.attention in ATTENTION_IMPLEMENTATIONS,
            f"Policy.attention is {self.attention!r}, expected one of {', '.join(ATTENTION_IMPLEMENTATIONS)}",
        )
        require(
            self.remat in get_args(Remat),
            f"Policy.remat is {self.remat!r}, expected one of {', '.join(get_args(Remat))}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Temporal layers (AnimateDiff's "Vanilla" motion modules with two temporal self-attentions each).

    AnimateDiff v1: `max_length=24, mid_block=False`; v2: `32, True`; v3: `32, False`; MusePose: `128, True`.
    """

    num_attention_heads: int = 8
    max_length: int = 32
    mid_block: bool = True
    norm_num_groups: int = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """One UNet of the SD-1.5 family; field names are diffusers' where it has one.

    Attributes:
      num_attention_heads: heads at every level (SD-1.5's `attention_head_dim: 8` means eight heads).
      motion: temporal layers, or None for a UNet on single images.
      group_norm_over_frames: ResNet norms take their statistics over all frames of a clip (Open-AnimateAnyone,
        Moore's v1 set-up) instead of over each frame alone.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    num_attention_heads: int = 8
    norm_num_groups: int = 32
    motion: MotionConfig | None = None
    group_norm_over_frames: bool = False

    def __post_init__(self) -> None:
        require(
            len(self.block_out_channels) == len(self.attention_levels),
            f"UNetConfig has {len(self.block_out_channels)} block_out_channels "
            f"but {len(self.attention_levels)} attention_levels: give one of each per level",
        )
        for channels in self.block_out_channels:
            require(
                channels % self.norm_num_groups == 0 and channels % self.num_attention_heads == 0,
                f"UNetConfig.block_out_channels has {channels}, expected multiples "
                f"of norm_num_groups ({self.norm_num_groups}) and num_attention_heads ({self.num_attention_heads})",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoseGuiderConfig:
    """The network that turns a drawn pose into features.

    Attributes:
      architecture: "controlnet" (Moore, novita, MusePose: 3x3 convolutions, into conv_in's output), "paper"
        (Open-AnimateAnyone's reading of
        the paper: 4x4 stride 2 with batch norm, into the noise latent) or "open" (its second form, into conv_in's
        output).
      block_out_channels: channels of the levels ("controlnet"), unused sizes are an error elsewhere. Each level but
        the first halves the resolution.
      out_channels: channels of the result: the UNet's first level, or the latent's for "paper".
      input_range: value range in which the drawing is fed, "unit" for [0, 1] or "symmetric" for [-1, 1].
    """

    architecture: PoseGuiderArchitecture = "controlnet"
    block_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    out_channels: int = 320
    input_range: Literal["unit", "symmetric"] = "unit"

    @property
    def into_latent(self) -> bool:
        """Whether the result is added to the noise latent instead of to conv_in's output."""
        return self.architecture == "paper"

    @property
    def downscale(self) -> int:
        """Pixels of the drawing, per side, that become one feature."""
        return 2 ** (len(self.block_out_channels) - 1) if self.architecture == "controlnet" else 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """AutoencoderKL; names are diffusers'. Each level of `block_out_channels` but the first halves the resolution."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215

    @property
    def downscale(self) -> int:
        """Pixels, per side, that become one latent."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPVisionConfig:
    """CLIP's image tower; names are transformers'.

    Attributes:
      output: "image_embeds" (projected, `projection_dim` wide) or "pooler_output" (`hidden_size` wide,
        Open-AnimateAnyone's choice; then there is no projection layer).
    """

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    projection_dim: int = 768
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer_norm_eps: float = 1e-5
    output: Literal["image_embeds", "pooler_output"] = "image_embeds"
