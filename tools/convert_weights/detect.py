"""What a file holds, and the configuration of its network, read off its keys and shapes.

What shapes cannot tell (numbers of heads and groups, activations) comes from config files, or is SD-1.5's and OpenAI
CLIP's where the sizes
are theirs; with other sizes a config file is asked for.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from aa_jax.models.config import CLIPVisionConfig, MotionConfig, PoseGuiderConfig, UNetConfig, VAEConfig

Shapes = Mapping[str, tuple[int, ...]]
ClipOutput = Literal["image_embeds", "pooler_output"]
MOTION = ".motion_modules."
CLIP_HEADS = {1024: 16, 768: 12}
# Options of diffusers' UNets and autoencoders with the only value that the networks here compute.
ONLY_UNET = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "transformer_layers_per_block": 1,
    "use_linear_projection": False,
}
ONLY_VAE = {
    "act_fn": "silu",
    "shift_factor": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
ONLY_MOTION = {
    "attention_block_types": ["Temporal_Self", "Temporal_Self"],
    "num_transformer_block": 1,
    "temporal_attention_dim_div": 1,
    "temporal_position_encoding": True,
}
ONLY_UNET_3D = {
    "motion_module_decoder_only": False,
    "motion_module_resolutions": [1, 2, 4, 8],
    "motion_module_type": "Vanilla",
    "unet_use_cross_frame_attention": False,
    "unet_use_temporal_attention": False,
    "use_motion_module": True,
}


def describe(keys: Mapping[str, Any]) -> str:
    """What a file with these (current) names is, in words."""
    if any(key.startswith("model.diffusion_model.") for key in keys):
        return "a single-file Stable Diffusion checkpoint"
    if any("lora" in key.lower() for key in keys):
        return "a LoRA"
    if any(key.startswith(("controlnet_", "control_model.")) for key in keys):
        return "a ControlNet"
    if any(key.startswith("down_blocks.") for key in keys):
        motion = [key for key in keys if MOTION in key]
        if len(motion) == len(keys):
            return f"a motion module ({motion_version(keys)})"
        if motion:
            return "a UNet with motion modules"
        return "a Stable Diffusion UNet" if "conv_out.weight" in keys else "a reference UNet"
    if "conv_layers.0.weight" in keys and "final_proj.weight" in keys:
        return "a pose guider of Open-AnimateAnyone"
    if "blocks.0.weight" in keys and "conv_in.weight" in keys:
        return "a pose guider"
    if any(key.startswith("decoder.") for key in keys) and any(key.startswith("encoder.") for key in keys):
        return "an autoencoder (VAE)"
    if any(key.startswith("vision_model.") for key in keys):
        return "a CLIP image encoder"
    if any(key.startswith(("text_model.", "transformer.text_model.")) for key in keys):
        return "a CLIP text encoder"
    return "no network that is known here"


EXPECTED = {
    "reference_unet": ("a reference UNet",),
    "denoising_unet": ("a Stable Diffusion UNet", "a UNet with motion modules"),
    "unet": ("a Stable Diffusion UNet",),
    "motion_module": ("a motion module", "a UNet with motion modules"),
    "pose_guider": ("a pose guider", "a pose guider of Open-AnimateAnyone"),
    "vae": ("an autoencoder (VAE)",),
    "image_encoder": ("a CLIP image encoder",),
}


def check_kind(role: str, argument: str, keys: Mapping[str, Any]) -> None:
    """Raise ValueError where a file is not what its argument asks for."""
    found = describe(keys)
    if found.partition(" (")[0] not in {kind.partition(" (")[0] for kind in EXPECTED[role]}:
        some = ", ".join(list(keys)[:3])
        raise ValueError(
            f"{argument}: expected {EXPECTED[role][0]}, but this looks like {found} ({len(keys)} tensors: {some}, ...)"
        )


def motion_version(keys: Mapping[str, Any]) -> str:
    """AnimateDiff's version of a motion module: by mid block and number of positions, where those are stored."""
    lengths = {value.shape[1] for key, value in keys.items() if key.endswith(".pe")}
    if any(key.startswith("mid_block.motion_modules.") for key in keys):
        return "AnimateDiff v2"
    return {frozenset({24}): "AnimateDiff v1", frozenset({32}): "AnimateDiff v3"}.get(
        frozenset(lengths), "AnimateDiff v1 or v3"
    )


