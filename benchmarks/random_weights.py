"""Random weights that keep activations near one, the same in every process, made fast."""

import concurrent.futures
import functools
import zlib

import jax
import numpy as np
from jax.typing import DTypeLike

from aa_jax.config import ModelConfig
from aa_jax.models.temporal import position_table
from aa_jax.tensor_file import LazyArray
from aa_jax.weights import cast_dtype, expected_tensors

# A prime, so that rows of a tensor that is larger differ.
NUMBERS = 4_194_301


def random_weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Of the tensor at `key`: norms near the identity, position tables true, all else scaled by its inputs; float32."""
    if key.endswith(".pe"):
        return position_table(*shape[1:])
    size, start = int(np.prod(shape)), zlib.crc32(key.encode()) % NUMBERS
    values = np.resize(_numbers_twice()[start : start + min(size, NUMBERS)], shape)
    if key.endswith(".kernel"):
        return values / np.float32(np.sqrt(np.prod(shape[:-1])))
    return 1 + np.float32(0.1) * values if key.endswith((".scale", ".var")) else np.float32(0.02) * values


def random_tensors(config: ModelConfig, name: str) -> dict[str, LazyArray]:
    """A network's tensors under their keys, made when they are read."""

    def lazy(key: str, leaf: jax.ShapeDtypeStruct) -> LazyArray:
        make = functools.partial(random_weight, f"{name}.{key}", leaf.shape)
        return LazyArray(leaf.shape, np.dtype(np.float32), make)

    expected = expected_tensors(name, getattr(config, name))
    return {key: lazy(key, leaf) for key, leaf in expected.items()}


def made_tensors(config: ModelConfig, name: str, dtype: DTypeLike | None = None) -> dict[str, np.ndarray]:
    """The same, made at once on all processors, and cast as a model in `dtype` has them."""
    tensors = random_tensors(config, name)
    _numbers_twice()  # by one thread
    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = pool.map(
            lambda key: np.asarray(tensors[key]).astype(cast_dtype(key, tensors, dtype), copy=False), tensors
        )
        return dict(zip(tensors, made, strict=True))


@functools.cache
def _numbers_twice() -> np.ndarray:
    return np.tile(np.random.default_rng(0).standard_normal(NUMBERS, np.float32), 2)
