"""The tensors of a network under their paths with dots (`down_blocks.0.resnets.1.conv1.kernel`), and how to fill it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from aa_jax.tensor_file import Tensor

SHOWN = 8


def variables_of(state: nnx.State) -> dict[str, nnx.Variable]:
    """The variables of a network's state."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def network_tensors(network: nnx.Module) -> dict[str, Tensor]:
    """The tensors of a network."""
    return state_tensors(nnx.state(network))


def state_tensors(state: nnx.State) -> dict[str, Tensor]:
    """The tensors of a network's state."""
    return {key: variable.get_value() for key, variable in variables_of(state).items()}


def fill(
    network: nnx.Module,
    tensors: Mapping[str, Tensor],
    where: str,
    *,
    dtype: Callable[[str], DTypeLike] | None = None,
) -> tuple[nnx.GraphDef, nnx.State]:
    """Give an abstract network its tensors, one by one.

    Args:
      network: with shapes in place of arrays.
      tensors: exactly those of the network.
      where: names them in errors.
      dtype: of each, by its path; as it is by default.

    Raises:
      ValueError: keys or shapes are not the network's.
    """
    graph, state = nnx.split(network)
    variables = variables_of(state)
    check_tensors(tensors, {key: variable.get_value() for key, variable in variables.items()}, where)
    for key, variable in variables.items():
        values = np.asarray(tensors[key])
        # A copy, as the file may be replaced under a map of it; one after another, as each is there twice till then.
        copied = values.astype(dtype(key) if dtype else values.dtype)
        variable.set_value(jax.block_until_ready(jax.device_put(copied, may_alias=False)))
    return graph, state


def check_tensors(tensors: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    """Raise ValueError unless keys and shapes are exactly the expected ones, listing what is not."""
    missing = [key for key in expected if key not in tensors]
    extra = [key for key in tensors if key not in expected]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(leaf.shape)}"
        for key, leaf in expected.items()
        if key in tensors and tuple(tensors[key].shape) != tuple(leaf.shape)
    ]
    faults = [("missing", missing), ("not expected", extra), ("of another shape", shapes)]
    parts = [f"{len(found)} {fault}: {listing(found)}" for fault, found in faults if found]
    if parts:
        raise ValueError(f"{where} does not fit: {'; '.join(parts)}")


def listing(items: Iterable[str]) -> str:
    """The first few of many names."""
    items = list(items)
    return ", ".join(items[:SHOWN]) + (", ..." if len(items) > SHOWN else "")