def unet_config(argument: str, shapes: Shapes, declared: Mapping[str, Any] | None) -> UNetConfig:
    """The UNet of these shapes without its motion modules; `declared` is diffusers' config.json."""
    blocks = _count(shapes, "down_blocks.{}.resnets.0.conv1.weight")
    found: dict[str, Any] = {
        "in_channels": _size(argument, shapes, "conv_in.weight", 1),
        "block_out_channels": tuple(
            shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(blocks)
        ),
        "layers_per_block": _count(shapes, "down_blocks.0.resnets.{}.conv1.weight"),
        "attention_levels": tuple(f"down_blocks.{level}.attentions.0.norm.weight" in shapes for level in range(blocks)),
        "cross_attention_dim": next(
            (shape[1] for key, shape in shapes.items() if key.endswith(".attn2.to_k.weight")), 768
        ),
    }
    if "conv_out.weight" in shapes:
        found["out_channels"] = shapes["conv_out.weight"][0]
    return UNetConfig(**found, **_undeclared_unet(argument, found, declared))


def motion_only_config(argument: str, shapes: Shapes, declared: Mapping[str, Any] | None) -> UNetConfig:
    """The UNet around motion modules that are alone in their file; the rest is as declared, or SD-1.5's."""
    levels = _count(shapes, "down_blocks.{}.motion_modules.0.temporal_transformer.norm.weight")
    found: dict[str, Any] = {
        "block_out_channels": tuple(
            shapes[f"down_blocks.{i}.motion_modules.0.temporal_transformer.norm.weight"][0] for i in range(levels)
        ),
        "layers_per_block": _count(shapes, "down_blocks.0.motion_modules.{}.temporal_transformer.norm.weight"),
    }
    around = ("in_channels", "out_channels", "cross_attention_dim")
    found |= {key: value for key, value in (declared or {}).items() if key in around}
    return UNetConfig(**found, **_undeclared_unet(argument, found, declared))


def _undeclared_unet(argument: str, found: dict[str, Any], declared: Mapping[str, Any] | None) -> dict[str, Any]:
    """Heads and groups, from the config file after a check of it against the shapes, or SD-1.5's."""
    if declared is None:
        _require_standard(
            argument,
            found["block_out_channels"],
            UNetConfig().block_out_channels,
            "--unet-config with diffusers' config.json",
        )
        return {}
    _check_only(f"the UNet config of {argument}", declared, ONLY_UNET)
    if isinstance(declared.get("down_block_types"), list):
        declared = {**declared, "attention_levels": tuple("CrossAttn" in name for name in declared["down_block_types"])}
    _check_declared(argument, "UNet config", found, declared)
    heads = declared.get("num_attention_heads") or declared.get("attention_head_dim", 8)
    return {
        "num_attention_heads": _number(argument, "attention_head_dim", heads),
        "norm_num_groups": declared.get("norm_num_groups", 32),
    }


