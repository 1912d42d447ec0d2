"""Sources to networks: every key of a file is used once, every parameter is filled, or an error lists both sides."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aa_jax.config import Family, ModelConfig
from aa_jax.models.config import MotionConfig, UNetConfig
from aa_jax.models.temporal import position_table
from aa_jax.network_tensors import listing
from aa_jax.tensor_file import LazyArray, Tensor
from aa_jax.weights import cast_dtype, expected_tensors
from tools.convert_weights import detect, families
from tools.convert_weights.families import FAMILIES, System
from tools.convert_weights.naming import from_torch, torch_key, torch_shape
from tools.convert_weights.parts import Part, open_checkpoint, open_part
from tools.convert_weights.sources import Source

# What follows a ReferenceNet's last feature, which nobody reads: Open-AnimateAnyone's file does not have it.
DEAD_REFERENCE = "up_blocks.{last}.attentions.{index}."
ALIVE_REFERENCE = ("norm.", "proj_in.", "transformer_blocks.0.norm1.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
    """Networks ready to be written, and where each came from.

    Attributes:
      networks: name to the tensors of a model folder.
      parts: name to the sources' shares.
      kept: further arrays for the way back.
      filled: name to a note on parameters that no file holds.
    """

    config: ModelConfig
    networks: Mapping[str, Mapping[str, LazyArray]]
    parts: Mapping[str, Sequence[Part]]
    kept: Mapping[str, LazyArray]
    filled: Mapping[str, str]


def convert(
    family: Family,
    sources: Mapping[str, Source],
    *,
    unet_declared: Mapping[str, Any] | None = None,
    motion_declared: Mapping[str, Any] | None = None,
    image_only: bool = False,
    dtype: Any = None,
) -> Conversion:
    """Detect, match and check; nothing is read beyond names and shapes until the tensors are written.

    Args:
      sources: by command-line argument ("reference_unet", ..., "checkpoint").
      unet_declared: diffusers' config.json of the UNets, for other sizes than SD-1.5's.
      motion_declared: the inference YAML's keys.
      image_only: the denoising UNet has no motion modules.
      dtype: of the weights (norms and position tables then become float32), None for the sources'.

    Raises:
      ValueError: what is wrong with a file, in one line.
    """
    system = FAMILIES[family]
    parts: dict[str, list[Part]] = {}
    for role, source in sources.items():
        if role == "checkpoint":
            parts |= {name: [part] for name, part in open_checkpoint(source).items()}
        else:
            unprojected = role == "image_encoder" and system.clip_output == "pooler_output"
            parts[role] = [open_part(source, also_ignored=r"visual_projection\.weight$" if unprojected else None)]
    if "denoising_unet" in parts:
        parts["denoising_unet"] += parts.pop("motion_module", [])
    configs = {
        name: _network_config(name, family, found, unet_declared, motion_declared, image_only)
        for name, found in parts.items()
    }
    motion = (configs.get("denoising_unet") or configs.get("motion_module") or UNetConfig()).motion
    config = ModelConfig(
        family=family,
        **configs,
        schedule=families.schedule(family, motion, motion_declared),
        inference=families.inference(family, motion),
    )
    networks: dict[str, dict[str, LazyArray]] = {}
    kept: dict[str, LazyArray] = {}
    filled: dict[str, str] = {}
    for name, found in parts.items():
        networks[name], network_kept, filled[name] = _match(name, configs[name], found, system)
        networks[name] = {key: _cast(key, networks[name], dtype) for key in networks[name]}
        kept |= network_kept
    return Conversion(
        config=config,
        networks=networks,
        parts=parts,
        kept=kept,
        filled={name: note for name, note in filled.items() if note},
    )


def _network_config(
    name: str, family: str, parts: Sequence[Part], unet_declared: Any, motion_declared: Any, image_only: bool
) -> Any:
    part, argument = parts[0], parts[0].source.argument
    shapes = {key: shape for each in reversed(parts) for key, shape in each.shapes.items()}
    declared = part.source.config
    if name == "pose_guider":
        guider = detect.pose_guider_config(argument, shapes)
        if (guider.architecture == "controlnet") == (family == "open"):
            raise ValueError(
                f"{argument}: this looks like {detect.describe(part.tensors)}, which {family} does not have"
            )
        return guider
    if name == "vae":
        return detect.vae_config(argument, shapes, declared)
    if name == "image_encoder":
        return detect.clip_config(argument, shapes, declared, output=FAMILIES[family].clip_output)
    declared = unet_declared or declared
    if name == "motion_module":
        config = detect.motion_only_config(argument, shapes, declared)
    else:
        config = detect.unet_config(argument, shapes, declared)
    if name in ("reference_unet", "unet"):
        return config
    motion = _motion_config(family, argument, shapes, motion_declared, image_only)
    over_frames = families.group_norm_over_frames(family, motion, motion_declared)
    return dataclasses.replace(config, motion=motion, group_norm_over_frames=over_frames)


def _motion_config(
    family: str, argument: str, shapes: detect.Shapes, declared: Any, image_only: bool
) -> MotionConfig | None:
    motion = {key: shape for key, shape in shapes.items() if detect.MOTION in key}
    if motion and image_only:
        raise ValueError(
            f"{argument}: --image-only was given, but there are motion modules ({len(motion)} tensors): leave it out"
        )
    if motion:
        return detect.motion_config(argument, motion, declared, length=FAMILIES[family].pe_length)
    if not image_only:
        raise ValueError(
            f"{argument} has no motion modules: give --motion-module (without them frames flicker), "
            "or --image-only for single images"
        )
    return None


def _match(
    name: str, config: Any, parts: Sequence[Part], system: System
) -> tuple[dict[str, LazyArray], dict[str, LazyArray], str]:
    """Tensors for every parameter of the network, arrays to keep, and a note on what no file holds."""
    expected = expected_tensors(name, config)
    wanted = {torch_key(key): key for key in expected}
    given: dict[str, LazyArray] = {}
    kept = {f"{part.source.role}/{key}": tensor for part in parts for key, tensor in part.kept.items()}
    for part in parts:
        for current, tensor in part.tensors.items():
            if current in given:
                _check_equal(current, given[current], tensor, parts)
            elif current.endswith(".pos_encoder.pe") and system.pe_length is not None:
                kept[f"{part.source.role}/{part.names[current]}"] = tensor
            else:
                given[current] = tensor
    missing = [current for current in wanted if current not in given]
    extra = [current for current in given if current not in wanted]
    filled = {
        current: fill
        for current in missing
        if (fill := _fill(current, name, expected[wanted[current]].shape, config, system))
    }
    missing = [current for current in missing if current not in filled]
    wrong = []
    for current, tensor in given.items():
        want = torch_shape(wanted[current], expected[wanted[current]].shape) if current in wanted else tensor.shape
        if tensor.shape != want and not _is_flat_convolution(current, tensor.shape, want):
            wrong.append(f"{current} {tensor.shape} instead of {want}")
    faults = [("missing", missing), ("not known", extra), ("of another shape", wrong)]
    found = [f"{len(items)} {fault}: {listing(items)}" for fault, items in faults if items]
    if found:
        arguments = " with ".join(part.source.argument for part in parts)
        raise ValueError(f"{arguments} does not fit a {name} ({detect.describe_config(config)}): {'; '.join(found)}")
    tensors = {
        key: _to_layout(key, given[current], expected[key].shape) for current, key in wanted.items() if current in given
    }
    tensors |= {wanted[current]: fill for current, fill in filled.items()}
    return {key: tensors[key] for key in expected}, kept, _note(filled)


def _to_layout(key: str, tensor: LazyArray, shape: tuple[int, ...]) -> LazyArray:
    return tensor.map(lambda array: from_torch(key, array.reshape(torch_shape(key, shape))), shape=shape)


def _cast(key: str, tensors: Mapping[str, LazyArray], dtype: Any) -> LazyArray:
    wanted = cast_dtype(key, tensors, dtype)
    if wanted == tensors[key].dtype:
        return tensors[key]
    return tensors[key].map(lambda array: array.astype(wanted), dtype=wanted)


def _is_flat_convolution(current: str, got: tuple[int, ...], want: tuple[int, ...]) -> bool:
    """A linear layer of the autoencoder's attention, stored as a 1x1 convolution as the original files do."""
    return ".mid_block.attentions." in current and got == (*want, 1, 1)


