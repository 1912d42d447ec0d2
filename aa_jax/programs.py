"""The compiled programs of an animation: encode the reference, encode the poses, denoise, decode.

Each is a pure function of weights and arrays; the networks' structure and all options are closed over or static.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from aa_jax.config import ModelConfig
from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.sample import STATIC_ARGNAMES, sample
from aa_jax.diffusion.samplers import Sampler
from aa_jax.diffusion.windows import WindowPlan
from aa_jax.models.config import needed
from aa_jax.models.transformer import Conditions
from aa_jax.preprocess import pose_pixels

Weights = dict[str, nnx.State]
Result = TypeVar("Result", Array, np.ndarray)


class Program:
    """A jitted function that keeps what it compiled, and says how long that took.

    Attributes:
      compiled: number of programs compiled so far: one per set of shapes and static arguments.
      compile_seconds: time spent on that.
    """

    def __init__(self, function: Callable, *, static: tuple[str, ...] = ()):
        self._function = jax.jit(function, static_argnames=static)
        self._static = static
        self._executables: dict[Any, Any] = {}
        self.compile_seconds = 0.0

    @property
    def compiled(self) -> int:
        return len(self._executables)

    def compile(self, *args: Any, **options: Any) -> Callable:
        """The executable for these arguments, to be called with those of them that are not static."""
        static = {name: options.pop(name) for name in self._static if name in options}
        leaves, tree = jax.tree.flatten((args, options))
        key = (tree, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves), tuple(static.items()))
        if key not in self._executables:
            start = time.perf_counter()
            self._executables[key] = self._function.lower(*args, **options, **static).compile()
            self.compile_seconds += time.perf_counter() - start
        return self._executables[key]

    def __call__(self, *args: Any, **options: Any) -> Any:
        traced = {name: value for name, value in options.items() if name not in self._static}
        return self.compile(*args, **options)(*args, **traced)


class Programs:
    """The programs of one model; every call takes the weights, so that they are neither copied nor constants."""

    def __init__(self, config: ModelConfig, graphs: dict[str, nnx.GraphDef]):
        self.config = config
        self.graphs = graphs
        self.scaling_factor = needed(config.vae, "vae").scaling_factor
        self.into_latent = needed(config.pose_guider, "pose guider").into_latent
        self.encode_reference = Program(self._encode_reference, static=("guided",))
        self.encode_poses = Program(self._encode_poses)
        self.denoise = Program(self._denoise, static=STATIC_ARGNAMES)
        self.decode = Program(self._decode)

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling so far."""
        return sum(p.compile_seconds for p in (self.encode_reference, self.encode_poses, self.denoise, self.decode))

    def pose_features(
        self, weights: Weights, drawn: UInt8[np.ndarray, "t h w 3"], frame_batch: int
    ) -> Float[Array, "t h2 w2 c"]:
        """Features of drawn poses, a few frames at a time."""
        pixels = pose_pixels(drawn, needed(self.config.pose_guider, "pose guider"))
        return jnp.concatenate(in_chunks(lambda x: self.encode_poses(weights, x), pixels, frame_batch))

    def frames(
        self, weights: Weights, latents: Float[Array, "t h w c"], frame_batch: int
    ) -> Float[np.ndarray, "t h2 w2 3"]:
        """Frames in [0, 1] of scaled latents, a few at a time; each chunk leaves the device before the next comes."""
        return np.concatenate(in_chunks(lambda x: np.asarray(self.decode(weights, x)), latents, frame_batch))

    def _network(self, name: str, weights: Weights) -> Any:
        return nnx.merge(self.graphs[name], weights[name])

    def _encode_reference(
        self,
        weights: Weights,
        pixels: Float[Array, "1 h w 3"],
        clip_pixels: Float[Array, "1 s s 3"] | None,
        *,
        guided: bool,
    ) -> Conditions:
        """Everything that the denoising UNet needs of the reference, once per clip (ReferenceNet at batch 1 and
        timestep 0). `clip_pixels` may be None where there is no image encoder."""
        embedding, empty = self._embeddings(weights, clip_pixels)
        latents = self._network("vae", weights).encode(pixels).mean * self.scaling_factor
        bank, control = None, None
        if "reference_unet" in self.graphs:
            bank = self._network("reference_unet", weights)(latents, embedding)
            if self.config.inference.bank_dtype == "float16":
                bank = jax.tree.map(lambda x: x.astype(jnp.float16).astype(x.dtype), bank)
        if "controlnet" in self.graphs:
            control = self._network("controlnet", weights).control(latents, embedding)
        context = jnp.concatenate([empty, embedding]) if guided else embedding
        conditions = self._network("denoising_unet", weights).condition(context, bank, guided=guided)
        return dataclasses.replace(conditions, control=control)

    def _embeddings(
        self, weights: Weights, clip_pixels: Float[Array, "1 s s 3"] | None
    ) -> tuple[Float[Array, "1 1 d"], Float[Array, "1 1 d"]]:
        """Of the reference, and the unconditional one."""
        if clip_pixels is None or "image_encoder" not in self.graphs:
            empty = jnp.zeros((1, 1, needed(self.config.denoising_unet, "denoising UNet").cross_attention_dim))
            return empty, empty
        encode_image = self._network("image_encoder", weights)
        embedding = encode_image(clip_pixels)[:, None]
        if self.config.inference.unconditional_embedding == "zeros":
            return embedding, jnp.zeros_like(embedding)
        return embedding, encode_image(jnp.zeros_like(clip_pixels))[:, None]

    def _encode_poses(self, weights: Weights, frames: Float[Array, "t h w 3"]) -> Float[Array, "t h2 w2 c"]:
        return self._network("pose_guider", weights)(frames)

    def _denoise(
        self,
        weights: Weights,
        noise: Float[Array, "t h w c"],
        poses: Float[Array, "t h w d"],
        conditions: Conditions,
        windows: WindowPlan,
        guidance: Guidance | None,
        rng: Array,
        *,
        sampler: Sampler,
        num_inference_steps: int,
        **options: Any,
    ) -> Any:
        """From noise to latents, in one scan over the steps; see `diffusion.sample`."""
        unet = self._network("denoising_unet", weights)
        schedule = options.pop("schedule")
        timesteps = sampler.tables(schedule, num_inference_steps).timesteps
        time_embeddings = unet.embed_time(jnp.asarray(timesteps))
        if conditions.control is not None:
            controlnet = self._network("controlnet", weights)
            control_times = controlnet.embed_time(jnp.asarray(timesteps))

        def denoise(latents, frames, step, guided):
            pose, residuals = poses[frames], None
            if conditions.control is not None:
                residuals = controlnet(latents, control_times[step][None], conditions.control)
            prediction = unet(
                latents + pose if self.into_latent else latents,
                time_embeddings[step][None],
                conditions if guided else conditions.conditional(),
                None if self.into_latent else pose,
                residuals,
            )
            return prediction.astype(latents.dtype)

        return sample(
            denoise,
            noise,
            sampler=sampler,
            schedule=schedule,
            num_inference_steps=num_inference_steps,
            windows=windows,
            guidance=guidance,
            rng=rng,
            **options,
        )

    def _decode(self, weights: Weights, latents: Float[Array, "t h w c"]) -> Float[Array, "t h2 w2 3"]:
        """Latents to frames in [0, 1], float32."""
        frames = self._network("vae", weights).decode(latents / self.scaling_factor)
        return jnp.clip(frames.astype(jnp.float32) / 2 + 0.5, 0, 1)


def in_chunks(function: Callable[[Array], Result], x: Array | np.ndarray, size: int) -> list[Result]:
    """Apply `function` to chunks of at most `size` rows, all of one shape: the last chunk is filled up by repeating
    its last row.

    Returns the results' true rows, chunk by chunk.
    """
    size = min(size, len(x))
    results = []
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        missing = size - len(chunk)
        padded = jnp.concatenate([chunk, jnp.repeat(chunk[-1:], missing, axis=0)]) if missing else jnp.asarray(chunk)
        results.append(function(padded)[: len(chunk)])
    return results