def motion_config(
    argument: str, shapes: Shapes, declared: Mapping[str, Any] | None, *, length: int | None
) -> MotionConfig:
    """The motion modules of these shapes.

    Args:
      declared: the inference YAML's keys, nested under "unet_additional_kwargs" or flat.
      length: number of positions where it is not the stored tables' (MusePose).
    """
    declared = (declared or {}).get("unet_additional_kwargs", declared or {})
    kwargs = declared.get("motion_module_kwargs", {})
    _check_only(f"the motion config of {argument}", declared, ONLY_UNET_3D)
    _check_only(f"the motion config of {argument}", kwargs, ONLY_MOTION)
    stored = {shape[1] for key, shape in shapes.items() if key.endswith(".pos_encoder.pe")}
    if len(stored) > 1:
        raise ValueError(f"{argument}: position tables of {sorted(stored)} positions, expected one length for all")
    mid_block = any(key.startswith("mid_block.motion_modules.") for key in shapes)
    wanted = kwargs.get("temporal_position_encoding_max_len")
    found = length or (stored.pop() if stored else wanted or (32 if mid_block else None))
    if found is None:
        raise ValueError(
            f"{argument}: no position tables are stored, so AnimateDiff v1 (24 positions) cannot be told from v3 (32): "
            "give temporal_position_encoding_max_len in --motion-config"
        )
    _check_declared(argument, "motion config", {"temporal_position_encoding_max_len": found}, kwargs)
    _check_declared(argument, "motion config", {"motion_module_mid_block": mid_block}, declared)
    heads = _number(argument, "num_attention_heads", kwargs.get("num_attention_heads", 8))
    return MotionConfig(max_length=found, mid_block=mid_block, num_attention_heads=heads)


def pose_guider_config(argument: str, shapes: Shapes) -> PoseGuiderConfig:
    """The pose guider of these shapes."""
    if "conv_layers.0.weight" in shapes:
        normed = "conv_layers.1.running_mean" in shapes
        return PoseGuiderConfig(
            architecture="paper" if normed else "open",
            out_channels=_size(argument, shapes, "final_proj.weight", 0),
            input_range="symmetric",
        )
    widening = [f"blocks.{index}.weight" for index in range(1, _count(shapes, "blocks.{}.weight"), 2)]
    channels = (_size(argument, shapes, "conv_in.weight", 0), *(shapes[key][0] for key in widening))
    return PoseGuiderConfig(block_out_channels=channels, out_channels=_size(argument, shapes, "conv_out.weight", 0))


def vae_config(argument: str, shapes: Shapes, declared: Mapping[str, Any] | None) -> VAEConfig:
    """The autoencoder of these shapes; `declared` is diffusers' config.json."""
    levels = _count(shapes, "encoder.down_blocks.{}.resnets.0.conv1.weight")
    found: dict[str, Any] = {
        "in_channels": _size(argument, shapes, "encoder.conv_in.weight", 1),
        "out_channels": _size(argument, shapes, "decoder.conv_out.weight", 0),
        "latent_channels": _size(argument, shapes, "decoder.conv_in.weight", 1),
        "block_out_channels": tuple(
            shapes[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)
        ),
        "layers_per_block": _count(shapes, "encoder.down_blocks.0.resnets.{}.conv1.weight"),
    }
    if declared is None:
        _require_standard(
            argument, found["block_out_channels"], VAEConfig().block_out_channels, "the folder with its config.json"
        )
        return VAEConfig(**found)
    _check_only(f"the config.json of {argument}", declared, ONLY_VAE)
    _check_declared(argument, "config.json", found, declared)
    return VAEConfig(
        **found,
        norm_num_groups=declared.get("norm_num_groups", 32),
        scaling_factor=declared.get("scaling_factor", VAEConfig().scaling_factor),
    )


