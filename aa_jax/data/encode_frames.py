"""What a model's frozen networks make of frames, for the cache that training reads: see `aa_jax.data.cache`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from aa_jax.atomic import StrPath
from aa_jax.models.clip_vision import clip_pixels
from aa_jax.models.config import Policy
from aa_jax.models.vae import symmetric
from aa_jax.weights import load_manifest, load_network

MOMENTS, EMBEDDING = "moments", "embedding"
NETWORKS = ("vae", "image_encoder")


class FrameEncoder:
    """A model folder's VAE and image encoder: an `aa_jax.data.cache.Encode`.

    Args:
      folder: the model.
      dtype: of weights and computation.

    Raises:
      FileNotFoundError, ValueError: as `aa_jax.weights.load_network`.
    """

    def __init__(self, folder: StrPath, *, dtype: DTypeLike = jnp.float32):
        policy = Policy(dtype=dtype)
        graphs, self._weights = {}, {}
        for name in NETWORKS:
            graphs[name], self._weights[name] = nnx.split(load_network(folder, name, dtype=dtype, policy=policy))
        self._encode = jax.jit(functools.partial(_encode, graphs))

    def __call__(
        self, frames: UInt8[np.ndarray, "n h w 3"], whole: UInt8[np.ndarray, "n s s 3"]
    ) -> dict[str, np.ndarray]:
        """The encodings of some frames.

        Args:
          frames: for the VAE; height and width are multiples of its downscale.
          whole: for the image encoder, squares of its size.

        Returns:
          "moments", float16 (n, h2, w2, 2 c): the mean of the latents, unscaled, and then the logarithm of their
          variance; "embedding", float32 (n, d): the image encoder's output.
        """
        return jax.tree.map(np.asarray, self._encode(self._weights, frames, whole))


def _encode(
    graphs: dict[str, nnx.GraphDef],
    weights: dict[str, nnx.State],
    frames: UInt8[Array, "n h w 3"],
    whole: UInt8[Array, "n s s 3"],
) -> dict[str, Float[Array, "n ..."]]:
    networks: dict[str, Any] = {name: nnx.merge(graph, weights[name]) for name, graph in graphs.items()}
    moments = networks["vae"].encode(symmetric(frames))
    return {
        MOMENTS: jnp.concatenate(moments, axis=-1).astype(jnp.float16),
        EMBEDDING: networks["image_encoder"](clip_pixels(whole)).astype(jnp.float32),
    }


def made_with(folder: StrPath) -> str:
    """The frozen networks of a model folder by their checksums: what a cache of their encodings is known by.

    Raises:
      FileNotFoundError: there is no model folder.
      ValueError: it lacks one of the networks.
    """
    files = load_manifest(folder).get("files", {})
    missing = [name for name in NETWORKS if f"{name}.safetensors" not in files]
    if missing:
        raise ValueError(f"{folder} has no {' and no '.join(missing)}, expected a model with both to encode frames")
    return ", ".join(f"{name} {files[f'{name}.safetensors']['sha256'][:16]}" for name in NETWORKS)
