"""Metric networks from a folder of safetensors files, which `python -m tools.convert_weights metrics` writes.

A file's keys are the module path with dots, its arrays float32 in this library's layout, and its metadata says of which
kind it is, which published files it was made of, and the checksum of its tensors.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from aa_jax.metrics.networks.alexnet import alexnet
from aa_jax.metrics.networks.i3d import I3D
from aa_jax.metrics.networks.inception import InceptionV3
from aa_jax.metrics.networks.lpips import LPIPS
from aa_jax.metrics.networks.resnet3d import ResNet3D
from aa_jax.metrics.networks.vgg import vgg16
from aa_jax.network_tensors import fill, network_tensors
from aa_jax.tensor_file import Tensor, read_metadata, read_tensors

Kind = Literal["lpips-alex", "lpips-vgg", "inception", "i3d", "resnet3d"]
NETWORKS: dict[str, Callable[[], nnx.Module]] = {
    "lpips-alex": lambda: LPIPS(alexnet()),
    "lpips-vgg": lambda: LPIPS(vgg16()),
    "inception": InceptionV3,
    "i3d": I3D,
    "resnet3d": ResNet3D,
}
FORMAT = "1"


class MissingWeightsError(FileNotFoundError):
    """A metric network's file is not there.

    Attributes:
      file: the name of the file that is needed.
    """

    def __init__(self, folder: Path, kind: Kind):
        self.file = file_name(kind)
        super().__init__(
            f"{folder} needs {self.file}: make it with python -m tools.convert_weights metrics --kind {kind} --help"
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MetricNetwork:
    """A network ready to run.

    Attributes:
      kind: which.
      apply: the network, compiled for every new shape of its arguments; `networks` says what it takes.
      sha256: of its tensors' names and values.
      sources: what it was made of: "weights", and LPIPS's "backbone", to the "file" and its "sha256".
    """

    kind: Kind
    apply: Callable[..., Array]
    sha256: str
    sources: Mapping[str, Mapping[str, str]]


def file_name(kind: Kind) -> str:
    """The name of a network's file in its folder."""
    return f"{kind.replace('-', '_')}.safetensors"


def expected_tensors(kind: Kind) -> dict[str, Any]:
    """Keys, shapes and dtypes of a network's file."""
    return network_tensors(nnx.eval_shape(NETWORKS[kind]))


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(tensors[key]).data)
    return digest.hexdigest()


def metadata_of(kind: Kind, tensors: Mapping[str, Tensor], sources: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The metadata of a network's file; `sources` as in `MetricNetwork`."""
    return {"format": FORMAT, "kind": kind, "sources": json.dumps(sources), "sha256": tensors_sha256(tensors)}


def load_metric_network(folder: str | os.PathLike[str], kind: Kind) -> MetricNetwork:
    """Read a metric network.

    Raises:
      MissingWeightsError: the folder has no file of it.
      FileNotFoundError: there is no such folder.
      ValueError: an unknown kind, or the file is of another kind, of another version, or damaged.
    """
    if kind not in NETWORKS:
        raise ValueError(f"metric network {kind!r} asked for, expected one of {', '.join(NETWORKS)}")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder, expected one with the metrics' networks")
    path = folder / file_name(kind)
    if not path.is_file():
        raise MissingWeightsError(folder, kind)
    tensors, metadata = read_tensors(path), read_metadata(path)
    found = metadata.get("kind"), metadata.get("format")
    if found != (kind, FORMAT):
        raise ValueError(
            f"{path} is of kind {found[0]}, format {found[1]}, expected {kind}, format {FORMAT}: convert it again"
        )
    if metadata.get("sha256") != tensors_sha256(tensors):
        raise ValueError(f"{path} is damaged: its tensors are not those of its checksum: convert it again")
    graphdef, state = fill(nnx.eval_shape(NETWORKS[kind]), tensors, f"{path}, as {kind},")
    jitted = jax.jit(lambda state, *inputs: nnx.merge(graphdef, state)(*inputs))
    return MetricNetwork(
        kind=kind,
        apply=functools.partial(jitted, state),
        sha256=metadata["sha256"],
        sources=json.loads(metadata["sources"]),
    )
