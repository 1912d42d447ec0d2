"""Model folders back to the files of a published system: names, dtypes and bits as they came, or by the system's rules
for weights trained here."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from aa_jax.atomic import new_folder
from aa_jax.config import ModelConfig
from aa_jax.models.config import CLIPVisionConfig, UNetConfig, VAEConfig
from aa_jax.tensor_file import LazyArray, read_tensors, write_tensors
from aa_jax.weights import load_config, load_manifest, open_tensors
from tools.convert_weights.convert import is_dead_reference
from tools.convert_weights.detect import MOTION
from tools.convert_weights.facts import KEPT_FILE
from tools.convert_weights.families import FAMILIES
from tools.convert_weights.naming import to_torch, torch_key, torch_shape
from tools.convert_weights.sources import TORCH_SUFFIXES, Format, import_torch

NEEDED = {"sd": ("unet",), "animatediff": ("motion_module",)}
FOLDER_FILE = {"image_encoder": "pytorch_model.bin"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFile:
    """One file to write.

    Attributes:
      path: below the output folder.
      tensors: in PyTorch's layout, under the names that the file is to have.
      wrapper: entry to put the tensors under; `others` are further entries beside it ("") and among the tensors
        ("weights").
      config: the config.json to write beside it.
      not_kept: what the original had and this file has not.
    """

    path: Path
    format: Format
    tensors: Mapping[str, LazyArray]
    wrapper: str | None = None
    others: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    not_kept: Sequence[str] = ()


def export(
    model: Path, family: str, output: Path, format: Literal["pth", "safetensors"] | None = None
) -> list[ExportFile]:
    """Write the files of `family` below `output`, which must not exist or be empty.

    Args:
      format: of the files; None for that of the originals, or PyTorch's.

    Raises:
      ValueError: the model lacks what the family needs, or `output` has something in it.
    """
    config, manifest = load_config(model), load_manifest(model)
    tensors = {name: open_tensors(model, name) for name in config.networks}
    if config.family == family and "sources" in manifest:
        kept = read_tensors(model / KEPT_FILE) if (model / KEPT_FILE).exists() else {}
        files = _original_files(manifest["sources"], {**tensors, "source": kept})
    else:
        files = _files_by_rule(config, tensors, family)
    files = [_in_format(file, format) for file in files]
    with new_folder(output) as partial:
        for file in files:
            _write(partial, file)
        _write_indices(partial, files)
    return files


def _original_files(
    sources: Sequence[Mapping[str, Any]], tensors: Mapping[str, Mapping[str, LazyArray]]
) -> list[ExportFile]:
    """The files as the manifest remembers them."""
    names = [source["file"] for source in sources]
    files = []
    for source in sources:
        # Two files of one name, from different folders, cannot both have it here.
        plain = source["file"] if names.count(source["file"]) == 1 else source["role"] + Path(source["file"]).suffix
        for shard, places in source["shards"].items():
            files.append(
                ExportFile(
                    path=Path(source["role"], shard) if source["folder"] else Path(plain),
                    format=source["format"],
                    tensors={key: _original(key, place, source, tensors) for key, place in places.items()},
                    wrapper=source["wrapper"],
                    others=source["others"],
                    metadata=source["metadata"],
                    config=source["config"],
                    not_kept=source["not_kept"],
                )
            )
    return files


def _original(
    key: str, place: str, source: Mapping[str, Any], tensors: Mapping[str, Mapping[str, LazyArray]]
) -> LazyArray:
    network, _, name = place.partition("/")
    dtype = np.dtype(source["dtypes"].get(key, source["dtype"]))
    if network == "source":
        return tensors["source"][name]
    array = _in_torch_layout(name, tensors[network][name], dtype)
    shape = tuple(source["shapes"].get(key, array.shape))
    return array.map(lambda values: values.reshape(shape), shape=shape)


def _in_torch_layout(key: str, tensor: LazyArray, dtype: np.dtype | None = None) -> LazyArray:
    dtype = dtype or tensor.dtype
    return tensor.map(
        lambda array: to_torch(key, array).astype(dtype), shape=torch_shape(key, tensor.shape), dtype=dtype
    )


def _files_by_rule(
    config: ModelConfig, tensors: Mapping[str, Mapping[str, LazyArray]], family: str
) -> list[ExportFile]:
    """The files that the family's own code would have written."""
    system = FAMILIES[family]
    found = dict(tensors)
    if "denoising_unet" in found:
        both = found.pop("denoising_unet")
        found["denoising_unet"] = {key: tensor for key, tensor in both.items() if MOTION not in key}
        if motion := {key: tensor for key, tensor in both.items() if MOTION in key}:
            found["motion_module"] = motion
    missing = [
        name for name in NEEDED.get(family, ("reference_unet", "denoising_unet", "pose_guider")) if name not in found
    ]
    if missing:
        raise ValueError(
            f"the model has no {' and no '.join(missing)}, which {family} needs; it has {', '.join(config.networks)}"
        )
    guider = config.pose_guider
    if guider and "pose_guider" in system.files and (guider.architecture == "controlnet") == (family == "open"):
        raise ValueError(
            f"the model's pose guider is of the kind {guider.architecture!r}, which {family} does not have"
        )
    files = []
    for role, name in system.files.items():
        if role not in found:
            continue
        named = {torch_key(key): _in_torch_layout(key, tensor) for key, tensor in found[role].items()}
        if role == "reference_unet" and system.dead_reference and config.reference_unet:
            named = {key: tensor for key, tensor in named.items() if not is_dead_reference(key, config.reference_unet)}
        if role == "pose_guider" and guider and guider.architecture == "paper":
            norms = [key.removesuffix("running_mean") for key in named if key.endswith(".running_mean")]
            named |= {
                f"{norm}num_batches_tracked": LazyArray((), np.dtype(np.int64), lambda: np.zeros((), np.int64))
                for norm in norms
            }
        folder = name.endswith("/")
        path = Path(name, FOLDER_FILE.get(role, "diffusion_pytorch_model.bin")) if folder else Path(name)
        declared = declared_config(getattr(config, role)) if folder else None
        files.append(ExportFile(path=path, format="torch", tensors=named, config=declared))
    return files


