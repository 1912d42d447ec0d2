"""The sampling loop: one program from noise to the latents of a video of any length, or from any step to any other, or
a loop of the host for a video whose windows should not be on the device together.

Axes: s steps, t frames of the video, b batches of n windows, l frames of a window, h, w, c; r = 2 (unconditional,
conditional) in a guided step, else 1 (conditional).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

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

STATIC_ARGNAMES = ("sampler", "schedule", "num_inference_steps", "window_batch", "return_trajectory")
"""Arguments of `sample` that are static in a jit-compiled caller: `jax.jit(f, static_argnames=STATIC_ARGNAMES)`."""
ROWS = 64
"""`Steps` made for `advance` have a multiple of so many rows, so that a new number of steps is no new program."""


class Trajectory(NamedTuple):
    """What happened on the way.

    Attributes:
      latents: after each step, as the sampler keeps them (those of `Euler` are variance-exploding).
      predictions: of each step, averaged over windows and guided.
    """

    latents: Float[Array, "s t h w c"]
    predictions: Float[Array, "s t h w c"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """All that depends on the step, as tables with one row each; a pytree. See `plan_steps`.

    Attributes:
      number: of the step, from 0, int32 (s,).
      tables: the sampler's, each field (s,).
      frames: of the windows, int32 (s, b, n, l).
      weights: of the same shape, see `WindowPlan`.
      guided: whether the step is guided, where guidance is on in some steps only, bool (s,).
    """

    number: Any
    tables: Any
    frames: Any
    weights: Any
    guided: Any


def plan_steps(
    sampler: Sampler,
    schedule: NoiseSchedule,
    num_inference_steps: int,
    windows: WindowPlan,
    guidance: Guidance | None = None,
    window_batch: int | None = None,
    *,
    rows: int | None = None,
) -> Steps:
    """The tables of a run: NumPy arrays, but for what comes of tracers in `windows`.

    Windows come in equal batches of at most `window_batch`. Where they do not come out even, the last one is repeated
    with a weight of zero.

    Args:
      rows: number of rows, of which those beyond `num_inference_steps` are never to be run; default: none.

    Raises:
      ValueError: arguments that do not fit each other.
    """
    planned, num_windows, _ = windows.frames.shape
    if planned not in (1, num_inference_steps):
        raise ValueError(f"windows were planned for {planned} steps, num_inference_steps is {num_inference_steps}")
    if window_batch is not None and window_batch < 1:
        raise ValueError(f"window_batch is {window_batch}, expected 1 or more, or None for all windows at once")
    batches = 1 if window_batch is None else -(-num_windows // window_batch)
    size = -(-num_windows // batches)
    slots = np.arange(batches * size).reshape(batches, size)
    window = np.minimum(slots, num_windows - 1)
    step = np.minimum(np.arange(rows or num_inference_steps, dtype=np.int32), num_inference_steps - 1)
    planned_step = np.minimum(step, planned - 1)[:, None, None]
    no_steps = np.zeros(num_inference_steps, dtype=bool)
    return Steps(
        number=step,
        tables=jax.tree.map(lambda column: column[step], sampler.tables(schedule, num_inference_steps)),
        frames=windows.frames[planned_step, window],
        weights=windows.weights[planned_step, window] * (slots < num_windows)[..., None],
        guided=(no_steps if guidance is None else guidance.guided_steps(num_inference_steps))[step],
    )


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
      return_trajectory: also return all steps.

    Returns:
      Denoised latents, float32; with `return_trajectory`, also the trajectory.

    Raises:
      ValueError: arguments that do not fit each other.
    """
    if noise.ndim != 4:
        raise ValueError(f"noise has shape {noise.shape}, expected (frames, height, width, channels)")
    if windows.num_frames != len(noise):
        raise ValueError(f"windows were planned for {windows.num_frames} frames, but noise has {len(noise)}")
    steps = plan_steps(sampler, schedule, num_inference_steps, windows, guidance, window_batch)

    def one_step(state, step):
        state, prediction = _step(denoise, state, step, sampler, guidance, rng)
        return state, Trajectory(state.latents, prediction) if return_trajectory else None

    state = sampler.initialize(noise.astype(jnp.float32), steps.tables)
    state, trajectory = lax.scan(one_step, state, steps)
    return (state.latents, trajectory) if return_trajectory else state.latents


def advance(
    denoise: Denoise,
    state: Any,
    steps: Steps,
    span: Int[Array, "2"],
    *,
    sampler: Sampler,
    guidance: Guidance | None = None,
    rng: Array | None = None,
) -> Any:
    """Some steps of a run: the sampler's state after them, from that before them.

    From `sampler.initialize(noise, steps.tables)` over all steps it does what `sample` does. It is one program for any
    part of a run, so that the host can tell how far it is: a program that called the host could not be kept on disk.

    Args:
      steps: from `plan_steps`.
      span: the first step, and the one to stop before.
      denoise, sampler, guidance, rng: as for `sample`; sampler and guidance are those that `steps` were planned for.
    """

    def one_step(index: Int[Array, ""], state: Any) -> Any:
        step = jax.tree.map(lambda column: jnp.asarray(column)[index], steps)
        return _step(denoise, state, step, sampler, guidance, rng)[0]

    return lax.fori_loop(span[0], span[1], one_step, state)


