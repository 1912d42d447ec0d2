"""PyTorch's networks against the converted ones, on random input.

The PyTorch side gets the files' tensors under their own names, so that naming, layout and hyper-parameters are all put
to the test.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aa_jax.models.config import PoseGuiderConfig, UNetConfig, needed
from aa_jax.weights import build_network, open_tensors
from tools.convert_weights.convert import Conversion
from tools.convert_weights.detect import MOTION
from tools.convert_weights.export import declared_config
from tools.convert_weights.naming import torch_key
from tools.convert_weights.parts import Part

TOLERANCE = 1e-3
# Names of the temporal layers in diffusers' UNetMotionModel.
MOTION_NAMES = (
    (".temporal_transformer.", "."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
    (".attn1.pos_encoder.pe", ".pos_embed.pe"),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
)
Pairs = list[tuple[np.ndarray, np.ndarray]]


def import_oracles() -> None:
    """Raise ModuleNotFoundError in one line where PyTorch's side is missing."""
    for name in ("torch", "diffusers", "transformers"):
        try:
            __import__(name)
        except ImportError as error:
            raise ModuleNotFoundError(f"--verify needs {name}: pip install torch diffusers transformers") from error


def verify(folder: Path, conversion: Conversion) -> dict[str, Any]:
    """Run every network that has a counterpart, print and return the worst relative error of each.

    Args:
      folder: the written model folder.

    Raises:
      ValueError: an error is above `TOLERANCE`.
    """
    checks: dict[str, Callable[[Any, Mapping[str, Any]], Pairs]] = {
        "denoising_unet": _denoising_unet,
        "unet": _denoising_unet,
        "reference_unet": _reference_unet,
        "pose_guider": _pose_guider,
        "vae": _vae,
        "image_encoder": _image_encoder,
    }
    results: dict[str, Any] = {}
    for name, parts in conversion.parts.items():
        if name not in checks:
            results[name] = None
            print(f"verify: {name}: not verified, its layers alone have no public counterpart")
            continue
        config = getattr(conversion.config, name)
        if isinstance(config, UNetConfig):
            # diffusers' norms are per frame. Which axes they take is no matter of weights.
            config = dataclasses.replace(config, group_norm_over_frames=False)
        network = build_network(name, config, open_tensors(folder, name), dtype=jnp.float32)
        state = _torch_state(parts, {torch_key(key): tensor for key, tensor in conversion.networks[name].items()})
        results[name] = max(_relative_error(ours, theirs) for ours, theirs in checks[name]((config, network), state))
        print(f"verify: {name}: worst relative error {results[name]:.1e}")
        del network, state
    wrong = [f"{name} {error:.1e}" for name, error in results.items() if error is not None and not error <= TOLERANCE]
    if wrong:
        raise ValueError(f"verification failed, relative error above {TOLERANCE}: {', '.join(wrong)}")
    return results


def _torch_state(parts: Sequence[Part], converted: Mapping[str, Any]) -> dict[str, Any]:
    """The files' tensors in float32, rounded to the dtype they were converted to; position tables as converted."""
    import torch

    state = {}
    for part in reversed(parts):
        for current, tensor in part.tensors.items():
            rounded = np.asarray(tensor).astype(converted[current].dtype).astype(np.float32)
            state[current] = torch.from_numpy(
                rounded.reshape(rounded.shape[:2]) if ".mid_block.attentions.0.to_" in current else rounded
            )
    tables = {current: tensor for current, tensor in converted.items() if current.endswith(".pe")}
    return state | {current: torch.from_numpy(np.array(tensor, np.float32)) for current, tensor in tables.items()}


def _relative_error(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _tensor(array: np.ndarray, axes: tuple[int, ...]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array.transpose(axes)))


def _run(network: nnx.Module, function: Callable[..., Any], *inputs: Any) -> Any:
    graphdef, state = nnx.split(network)
    return jax.jit(lambda state, *inputs: function(nnx.merge(graphdef, state), *inputs))(state, *inputs)


