"""A run's weights as a model folder."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from aa_jax.atomic import StrPath
from aa_jax.config import ModelConfig
from aa_jax.tensor_file import Tensor
from aa_jax.training.lora import merge_lora
from aa_jax.training.networks import Networks
from aa_jax.training.state import Params
from aa_jax.weights import CARD, cast_dtype, save_model

Card = Callable[[Mapping[str, int]], str]


def export(
    folder: StrPath,
    model: ModelConfig,
    networks: Networks,
    params: Params,
    *,
    dtype: DTypeLike = jnp.float32,
    card: Card | None = None,
) -> None:
    """Write a model folder, from the first of several processes.

    Args:
      folder: must not exist, or be empty.
      params: of all networks; low-rank changes are added to their kernels.
      dtype: that weights are stored in, those of norms aside.
      card: makes the model card from the number of parameters of each network.

    Raises:
      ValueError: there is something in `folder`.
      OSError: it could not be written; nothing is left.
    """
    whole = {key: on_host(value) for key, value in merge_lora(params).items()}
    if jax.process_index() == 0:
        tensors = {name: _cast(of_network(whole, name), dtype) for name in networks.graphs}
        sizes = {name: sum(math.prod(tensor.shape) for tensor in each.values()) for name, each in tensors.items()}
        save_model(folder, model, tensors, texts={CARD: card(sizes)} if card else None)


def _cast(tensors: Mapping[str, Tensor], dtype: DTypeLike) -> dict[str, Any]:
    return {key: np.asarray(tensor).astype(cast_dtype(key, tensors, dtype)) for key, tensor in tensors.items()}


def of_network(params: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """A network's tensors, as its file names them."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}


def on_host(value: jax.Array) -> np.ndarray:
    """The whole array, also where other processes have parts of it."""
    if not value.is_fully_addressable and not value.is_fully_replicated:
        sharding = value.sharding
        assert isinstance(sharding, NamedSharding)
        value = jax.jit(lambda x: x, out_shardings=NamedSharding(sharding.mesh, P()))(value)
    return np.asarray(value.addressable_data(0) if value.is_fully_replicated else value)


def with_scale(model: ModelConfig, scale: float) -> ModelConfig:
    """The model with another scaling factor of its VAE's latents."""
    if model.vae is None:
        raise ValueError("the model has no VAE, so that its latents cannot be scaled")
    return dataclasses.replace(model, vae=dataclasses.replace(model.vae, scaling_factor=scale))