def advance_by_windows(
    denoise: Denoise,
    state: Any,
    steps: Steps,
    number: int,
    *,
    sampler: Sampler,
    guidance: Guidance | None = None,
    rng: Array | None = None,
) -> Any:
    """One step, driven by the host: one batch of windows is on the device after the other, and `denoise` can hand in
    what belongs to its frames. Of the video, only latents stay there. To be called outside of `jax.jit`.

    Args:
      denoise: as for `sample`, but with a compiled program inside; it is called with NumPy's `frames` and `step`.
      number: of the step, from 0.
      state, steps, sampler, guidance, rng: as for `advance`.
    """
    row = jax.tree.map(lambda column: np.asarray(column[number]), steps)
    guided = guidance is not None and (guidance.interval == (0, 1) or bool(row.guided))
    latents, predictions = _begin(state, row.tables, sampler=sampler, repeats=2 if guided else 1)
    for frames, weights in zip(row.frames, row.weights, strict=True):
        predictions = _add(predictions, denoise(_take(latents, frames), frames, row.number, guided), frames, weights)
    return _finish(state, predictions, row, guidance, rng, sampler=sampler)


@functools.partial(jax.jit, static_argnames=("sampler", "repeats"))
def _begin(
    state: Any, tables: Any, *, sampler: Sampler, repeats: int
) -> tuple[Float[Array, "t h w c"], Float[Array, "r t h w c"]]:
    """What the network sees, and predictions to add to, where the state is."""
    latents = sampler.scale_input(state, tables)
    return latents, jnp.zeros((repeats, *latents.shape))


@jax.jit
def _take(latents: Float[Array, "t h w c"], frames: Int[Array, "n l"]) -> Float[Array, "n l h w c"]:
    return latents[frames]


@functools.partial(jax.jit, donate_argnums=0)
def _add(
    total: Float[Array, "r t h w c"],
    predictions: Float[Array, "rn l h w c"],
    frames: Int[Array, "n l"],
    weights: Float[Array, "n l"],
) -> Float[Array, "r t h w c"]:
    """The weighted predictions of some windows on top of those before."""
    predictions = predictions.reshape(len(total), *frames.shape, *total.shape[2:])
    return total.at[:, frames].add(predictions * weights[..., None, None, None])


@functools.partial(jax.jit, static_argnames="sampler")
def _finish(
    state: Any,
    predictions: Float[Array, "r t h w c"],
    step: Steps,
    guidance: Guidance | None,
    rng: Array | None,
    *,
    sampler: Sampler,
) -> Any:
    return _update(state, _combine(predictions, guidance), step, sampler, rng)


def _step(
    denoise: Denoise, state: Any, step: Steps, sampler: Sampler, guidance: Guidance | None, rng: Array | None
) -> tuple[Any, Float[Array, "t h w c"]]:
    """The state after the step of one row of the tables, and what was predicted in it."""

    def predict(latents: Float[Array, "t h w c"], *, guided: bool) -> Float[Array, "t h w c"]:
        return _combine(_predict(denoise, latents, step, guided=guided), guidance)

    latents = sampler.scale_input(state, step.tables)
    if guidance is None or guidance.interval == (0, 1):
        prediction = predict(latents, guided=guidance is not None)
    else:
        prediction = lax.cond(
            step.guided, functools.partial(predict, guided=True), functools.partial(predict, guided=False), latents
        )
    return _update(state, prediction, step, sampler, rng), prediction


def _update(state: Any, prediction: Float[Array, "t h w c"], step: Steps, sampler: Sampler, rng: Array | None) -> Any:
    """The state after a step in which that was predicted."""
    noise = None
    if sampler.stochastic:
        if rng is None:
            raise ValueError(f"{sampler} draws noise in every step: pass rng, a key such as jax.random.key(0)")
        noise = jax.random.normal(jax.random.fold_in(rng, step.number), prediction.shape)
    return sampler.step(state, prediction, step.tables, noise)


def _combine(predictions: Float[Array, "r t h w c"], guidance: Guidance | None) -> Float[Array, "t h w c"]:
    """The guided prediction of two, or the one there is."""
    if guidance is None or len(predictions) == 1:
        return predictions[0]
    return guidance(*predictions)


def _predict(
    denoise: Denoise, latents: Float[Array, "t h w c"], step: Steps, *, guided: bool
) -> Float[Array, "r t h w c"]:
    """Predictions of all frames, averaged over the windows that hold them; zero for frames that are in none."""
    repeats = 2 if guided else 1

    def one_batch(frames: Int[Array, "n l"]) -> Float[Array, "r n l h w c"]:
        clips = latents[frames]
        predictions = denoise(clips, frames, step.number, guided)
        expected = (repeats * len(clips), *clips.shape[1:])
        if predictions.shape != expected:
            raise ValueError(f"denoise gave predictions of shape {predictions.shape}, expected {expected}")
        return predictions.reshape(repeats, *clips.shape)

    frames, weights = step.frames, step.weights
    predictions = lax.map(one_batch, frames) if len(frames) > 1 else one_batch(frames[0])[None]
    weighted = jnp.moveaxis(predictions, 0, 1) * weights[..., None, None, None]
    return jnp.zeros((repeats, *latents.shape)).at[:, frames].add(weighted)