def _fill(model: Any, state: Mapping[str, Any]) -> Any:
    """A PyTorch module with exactly these tensors; its own random ones were never made."""
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def _empty(make: Callable[[], Any]) -> Any:
    import torch

    with torch.device("meta"):
        return make()


def _denoising_unet(built: tuple[UNetConfig, nnx.Module], state: Mapping[str, Any]) -> Pairs:
    import torch
    from diffusers import UNet2DConditionModel

    config, network = built
    size = 2 * 2 ** len(config.block_out_channels)
    frames = 3 if config.motion else 1
    sample, context = _noise(1, frames, size, size, config.in_channels), _noise(1, 3, config.cross_attention_dim)
    timestep = 321
    with torch.no_grad():
        if config.motion is None:
            model = _fill(_empty(lambda: UNet2DConditionModel(**_declared(config))), state)
            theirs = model(_tensor(sample[:, 0], (0, 3, 1, 2)), timestep, torch.from_numpy(context)).sample[:, :, None]
        else:
            tokens = torch.from_numpy(context).repeat(frames, 1, 1)
            theirs = motion_unet(config, state)(_tensor(sample, (0, 4, 1, 2, 3)), timestep, tokens).sample

    def forward(network: Any, sample: Any, context: Any) -> Any:
        return network(sample, network.embed_time(jnp.array([float(timestep)])), network.condition(context))

    return [(_run(network, forward, sample, context), theirs.numpy().transpose(0, 2, 3, 4, 1))]


def motion_unet(config: UNetConfig, state: Mapping[str, Any]) -> Any:
    """diffusers' UNetMotionModel with a denoising UNet's tensors, named as in Moore-AnimateAnyone's files."""
    from diffusers import UNetMotionModel
    from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

    motion = needed(config.motion, "temporal layers")
    declared = _declared(config)
    declared["num_attention_heads"] = declared.pop("attention_head_dim")
    for side in ("down_block_types", "up_block_types"):
        declared[side] = [name.replace("2D", "Motion") for name in declared[side]]
    make = functools.partial(
        UNetMotionModel,
        **declared,
        motion_max_seq_length=motion.max_length,
        motion_num_attention_heads=motion.num_attention_heads,
        use_motion_mid_block=motion.mid_block,
    )
    # One table serves both attentions there.
    second_table = ".attention_blocks.1.pos_encoder.pe"
    named = {_motion_name(key): value for key, value in state.items() if not key.endswith(second_table)}
    model = _fill(_empty(make), named)
    for module in model.modules():
        if isinstance(module, AnimateDiffTransformer3D):
            _norm_each_frame(module.norm, motion.norm_num_groups)
    return model


def _declared(config: UNetConfig) -> dict[str, Any]:
    return {key: value for key, value in declared_config(config).items() if not key.startswith("_")}


def _norm_each_frame(norm: Any, groups: int) -> None:
    """AnimateDiff's norm of temporal layers is frame by frame; diffusers has it over all frames, in other groups."""
    original = norm.forward
    norm.num_groups = groups
    norm.forward = lambda x: original(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)


def _motion_name(key: str) -> str:
    if MOTION in key:
        for ours, theirs in MOTION_NAMES:
            key = key.replace(ours, theirs)
    return key


def _reference_unet(built: tuple[UNetConfig, nnx.Module], state: Mapping[str, Any]) -> Pairs:
    import torch
    from diffusers import UNet2DConditionModel

    config, network = built
    size = 2 * 2 ** len(config.block_out_channels)
    latents, context = _noise(1, size, size, config.in_channels), _noise(1, 1, config.cross_attention_dim)
    model = _empty(
        lambda: UNet2DConditionModel(**{k: v for k, v in declared_config(config).items() if not k.startswith("_")})
    )
    # The last layers, and with some files what follows the last site's norm, are not there and have no influence.
    absent = {key: torch.zeros(tensor.shape) for key, tensor in model.state_dict().items() if key not in state}
    model = _fill(model, {**absent, **state})
    theirs: dict[str, Any] = {}
    for name, module in model.named_modules():
        if name.endswith(".transformer_blocks.0.norm1"):
            site = name.removesuffix(".transformer_blocks.0.norm1")
            module.register_forward_hook(lambda _module, _inputs, output, site=site: theirs.__setitem__(site, output))
    with torch.no_grad():
        model(_tensor(latents, (0, 3, 1, 2)), 0, torch.from_numpy(context))
    ours = _run(network, lambda network, *inputs: network(*inputs), latents, context)
    return [(ours[site], theirs[site].numpy()) for site in ours]


