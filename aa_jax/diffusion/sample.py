"""The sampling loop: one program from noise to the latents of a video of any length.

Axes: s steps, t frames of the video, n windows, l frames of a window, h, w, c; r = 2 (unconditional, conditional) in a
guided step, else 1 (conditional).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.samplers import Sampler
from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.diffusion.windows import WindowPlan

Denoise = Callable[[Float[Array, "n l h w c"], Int[Array, "n l"], Int[Array, ""], bool], Float[Array, "rn l h w c"]]

STATIC_ARGNAMES = (
    "sampler",
    "schedule",
    "num_inference_steps",
    "window_batch",
    "progress",
    "return_trajectory",
)
"""Arguments of `sample` that are static in a jit-compiled caller: `jax.jit(f, static_argnames=STATIC_ARGNAMES)`."""


class Trajectory(NamedTuple):
    """What happened on the way.

    Attributes:
      latents: after each step, as the sampler keeps them (those of `Euler` are variance-exploding).
      predictions: of each step, averaged over windows and guided.
    """

    latents: Float[Array, "s t h w c"]
    predictions: Float[Array, "s t h w c"]


def sample(
    denoise: Denoise,
    noise: Float[Array, "t h w c"],
    *,
    sampler: Sampler,
    schedule: NoiseSchedule,
    num_inference_steps: int,
    windows: WindowPlan,
    guidance: Guidance | None = None,
    rng: Array | None = None,
    window_batch: int | None = None,
    progress: Callable[[int], object] | None = None,
    return_trajectory: bool = False,
) -> Float[Array, "t h w c"] | tuple[Float[Array, "t h w c"], Trajectory]:
    """Denoises one video.

    Meant to be called inside a `jax.jit` of the caller, whose `denoise` closes over the network's weights:

        @functools.partial(jax.jit, static_argnames=STATIC_ARGNAMES)
        def animate(weights, noise, windows, guidance, rng, **options):
            def denoise(latents, frames, step, guided):
                return network(weights, latents, time_embeddings[step], pose[frames], ...)
            return sample(denoise, noise, windows=windows, guidance=guidance, rng=rng, **options)

    Traced, so that new values need no compilation: `noise`, `rng`, the tables in `windows`, `guidance.scale`. Static:
    all else (`STATIC_ARGNAMES`, the number of frames, whether `guidance` is None, and its `rescale` and `interval`).

    Args:
      denoise: the network, `denoise(latents, frames, step, guided) -> predictions`. Latents are n clips,
        (n, l, h, w, c). Predictions are the n clips' with the condition or, if `guided`, 2 n: first the n without the
        condition, then those with it. `frames`, int32 (n, l), tells which frames of the video are in a clip. `step`,
        int32, counts from 0: its timestep is `sampler.tables(schedule, num_inference_steps).timesteps[step]`, so that
        what depends on it can be computed beforehand.
      noise: standard normal.
      sampler: the algorithm.
      schedule: the forward process the network was trained with.
      num_inference_steps: s.
      windows: which frames are denoised together, made for this many frames and steps.
      guidance: classifier-free guidance, or None for the conditional prediction alone (pass None unless
        `guidance.enabled`).
      rng: key for the noise of a stochastic sampler; step i draws from `jax.random.fold_in(rng, i)`.
      window_batch: at most this many windows in one call of `denoise`, to bound its memory; None for all at once.
      progress: called on the host with the index of each step when it is done. Pass the same function object to a
        jit-compiled caller each time: another object is another program.
      return_trajectory: also return all steps.

    Returns:
      Denoised latents, float32; with `return_trajectory`, also the trajectory.

    Raises:
      ValueError: arguments that do not fit each other.
    """
    _check_arguments(noise, sampler, num_inference_steps, windows, rng, window_batch)
    frames, weights = _batches_of_windows(windows, num_inference_steps, window_batch)
    tables = sampler.tables(schedule, num_inference_steps)
    steps = np.arange(num_inference_steps, dtype=np.int32)
    guided = guidance.guided_steps(num_inference_steps) if guidance is not None else np.zeros(len(steps), dtype=bool)

    def one_step(state, inputs):
        step, row, frames, weights, guided_step = inputs
        latents = sampler.scale_input(state, row)

        def conditional(latents):
            return _predict(denoise, latents, frames, weights, step, guided=False)[0]

        def with_guidance(latents):
            return guidance(*_predict(denoise, latents, frames, weights, step, guided=True))

        if guided.all():
            prediction = with_guidance(latents)
        elif not guided.any():
            prediction = conditional(latents)
        else:
            prediction = lax.cond(guided_step, with_guidance, conditional, latents)

        fresh_noise = jax.random.normal(jax.random.fold_in(rng, step), noise.shape) if sampler.stochastic else None
        state = sampler.step(state, prediction, row, fresh_noise)
        if progress is not None:
            # A value of the new state goes along, so that the call cannot come before the step is done.
            jax.debug.callback(lambda index, _: progress(int(index)), step, state.latents[0, 0, 0, 0])
        return state, Trajectory(state.latents, prediction) if return_trajectory else None

    state = sampler.initialize(noise.astype(jnp.float32), tables)
    state, trajectory = lax.scan(one_step, state, (steps, tables, frames, weights, guided))
    return (state.latents, trajectory) if return_trajectory else state.latents


def _predict(
    denoise: Denoise,
    latents: Float[Array, "t h w c"],
    frames: Int[Array, "b n l"],
    weights: Float[Array, "b n l"],
    step: Int[Array, ""],
    *,
    guided: bool,
) -> Float[Array, "r t h w c"]:
    """Predictions of all frames, averaged over the windows that hold them; windows come in b batches of n."""

    repeats = 2 if guided else 1

    def one_batch(frames: Int[Array, "n l"]) -> Float[Array, "r n l h w c"]:
        clips = latents[frames]
        predictions = denoise(clips, frames, step, guided)
        expected = (repeats * len(clips), *clips.shape[1:])
        if predictions.shape != expected:
            raise ValueError(f"denoise gave predictions of shape {predictions.shape}, expected {expected}")
        return predictions.reshape(repeats, *clips.shape)

    predictions = lax.map(one_batch, frames) if len(frames) > 1 else one_batch(frames[0])[None]
    weighted = jnp.moveaxis(predictions, 0, 1) * weights[..., None, None, None]
    return jnp.zeros((repeats, *latents.shape)).at[:, frames].add(weighted)


def _batches_of_windows(
    windows: WindowPlan, num_steps: int, window_batch: int | None
) -> tuple[Int[Array, "s b n l"], Float[Array, "s b n l"]]:
    """Frames and weights of every step in b equal batches of at most `window_batch` windows.

    Where the windows do not come out even, the last one is repeated with a weight of zero.
    """
    _, num_windows, length = windows.frames.shape
    batches = 1 if window_batch is None else -(-num_windows // window_batch)
    size = -(-num_windows // batches)
    padding = ((0, 0), (0, batches * size - num_windows), (0, 0))
    shape = (num_steps, batches, size, length)
    frames = jnp.pad(windows.frames, padding, mode="edge").reshape(-1, *shape[1:])
    weights = jnp.pad(windows.weights, padding).reshape(-1, *shape[1:])
    return jnp.broadcast_to(frames, shape), jnp.broadcast_to(weights, shape)


def _check_arguments(
    noise: Array,
    sampler: Sampler,
    num_inference_steps: int,
    windows: WindowPlan,
    rng: Array | None,
    window_batch: int | None,
) -> None:
    if noise.ndim != 4:
        raise ValueError(f"noise has shape {noise.shape}, expected (frames, height, width, channels)")
    if windows.num_frames != len(noise):
        raise ValueError(f"windows were planned for {windows.num_frames} frames, but noise has {len(noise)}")
    if windows.frames.shape[0] not in (1, num_inference_steps):
        raise ValueError(
            f"windows were planned for {windows.frames.shape[0]} steps, num_inference_steps is {num_inference_steps}"
        )
    if window_batch is not None and window_batch < 1:
        raise ValueError(f"window_batch is {window_batch}, expected 1 or more, or None for all windows at once")
    if sampler.stochastic and rng is None:
        raise ValueError(f"{sampler} draws noise in every step: pass rng, a key such as jax.random.key(0)")
