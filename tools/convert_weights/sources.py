"""Weight files as lazy arrays: `.pth`, `.pt`, `.bin`, `.ckpt` (no code in them is ever run), `.safetensors`, and
folders of these."""

import dataclasses
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from aa_jax.tensor_file import LazyArray, read_metadata, read_tensors

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
# In the order in which diffusers and transformers look for them.
FOLDER_FILES = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
)
# Entries that hold the weights where a file holds more than them; the second is Open-AnimateAnyone's training
# checkpoint.
WRAPPERS = {
    "denoising_unet": ("state_dict", "unet_state_dict"),
    "motion_module": ("state_dict", "unet_state_dict"),
    "reference_unet": ("state_dict", "referencenet_state_dict"),
    "pose_guider": ("state_dict", "poseguider_state_dict"),
}
PARALLEL_PREFIX = "module."
Format = Literal["torch", "torch_legacy", "safetensors"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The weights that one command-line argument names.

    Attributes:
      role: the argument: "reference_unet", "vae", "checkpoint", ...
      path: file or folder.
      format: of the files.
      shards: file name to the keys in it, in the file's order; several for a sharded folder.
      tensors: key as in the file to the array.
      wrapper: entry of the file that holds the tensors, None where they are on top.
      others: the file's other entries that JSON can hold, under "" those beside the wrapper, under "weights" those
        among the tensors.
      dropped: names of entries that JSON cannot hold.
      metadata: free text of a safetensors file.
      config: the folder's config.json.
    """

    role: str
    path: Path
    format: Format
    shards: Mapping[str, list[str]]
    tensors: Mapping[str, LazyArray]
    wrapper: str | None = None
    others: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] | None = None

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @property
    def argument(self) -> str:
        """For errors: the argument as it was given."""
        return f"--{self.role.replace('_', '-')} {self.path}"

    @property
    def prefix(self) -> str:
        """What data-parallel training puts before every key."""
        return PARALLEL_PREFIX if self.tensors and all(key.startswith(PARALLEL_PREFIX) for key in self.tensors) else ""


def open_source(role: str, path: Path) -> Source:
    """Open a file, or a folder of config.json and weights.

    Raises:
      FileNotFoundError: it is not there, or the folder has no weights.
      ValueError: it is cut short, holds code, or no weights; one line that says which.
    """
    argument = f"--{role.replace('_', '-')} {path}"
    if not path.exists():
        raise FileNotFoundError(f"{argument}: no such file or folder")
    if not path.is_dir():
        return _open_file(role, path, argument)

    config = read_json(path / "config.json") if (path / "config.json").is_file() else None
    for name in FOLDER_FILES:
        if (path / name).is_file():
            found = _open_file(role, path / name, argument)
            return dataclasses.replace(found, path=path, config=config)
        if (path / f"{name}.index.json").is_file():
            return _open_shards(role, path, f"{name}.index.json", config, argument)
    raise FileNotFoundError(f"{argument}: the folder has none of {', '.join(FOLDER_FILES)}")


def read_json(path: Path) -> Any:
    """A JSON file; ValueError in one line where it is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from error


def read_object(path: Path | None) -> dict[str, Any] | None:
    """A config file given on the command line, or the config.json of a folder."""
    if path is None:
        return None
    data = read_json(path / "config.json" if path.is_dir() else path)
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a {type(data).__name__}, expected a JSON object")
    return data


def _open_file(role: str, path: Path, argument: str) -> Source:
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{argument}: files ending in {path.suffix or 'nothing'} are not read, expected {', '.join(SUFFIXES)}"
        )
    if path.suffix == ".safetensors":
        tensors = read_tensors(path)
        return Source(
            role=role,
            path=path,
            format="safetensors",
            tensors=tensors,
            shards={path.name: list(tensors)},
            metadata=read_metadata(path),
        )
    data, format = _load_torch(path, argument)
    wrapper, others = None, {}
    if isinstance(data, dict):
        wrapper = next((key for key in WRAPPERS.get(role, ("state_dict",)) if isinstance(data.get(key), dict)), None)
        others = {"": {key: value for key, value in data.items() if wrapper and key != wrapper}}
        data = data if wrapper is None else data[wrapper]
    if not isinstance(data, dict) or not any(map(_is_tensor, data.values())):
        held = (
            f"entries {', '.join(map(str, list(data)[:8]))}" if isinstance(data, dict) else f"a {type(data).__name__}"
        )
        raise ValueError(f"{argument}: expected named tensors, but the file holds {held}")
    others["weights"] = {key: value for key, value in data.items() if not _is_tensor(value)}
    kept = {
        where: {key: value for key, value in entries.items() if _is_plain(value)} for where, entries in others.items()
    }
    return Source(
        role=role,
        path=path,
        format=format,
        tensors={key: _lazy(key, value, argument) for key, value in data.items() if _is_tensor(value)},
        shards={path.name: [key for key, value in data.items() if _is_tensor(value)]},
        wrapper=wrapper,
        others={where: entries for where, entries in kept.items() if entries},
        dropped=tuple(key for where, entries in others.items() for key in entries if key not in kept[where]),
    )