def _pose_guider(built: tuple[Any, nnx.Module], state: Mapping[str, Any]) -> Pairs:
    import torch

    config, network = built
    images = _noise(2, 32, 24, 3)
    with torch.no_grad():
        theirs = pose_guider_in_pytorch(config, state, _tensor(images, (0, 3, 1, 2)))
    return [(_run(network, lambda network, images: network(images), images), theirs.numpy().transpose(0, 2, 3, 1))]


def pose_guider_in_pytorch(config: PoseGuiderConfig, state: Mapping[str, Any], images: Any) -> Any:
    """The published pose guiders on images (b, c, h, w), restated: no library has them."""
    from torch.nn import functional

    def conv(x: Any, name: str, **options: int) -> Any:
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    numbered = (key for key, value in state.items() if key.startswith(("blocks.", "conv_layers.")) and value.ndim == 4)
    layers = sorted((key.removesuffix(".weight") for key in numbered), key=_number)
    if config.architecture == "controlnet":
        x = functional.silu(conv(images, "conv_in", padding=1))
        for index, name in enumerate(layers):
            x = functional.silu(conv(x, name, stride=1 + index % 2, padding=1))
        return conv(x, "conv_out", padding=1)
    x = images
    for name in layers:
        x = conv(x, name, stride=2 if state[f"{name}.weight"].shape[-1] == 4 else 1, padding=1)
        if config.architecture == "paper":
            norm = f"conv_layers.{_number(name) + 1}."
            parameters = (state[norm + leaf] for leaf in ("running_mean", "running_var", "weight", "bias"))
            x = functional.relu(functional.batch_norm(x, *parameters))
        else:
            x = functional.silu(x)
    return conv(x, "final_proj") * state["scale"]


def _number(name: str) -> int:
    return int(name.split(".")[1])


def _vae(built: tuple[Any, nnx.Module], state: Mapping[str, Any]) -> Pairs:
    import torch
    from diffusers import AutoencoderKL

    config, network = built
    declared = {key: value for key, value in declared_config(config).items() if not key.startswith("_")}
    model = _fill(_empty(lambda: AutoencoderKL(**declared)), state)
    images = np.clip(_noise(1, 64, 48, config.in_channels), -1, 1)
    latents = _noise(1, 8, 6, config.latent_channels)
    with torch.no_grad():
        mean = model.encode(_tensor(images, (0, 3, 1, 2))).latent_dist.mean
        decoded = model.decode(_tensor(latents, (0, 3, 1, 2))).sample
    encode, decode = _run(
        network,
        lambda network, images, latents: (network.encode(images).mean, network.decode(latents)),
        images,
        latents,
    )
    return [(encode, mean.numpy().transpose(0, 2, 3, 1)), (decode, decoded.numpy().transpose(0, 2, 3, 1))]


def _image_encoder(built: tuple[Any, nnx.Module], state: Mapping[str, Any]) -> Pairs:
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config, network = built
    declared = CLIPVisionConfig(
        **{key: value for key, value in declared_config(config).items() if key != "architectures"}
    )
    model = CLIPVisionModelWithProjection(declared)
    projected = config.output == "image_embeds"
    identity = {} if projected else {"visual_projection.weight": torch.zeros(config.projection_dim, config.hidden_size)}
    model = _fill(model, {**identity, **state})
    pixels = _noise(1, config.image_size, config.image_size, 3)
    with torch.no_grad():
        outputs = model.vision_model(_tensor(pixels, (0, 3, 1, 2))).pooler_output
        outputs = model.visual_projection(outputs) if projected else outputs
    return [(_run(network, lambda network, pixels: network(pixels), pixels), outputs.numpy())]
