"""Where arrays lie on many devices: one mesh, batches cut along their first axis, weights by rules over their paths.

Axes of the mesh: "data", over which weights are copied, and "fsdp", over which they are cut; a batch is cut over both.
With one device nothing is cut.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("data", "fsdp")
# Smaller weights are copied: cutting them costs more messages than it saves bytes.
SMALLEST = 2**14

Rule = tuple[str, Callable[[tuple[int, ...], int], P]]


def _whole(shape: tuple[int, ...], parts: int) -> P:
    return P()


def _widest(shape: tuple[int, ...], parts: int) -> P:
    """Cut the last axis that divides, output channels first; spatial axes of kernels never do."""
    if np.prod(shape, dtype=np.int64) >= SMALLEST:
        for axis in reversed(range(max(len(shape) - 2, 0), len(shape))):
            if shape[axis] % parts == 0:
                return P(*(None,) * axis, "fsdp")
    return P()


RULES: tuple[Rule, ...] = (
    (r".*\.(kernel|embedding)", _widest),
    (r".*\.(bias|scale|mean|var|pe|class_embedding)", _whole),
    (r".*\.kernel\.lora_[ab]", _whole),
)
"""Every parameter's path matches exactly one of these, as a whole."""


def make_mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of all devices.

    Args:
      fsdp: devices that share one copy of the weights; 0 for all.

    Raises:
      ValueError: the devices do not divide into groups of so many.
    """
    devices = jax.devices() if devices is None else devices
    fsdp = fsdp or len(devices)
    if fsdp < 0 or len(devices) % fsdp:
        raise ValueError(f"compute.fsdp is {fsdp}, expected a divisor of the number of devices, {len(devices)}")
    return Mesh(np.asarray(devices).reshape(-1, fsdp), AXES)


def parameter_sharding(key: str, shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """How a parameter lies on the mesh.

    Raises:
      ValueError: not exactly one rule matches its path.
    """
    matching = [make for pattern, make in RULES if re.fullmatch(pattern, key)]
    if len(matching) != 1:
        raise ValueError(f"{len(matching)} sharding rules match {key}, expected one: see aa_jax/sharding.py")
    return NamedSharding(mesh, matching[0](shape, mesh.shape["fsdp"]) if mesh.shape["fsdp"] > 1 else P())


def parameter_shardings(shapes: Mapping[str, Any], mesh: Mesh) -> dict[str, NamedSharding]:
    """How parameters lie on the mesh."""
    return {key: parameter_sharding(key, tuple(leaf.shape), mesh) for key, leaf in shapes.items()}


def like_parameters(tree: Any, shapes: Mapping[str, Any], mesh: Mesh) -> Any:
    """Shardings for a tree made of parameters, such as an optimizer's state: what has a parameter's key in its path and
    its shape lies as that parameter does, all else on every device."""

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        for entry in path:
            key = str(getattr(entry, "key", ""))
            if key in shapes and tuple(leaf.shape) == tuple(shapes[key].shape):
                return parameter_sharding(key, tuple(leaf.shape), mesh)
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(sharding, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Cut along the first axis over all devices."""
    return NamedSharding(mesh, P(AXES))