def declared_config(config: UNetConfig | VAEConfig | CLIPVisionConfig) -> dict[str, Any]:
    """The config.json that diffusers or transformers would have written."""
    fields = {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()
    }
    if isinstance(config, VAEConfig):
        levels = len(config.block_out_channels)
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
        return {"_class_name": "AutoencoderKL", "act_fn": "silu", **blocks, **fields}
    if isinstance(config, CLIPVisionConfig):
        output = fields.pop("output")
        name = "CLIPVisionModelWithProjection" if output == "image_embeds" else "CLIPVisionModel"
        return {"architectures": [name], "model_type": "clip_vision_model", **fields}
    kept = (
        "in_channels",
        "out_channels",
        "block_out_channels",
        "layers_per_block",
        "cross_attention_dim",
        "norm_num_groups",
    )
    down = ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in config.attention_levels]
    up = ["CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(config.attention_levels)]
    return {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": config.num_attention_heads,
        "down_block_types": down,
        "up_block_types": up,
        **{key: fields[key] for key in kept},
    }


def _in_format(file: ExportFile, format: Literal["pth", "safetensors"] | None) -> ExportFile:
    if format is None or (format == "safetensors") == (file.format == "safetensors"):
        return file
    if format == "safetensors":
        name = "model.safetensors" if file.path.name == "pytorch_model.bin" else file.path.stem + ".safetensors"
        path = file.path.with_name(name)
        return dataclasses.replace(
            file, path=path, format="safetensors", wrapper=None, others={}, metadata={"format": "pt"}
        )
    name = (
        "pytorch_model.bin"
        if file.path.name == "model.safetensors"
        else file.path.stem + (".bin" if file.config else ".pth")
    )
    return dataclasses.replace(file, path=file.path.with_name(name), format="torch", metadata={})


def _write(output: Path, file: ExportFile) -> None:
    path = output / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.config is not None:
        (path.parent / "config.json").write_text(json.dumps(file.config, indent=2) + "\n")
    if file.format == "safetensors":
        write_tensors(path, file.tensors, file.metadata)
        return
    torch = import_torch()
    data: dict[str, Any] = {key: _torch_tensor(torch, tensor.read()) for key, tensor in file.tensors.items()}
    data |= file.others.get("weights", {})
    if file.wrapper is not None:
        data = {**file.others.get("", {}), file.wrapper: data}
    try:
        torch.save(data, path, _use_new_zipfile_serialization=file.format == "torch")
    except RuntimeError as error:  # its own writer reports a full disk so
        raise OSError(f"{file.path} could not be written: {str(error).splitlines()[0]}") from error


def _torch_tensor(torch: Any, array: np.ndarray) -> Any:
    array = np.array(array, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _write_indices(output: Path, files: Sequence[ExportFile]) -> None:
    """The index file of each folder that has its weights in several files."""
    folders = {file.path.parent for file in files if file.path.parent != Path()}
    for folder in folders:
        shards = [file for file in files if file.path.parent == folder]
        if len(shards) > 1:
            name = shards[0].path.name
            stem = name.split("-0")[0] + (".bin" if Path(name).suffix in TORCH_SUFFIXES else ".safetensors")
            weight_map = {key: file.path.name for file in shards for key in file.tensors}
            size = sum(
                int(np.prod(tensor.shape)) * tensor.dtype.itemsize
                for file in shards
                for tensor in file.tensors.values()
            )
            index = {"metadata": {"total_size": size}, "weight_map": weight_map}
            (output / folder / f"{stem}.index.json").write_text(json.dumps(index, indent=2) + "\n")
