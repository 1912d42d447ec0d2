"""Weight files for tests: writing, reading, comparing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

StateDict = Mapping[str, np.ndarray]


def save(weights: StateDict, path: Path, *, dtype: "torch.dtype | None" = None, legacy: bool = False) -> Path:
    """Write a PyTorch file; floating-point weights in `dtype`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in weights.items()}
    if dtype is not None:
        tensors = {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_folder(weights: StateDict, folder: Path, config: Path, name: str, **options: object) -> Path:
    """Write a folder of config.json and weights."""
    save(weights, folder / name, **options)
    (folder / "config.json").write_text(config.read_text())
    return folder


def arguments(files: Mapping[str, Path]) -> list[str]:
    """Files as command-line arguments."""
    return [part for role, path in files.items() for part in (f"--{role.replace('_', '-')}", str(path))]


def load(path: Path) -> dict:
    """A file's tensors by name."""
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


def assert_same(before: Mapping, after: Mapping) -> None:
    """The same entries in the same order; tensors with the same dtype and bits."""
    assert list(before) == list(after)
    for key, value in before.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == after[key].dtype and value.shape == after[key].shape, key
            assert bits(value) == bits(after[key]), key
        elif isinstance(value, dict):
            assert_same(value, after[key])
        else:
            assert value == after[key]


def bits(tensor: "torch.Tensor") -> bytes:
    """The bytes of a tensor, of any dtype."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
