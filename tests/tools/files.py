"""Weight files for tests: writing, reading, comparing."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from aa_jax.weights import verify_checksums
from tools.convert_weights.__main__ import main

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


def convert(family: str, files: Mapping[str, Path], output: Path, *more: str) -> Path:
    """Convert; the model folder, checked."""
    assert main([family, *arguments(files), "--output", str(output), *more]) == 0
    verify_checksums(output)
    return output


def back(model: Path, family: str, output: Path, *more: str) -> Path:
    """Export; the folder of files."""
    assert main(["export", "--model", str(model), "--to", family, "--output", str(output), *more]) == 0
    return output


def assert_files_same(files: Mapping[str, Path], exported: Path) -> None:
    """Every file and folder that was converted came back."""
    for role, path in files.items():
        if path.is_dir():
            assert json.loads((exported / role / "config.json").read_text()) == json.loads(
                (path / "config.json").read_text()
            )
            for shard in path.iterdir():
                if shard.suffix != ".json":
                    assert_same(load(shard), load(exported / role / shard.name))
        else:
            assert_same(load(path), load(exported / path.name))