def _fill(current: str, name: str, shape: tuple[int, ...], config: Any, system: System) -> LazyArray | None:
    """A parameter that no file need hold: position tables follow from a formula, and dead parameters are zero."""
    float32 = np.dtype(np.float32)
    if current.endswith(".pos_encoder.pe"):
        return LazyArray(shape, float32, lambda: position_table(shape[1], shape[2]))
    if name == "reference_unet" and system.dead_reference and is_dead_reference(current, config):
        return LazyArray(shape, float32, lambda: np.zeros(shape, np.float32))
    return None


def is_dead_reference(current: str, config: UNetConfig) -> bool:
    """Whether a ReferenceNet's parameter comes after its last feature."""
    last = DEAD_REFERENCE.format(last=len(config.block_out_channels) - 1, index=config.layers_per_block)
    return current.startswith(last) and not current.removeprefix(last).startswith(ALIVE_REFERENCE)


def _note(filled: Mapping[str, Any]) -> str:
    tables = sum(current.endswith(".pos_encoder.pe") for current in filled)
    notes = [f"{tables} position tables computed"] if tables else []
    if len(filled) > tables:
        notes.append(f"{len(filled) - tables} parameters without influence set to zero")
    return ", ".join(notes)


def _check_equal(current: str, one: Tensor, other: Tensor, parts: Sequence[Part]) -> None:
    if one.shape != other.shape or one.dtype != other.dtype or np.asarray(one).tobytes() != np.asarray(other).tobytes():
        arguments = " and ".join(part.source.argument for part in parts)
        raise ValueError(
            f"{arguments} both have {current}, with different values: leave out the motion module that is not wanted"
        )
