"""The model that is measured, with random weights, and something for it to animate."""

import resource

import jax
import jax.numpy as jnp
import numpy as np

from aa_jax.animator import Animator
from aa_jax.models.config import Policy
from aa_jax.weights import build_network
from benchmarks.gpu.scale import Scale
from benchmarks.random_weights import made_tensors


def make_animator(scale: Scale, *, dtype: str | None = None) -> Animator:
    """With the scale's networks, in the scale's dtype or another."""
    policy = Policy(dtype=jnp.dtype(dtype or scale.dtype))
    return Animator(
        scale.model,
        {
            name: build_network(
                name,
                getattr(scale.model, name),
                made_tensors(scale.model, name, policy.dtype),
                dtype=policy.dtype,
                policy=policy,
            )  # fmt: skip
            for name in scale.model.networks
        },
    )


def make_inputs(frames: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference image and drawn poses, uint8; smooth, as images are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (1 + frames, height // 8, width // 8, 3), np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return images[0], images[1:]


def make_noise(scale: Scale, frames: int, height: int, width: int) -> np.ndarray:
    """Initial noise, the same for every implementation."""
    vae = scale.model.vae
    assert vae is not None
    shape = (frames, height // vae.downscale, width // vae.downscale, vae.latent_channels)
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def peak_memory() -> int | None:
    """Most bytes that were in use on the device since the process began, of a CPU in the process; None where the device
    does not tell."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (device.memory_stats() or {}).get("peak_bytes_in_use")
