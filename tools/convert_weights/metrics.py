"""The published networks of metrics, each to one safetensors file for `aa_jax.metrics.weights`."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from aa_jax.atomic import aside
from aa_jax.metrics.weights import Kind, expected_tensors, file_name, metadata_of
from aa_jax.network_tensors import check_tensors
from aa_jax.tensor_file import FileFacts, LazyArray, write_tensors
from tools.convert_weights.naming import torch_key
from tools.convert_weights.sources import open_source

# What files hold that no metric needs: classifiers behind the features, and counters of training.
UNUSED = re.compile(r"(classifier|fc)\.|.*\.num_batches_tracked$")
BACKBONE = "net."


def convert_metrics(kind: Kind, weights: Path, backbone: Path | None, output: Path) -> FileFacts:
    """Read, check, and write aside.

    Args:
      weights: the published file; for LPIPS the file of its heads.
      backbone: torchvision's file of AlexNet or VGG-16, for LPIPS alone.
      output: the file to write, under the name that `aa_jax.metrics.weights` looks for.

    Raises:
      FileNotFoundError: a file is not there.
      ValueError: a file is damaged or does not fit, a backbone is missing or in vain, or another name is expected.
      OSError: writing failed; nothing is left, and an existing file is as it was.
    """
    if output.name != file_name(kind):
        raise ValueError(f"--output {output}: metrics look for {kind} in a file named {file_name(kind)}")
    if kind.startswith("lpips-") != (backbone is not None):
        raise ValueError(
            f"--kind {kind} has no backbone: leave out --backbone"
            if backbone
            else f"--kind {kind} needs --backbone, torchvision's file, beside --weights, the file of LPIPS's heads"
        )
    paths = {"weights": weights} | ({"backbone": backbone} if backbone else {})
    for role, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(f"--{role} {path}: no such file")
    expected = expected_tensors(kind)
    tensors: dict[str, LazyArray] = {}
    for role, path in paths.items():
        share = {key: leaf for key, leaf in expected.items() if key.startswith(BACKBONE) == (role == "backbone")}
        tensors |= _read(kind, role, path, share)
    sources = {role: {"file": path.name, "sha256": _sha256(path)} for role, path in paths.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    with aside(output) as partial:
        return write_tensors(partial, tensors, metadata_of(kind, tensors, sources))


def _read(kind: Kind, role: str, path: Path, expected: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, LazyArray]:
    """The expected tensors, in our layout, from a published file that has them and no others."""
    source = open_source(role, path)
    given = {key.removeprefix(source.prefix): tensor for key, tensor in source.tensors.items()}
    given = {key: tensor for key, tensor in given.items() if not UNUSED.match(key)}
    published = {_published_key(key): key for key in expected}
    wanted = {
        name: jax.ShapeDtypeStruct(_published_shape(key, expected[key].shape), np.float32)
        for name, key in published.items()
    }
    check_tensors(given, wanted, f"{source.argument}, as {kind},")
    return {key: _to_layout(key, given[name], expected[key].shape) for name, key in published.items()}


def _published_key(key: str) -> str:
    """In the published files LPIPS's heads come after a dropout, and its backbone is a file of its own."""
    return re.sub(r"^(lin\d)\.", r"\1.model.1.", torch_key(key.removeprefix(BACKBONE)))


def _published_shape(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's kernels are (out, in, ...), ours (..., in, out)."""
    return (shape[-1], shape[-2], *shape[:-2]) if key.endswith(".kernel") else shape


def _to_layout(key: str, tensor: LazyArray, shape: tuple[int, ...]) -> LazyArray:
    def change(array: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(array, (1, 0), (-2, -1)) if key.endswith(".kernel") else array
        return moved.astype(np.float32)

    return tensor.map(change, shape=shape, dtype=np.float32)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