def _open_shards(role: str, path: Path, index_name: str, config: Any, argument: str) -> Source:
    index = read_json(path / index_name)
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        raise ValueError(f"{path / index_name} has no weight_map: it is no index of sharded weights")
    weight_map = index["weight_map"]
    tensors: dict[str, LazyArray] = {}
    shards: dict[str, list[str]] = {}
    format: Format = "torch"
    for name in sorted(set(weight_map.values())):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{argument}: {name}, which {index_name} lists, is missing")
        shard = _open_file(role, path / name, argument)
        tensors |= shard.tensors
        shards[name], format = list(shard.tensors), shard.format
    if set(tensors) != set(weight_map):
        wrong = sorted(set(tensors) ^ set(weight_map))
        raise ValueError(f"{argument}: the shards and {index_name} differ in {len(wrong)} keys: {', '.join(wrong[:8])}")
    return Source(role=role, path=path, format=format, tensors=tensors, shards=shards, config=config)


def _load_torch(path: Path, argument: str) -> tuple[Any, Format]:
    """What a PyTorch file holds; tensors of the newer (zip) format stay on disk until they are used."""
    torch = import_torch()
    zipped = zipfile.is_zipfile(path)
    with open(path, "rb") as file:
        start = file.read(4)
    if not start or start == b"PK\x03\x04" and not zipped:
        raise ValueError(f"{argument}: the file is cut short ({path.stat().st_size} bytes): download it again")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        code = re.search(r"(?:GLOBAL|global|class|function) ([\w.]+)", str(error))
        if code is None:
            raise ValueError(f"{argument}: the file is damaged or not PyTorch's: download it again") from error
        raise ValueError(
            f"{argument}: the file holds Python objects ({code[1]}) besides tensors; it is not opened, "
            "because loading them can run code. Use a file of plain tensors, such as .safetensors"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{argument}: the file is damaged or not PyTorch's: download it again") from error
    return data, "torch" if zipped else "torch_legacy"


def import_torch() -> Any:
    """PyTorch, which only its own file formats need."""
    try:
        import torch
    except ImportError as error:
        raise ModuleNotFoundError(
            "reading and writing PyTorch files needs torch: pip install torch (its CPU build is enough)"
        ) from error
    return torch


def _is_tensor(value: Any) -> bool:
    return isinstance(value, import_torch().Tensor)


def _is_plain(value: Any) -> bool:
    """Whether JSON gives the value back as it is."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return (
        value is None
        or isinstance(value, str | int | float | bool)
        or isinstance(value, list)
        and all(map(_is_plain, value))
    )


def _lazy(key: str, tensor: Any, argument: str) -> LazyArray:
    torch = import_torch()
    if tensor.dtype == torch.bfloat16:
        return LazyArray(
            tuple(tensor.shape),
            np.dtype(ml_dtypes.bfloat16),
            lambda: tensor.detach().contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16),
        )
    try:
        dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
    except TypeError as error:
        raise ValueError(f"{argument}: tensor {key} has dtype {tensor.dtype}, which is not supported") from error
    return LazyArray(tuple(tensor.shape), dtype, lambda: tensor.detach().numpy())