def clip_config(
    argument: str, shapes: Shapes, declared: Mapping[str, Any] | None, *, output: ClipOutput
) -> CLIPVisionConfig:
    """The image tower of these shapes; `declared` is transformers' config.json, of the tower or of a whole CLIP."""
    tower = "vision_model.encoder.layers.{}"
    patch = _size(argument, shapes, "vision_model.embeddings.patch_embedding.weight", 2)
    positions = _size(argument, shapes, "vision_model.embeddings.position_embedding.weight", 0)
    found: dict[str, Any] = {
        "hidden_size": _size(argument, shapes, "vision_model.embeddings.class_embedding", 0),
        "intermediate_size": _size(argument, shapes, tower.format(0) + ".mlp.fc1.weight", 0),
        "num_hidden_layers": _count(shapes, tower + ".mlp.fc1.weight"),
        "image_size": patch * math.isqrt(positions - 1),
        "patch_size": patch,
    }
    if output == "image_embeds":
        found["projection_dim"] = _size(argument, shapes, "visual_projection.weight", 0)
    width = found["hidden_size"]
    if declared is None:
        if width not in CLIP_HEADS:
            raise ValueError(
                f"{argument}: an image encoder of width {width} is not OpenAI's ViT-L or ViT-B: "
                "give the folder with its config.json"
            )
        return CLIPVisionConfig(**found, num_attention_heads=CLIP_HEADS[width], output=output)
    projection = {"projection_dim": declared["projection_dim"]} if "projection_dim" in declared else {}
    declared = {**declared.get("vision_config", declared), **projection}
    _check_declared(argument, "config.json", found, declared)
    activation = declared.get("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu"):
        raise ValueError(f"{argument}: config.json has hidden_act {activation!r}, expected quick_gelu or gelu")
    return CLIPVisionConfig(
        **found,
        num_attention_heads=declared.get("num_attention_heads", 12),  # transformers leaves out what is its default
        hidden_act=activation,
        layer_norm_eps=declared.get("layer_norm_eps", 1e-5),
        output=output,
    )


def describe_config(config: Any) -> str:
    """The detected variant in a few words, for the report."""
    channels = "-".join(map(str, getattr(config, "block_out_channels", ())))
    if isinstance(config, UNetConfig):
        size = (
            "SD-1.5"
            if dataclasses.replace(config, motion=None, group_norm_over_frames=False) == UNetConfig()
            else f"UNet {channels}"
        )
        motion = config.motion
        if motion is None:
            return size
        norms = ", norms over frames" if config.group_norm_over_frames else ""
        return f"{size}, {'mid block' if motion.mid_block else 'no mid block'}, {motion.max_length} positions{norms}"
    if isinstance(config, PoseGuiderConfig):
        return (
            f"{config.architecture} {channels if config.architecture == 'controlnet' else ''} -> {config.out_channels}"
        )
    if isinstance(config, VAEConfig):
        return f"AutoencoderKL {channels}"
    layers, patch = config.num_hidden_layers, config.patch_size
    return f"CLIP ViT width {config.hidden_size}, {layers} layers, patch {patch}, {config.output}"


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers from 0 on the pattern has keys for."""
    number = 0
    while pattern.format(number) in shapes:
        number += 1
    return number


def _size(argument: str, shapes: Shapes, key: str, axis: int) -> int:
    if key not in shapes or len(shapes[key]) <= axis:
        raise ValueError(f"{argument}: no {key} of a usable shape in it, so the size of the network is not known")
    return shapes[key][axis]


def _require_standard(argument: str, found: tuple[int, ...], standard: tuple[int, ...], remedy: str) -> None:
    if found != standard:
        raise ValueError(
            f"{argument}: channels {found} are not Stable Diffusion's {standard}, "
            f"and shapes do not tell heads and norm groups: give {remedy}"
        )


def _check_declared(argument: str, name: str, found: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    for key, value in found.items():
        said = declared.get(key, value)
        if (tuple(said) if isinstance(said, list) else said) != value:
            raise ValueError(f"{argument}: the {name} says {key} {said}, but the weights have {value}")


def _check_only(name: str, declared: Mapping[str, Any], only: Mapping[str, Any]) -> None:
    for key, value in only.items():
        if declared.get(key, value) != value:
            raise ValueError(f"{name} has {key} {declared[key]!r}, which is not supported: expected {value!r}")


def _number(argument: str, name: str, value: Any) -> int:
    """One number for all levels."""
    values = set(value) if isinstance(value, list) else {value}
    if len(values) != 1 or not all(isinstance(item, int) for item in values):
        raise ValueError(f"{argument}: {name} is {value!r}, expected one whole number for all levels")
    return values.pop()
