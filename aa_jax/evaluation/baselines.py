"""What a model's scores are held against: frames that are made without it, with its VAE alone, or from wrong input.

A model that is worth its weights beats "copy" and "warp", comes near "reconstruction", which its VAE keeps it from
surpassing by much, and loses much by "wrong-reference" and "wrong-pose": it looks at both.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from aa_jax.evaluation.conditions import Conditions
from aa_jax.evaluation.pairs import fit
from aa_jax.evaluation.protocols import Protocol
from aa_jax.evaluation.warp import warp
from aa_jax.image import to_uint8
from aa_jax.models.config import Policy
from aa_jax.models.vae import symmetric
from aa_jax.pose.fit import fit_keypoints
from aa_jax.pose.retarget import RetargetMethod, retarget
from aa_jax.programs import in_chunks
from aa_jax.request import check_size
from aa_jax.weights import load_config, load_network, resolve

Baseline = Literal["copy", "warp", "reconstruction", "wrong-reference", "wrong-pose"]
WITHOUT_MODEL: tuple[Baseline, ...] = ("copy", "warp")
# Those that take part of their input from the next clip, the last one from the first.
OF_TWO_CLIPS: tuple[Baseline, ...] = ("wrong-reference", "wrong-pose")
FRAME_BATCH = 4


def copied(given: Conditions, size: tuple[int, int], protocol: Protocol) -> UInt8[np.ndarray, "t h w 3"]:
    """The reference in place of every frame, at `size`, (height, width)."""
    reference = fit(given.reference[None], size, protocol)
    return np.broadcast_to(reference, (len(given.pose), *size, 3))


def warped(
    given: Conditions, size: tuple[int, int], protocol: Protocol, method: RetargetMethod
) -> UInt8[np.ndarray, "t h w 3"]:
    """The reference warped to the keypoints that drive it, retargeted by `method`, at `size`, (height, width)."""
    pose = given.pose if method == "none" else retarget(given.pose, given.reference_pose, method=method)
    reference_pose, pose = (fit_keypoints(each, *size, protocol.fit) for each in (given.reference_pose, pose))
    return warp(fit(given.reference[None], size, protocol)[0], reference_pose, pose)


def open_vae(model: str, dtype: str) -> Callable[[UInt8[np.ndarray, "t h w 3"]], UInt8[np.ndarray, "t h w 3"]]:
    """The function that gives frames as the model's VAE gives them back, from the means of their latents.

    Args:
      model: model folder or hub id.
      dtype: of weights and computation.

    Raises:
      FileNotFoundError, ValueError: there is no such model, it is damaged, or it has no VAE; and from the function, a
        size that the VAE cannot halve as often as it has to.
    """
    folder = resolve(model)
    downscale = load_config(folder).downscale
    network = load_network(folder, "vae", dtype=jnp.dtype(dtype), policy=Policy(dtype=jnp.dtype(dtype)))
    graph, weights = nnx.split(network)

    @jax.jit
    def through(weights: nnx.State, frames: UInt8[Array, "t h w 3"]) -> Float[Array, "t h w 3"]:
        vae: Any = nnx.merge(graph, weights)
        return jnp.clip(vae.decode(vae.encode(symmetric(frames)).mean).astype(jnp.float32) / 2 + 0.5, 0, 1)

    def give_back(frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "t h w 3"]:
        check_size(frames.shape[1], frames.shape[2], downscale)
        found = in_chunks(lambda some: np.asarray(through(weights, some)), frames, FRAME_BATCH)
        return to_uint8(np.concatenate(list(found)))

    return give_back
