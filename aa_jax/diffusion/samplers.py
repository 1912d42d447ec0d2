"""Samplers: from noise to a clean sample in few steps, each a table of numbers and a pure `step`.

All that depends on the schedule and the step number is computed once, on the host, into tables with one row per step.
What is left is a `step` of a few products and sums without a branch, so that a whole run is one `jax.lax.scan` over the
rows:

    state = sampler.initialize(noise, tables)
    for step, row in enumerate(rows of tables):
        prediction = network(sampler.scale_input(state, row), row.timesteps)
        state = sampler.step(state, prediction, row, fresh noise)
    state.latents

As in `schedule`: alpha and sigma are the coefficients of signal and noise, and sigma / alpha is the noise level.
"""

import dataclasses
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from aa_jax.diffusion.schedule import NoiseSchedule, PredictionType, x0_and_epsilon

PreviousTimestep = Literal["stride", "next"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
    """Numbers of every step, each field (steps,) float32; inside the scan, one row of them, each field a scalar.

    Attributes:
      timesteps: what the network is told of the noise level, 0 to T - 1; whole numbers but for `Euler` with "linspace"
        spacing.
      alpha: coefficient of the clean sample in what the network sees.
      sigma: coefficient of the noise in what the network sees.
      prediction_type: what the network predicts (static).
    """

    timesteps: Any
    alpha: Any
    sigma: Any
    prediction_type: PredictionType = dataclasses.field(metadata={"static": True})

    def x0_and_epsilon(
        self, prediction: Float[Array, "*s"], sample: Float[Array, "*s"]
    ) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
        """The clean sample and the noise that the prediction of this row implies."""
        return x0_and_epsilon(
            prediction, sample, alpha=self.alpha, sigma=self.sigma, prediction_type=self.prediction_type
        )


class State(NamedTuple):
    """What a sampler carries from step to step."""

    latents: Float[Array, "*s"]


@runtime_checkable
class Sampler(Protocol):
    """A sampling algorithm. Implementations are frozen dataclasses: hashable, a static argument under `jax.jit`."""

    @property
    def stochastic(self) -> bool:
        """Whether `step` needs fresh noise."""
        ...

    def tables(self, schedule: NoiseSchedule, num_inference_steps: int) -> Tables:
        """The numbers of every step, computed on the host."""
        ...

    def initialize(self, noise: Float[Array, "*s"], tables: Any) -> Any:
        """The state before the first step, from standard normal noise; any pytree with the attribute `latents`."""
        ...

    def scale_input(self, state: Any, row: Any) -> Float[Array, "*s"]:
        """What the network sees at this step: `alpha * x0 + sigma * epsilon`."""
        ...

    def step(
        self, state: Any, prediction: Float[Array, "*s"], row: Any, noise: Float[Array, "*s"] | None = None
    ) -> Any:
        """The state after this step, given the network's prediction and, where `stochastic`, standard normal noise."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIMTables(Tables):
    """Coefficients of x0, of the predicted noise and of fresh noise in the next sample."""

    next_alpha: Any
    next_sigma: Any
    noise_scale: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM:
    """Denoising diffusion implicit models (arXiv 2010.02502, equations 12 and 16).

    Attributes:
      eta: share of fresh noise in each step, 0 (deterministic) to 1 (as stochastic as DDPM).
      previous_timestep: where a step leads. "stride": `T // steps` below its timestep, as diffusers has it, and with it
        the systems built upon diffusers. Where `steps` does not divide T this is not the timestep of the next step: 30
        steps of 1000 go from 966 to 933, but the network is next told 932. "next": the timestep of the next step.
    """

    eta: float = 0.0
    previous_timestep: PreviousTimestep = "stride"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM.eta is {self.eta}, expected 0 to 1")
        if self.previous_timestep not in get_args(PreviousTimestep):
            raise ValueError(f"DDIM.previous_timestep is {self.previous_timestep!r}, expected 'stride' or 'next'")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def tables(self, schedule: NoiseSchedule, num_inference_steps: int) -> DDIMTables:
        """See `Sampler`.

        Raises:
          ValueError: an "epsilon" network is asked at zero SNR, where its prediction says nothing of the sample.
        """
        timesteps = schedule.timesteps(num_inference_steps)
        if self.previous_timestep == "stride":
            previous = timesteps - schedule.num_train_timesteps // num_inference_steps
        else:
            previous = np.append(timesteps[1:], -1)
        alphas_cumprod = schedule.alphas_cumprod.astype(np.float64)
        final = 1.0 if schedule.set_alpha_to_one else alphas_cumprod[0]
        now = alphas_cumprod[timesteps]
        then = np.where(previous >= 0, alphas_cumprod[previous], final)
        if schedule.prediction_type == "epsilon" and now[0] == 0:
            raise ValueError(
                f"DDIM starts at timestep {timesteps[0]} with zero SNR, where 'epsilon' predictions hold no sample: "
                "use 'leading' timestep_spacing, or a model and schedule with prediction_type 'v_prediction'"
            )
        variance = self.eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        return DDIMTables(
            timesteps=_float32(timesteps),
            alpha=_float32(np.sqrt(now)),
            sigma=_float32(np.sqrt(1 - now)),
            next_alpha=_float32(np.sqrt(then)),
            next_sigma=_float32(np.sqrt(np.maximum(1 - then - variance, 0))),
            noise_scale=_float32(np.sqrt(variance)),
            prediction_type=schedule.prediction_type,
        )

    def initialize(self, noise: Float[Array, "*s"], tables: DDIMTables) -> State:
        return State(noise)

    def scale_input(self, state: State, row: DDIMTables) -> Float[Array, "*s"]:
        return state.latents

    def step(
        self, state: State, prediction: Float[Array, "*s"], row: DDIMTables, noise: Float[Array, "*s"] | None = None
    ) -> State:
        x0, epsilon = row.x0_and_epsilon(prediction, state.latents)
        latents = row.next_alpha * x0 + row.next_sigma * epsilon
        return State(latents + row.noise_scale * noise if self.stochastic else latents)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolverTables(Tables):
    """Coefficients of the sample and of the extrapolated x0 in the next sample, and how far x0 is extrapolated."""

    decay: Any
    gain: Any
    extrapolation: Any


class MultistepState(NamedTuple):
    """State of a two-step method: also the x0 of the step before (zeros before the first, which does not use it)."""

    latents: Float[Array, "*s"]
    previous_x0: Float[Array, "*s"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolverMultistep:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2), with the defaults of diffusers' scheduler of the same name.

    Second order by the midpoint rule; first order in the first step, which has no predecessor, and in the last, which
    goes to a noise level of zero. "linspace" and "leading" timesteps are those of one step more, without the last of
    them.
    """

    @property
    def stochastic(self) -> bool:
        return False

    def tables(self, schedule: NoiseSchedule, num_inference_steps: int) -> DPMSolverTables:
        """See `Sampler`.

        Raises:
          ValueError: "linspace" or "leading" spacing, and as many steps as timesteps.
        """
        if schedule.timestep_spacing == "trailing":
            timesteps = schedule.timesteps(num_inference_steps)
        elif num_inference_steps == schedule.num_train_timesteps:
            raise ValueError(
                f"DPMSolverMultistep with {schedule.timestep_spacing!r} spacing takes at most "
                f"{schedule.num_train_timesteps - 1} steps, got {num_inference_steps}"
            )
        else:
            timesteps = schedule.timesteps(num_inference_steps + 1)[:-1]
        levels = schedule.noise_levels.astype(np.float64)[timesteps]
        next_levels = np.append(levels[1:], 0.0)
        alpha, next_alpha = _alpha(levels), _alpha(next_levels)
        # The steps h are taken in lambda = log(alpha / sigma) = -log(level); exp(-h) is the ratio of two levels.
        h = -np.diff(np.log(levels))
        extrapolation = np.zeros(num_inference_steps)
        extrapolation[1:-1] = h[1:] / (2 * h[:-1])
        return DPMSolverTables(
            timesteps=_float32(timesteps),
            alpha=_float32(alpha),
            sigma=_float32(levels * alpha),
            decay=_float32((next_levels * next_alpha) / (levels * alpha)),
            gain=_float32(next_alpha * (1 - next_levels / levels)),
            extrapolation=_float32(extrapolation),
            prediction_type=schedule.prediction_type,
        )

    def initialize(self, noise: Float[Array, "*s"], tables: DPMSolverTables) -> MultistepState:
        return MultistepState(latents=noise, previous_x0=jnp.zeros_like(noise))

    def scale_input(self, state: MultistepState, row: DPMSolverTables) -> Float[Array, "*s"]:
        return state.latents

    def step(
        self,
        state: MultistepState,
        prediction: Float[Array, "*s"],
        row: DPMSolverTables,
        noise: Float[Array, "*s"] | None = None,
    ) -> MultistepState:
        x0, _ = row.x0_and_epsilon(prediction, state.latents)
        midpoint_x0 = x0 + row.extrapolation * (x0 - state.previous_x0)
        return MultistepState(latents=row.decay * state.latents + row.gain * midpoint_x0, previous_x0=x0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EulerTables(Tables):
    """The noise level that a step leads to, and (static) the standard deviation of the initial latents."""

    next_level: Any
    init_noise_sigma: float = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler:
    """Euler's method on the probability flow ODE (arXiv 2206.00364, algorithm 1 without its second order).

    As diffusers' `EulerDiscreteScheduler`. Latents are variance-exploding, x0 + level * epsilon, so that the ODE reads
    dx / d(level) = epsilon; the network sees them scaled to variance-preserving ones. "linspace" timesteps are not
    rounded.
    """

    @property
    def stochastic(self) -> bool:
        return False

    def tables(self, schedule: NoiseSchedule, num_inference_steps: int) -> EulerTables:
        """See `Sampler`."""
        timesteps = schedule.timesteps(num_inference_steps).astype(np.float32)
        if schedule.timestep_spacing == "linspace":
            timesteps = np.linspace(0, schedule.num_train_timesteps - 1, num_inference_steps, dtype=np.float32)[::-1]
        levels = np.interp(timesteps, np.arange(schedule.num_train_timesteps), schedule.noise_levels)
        alpha = _alpha(levels)
        # "leading" timesteps stop short of pure noise: the variance of the clean sample is still to be made up for.
        init_noise_sigma = levels[0] if schedule.timestep_spacing != "leading" else np.sqrt(levels[0] ** 2 + 1)
        return EulerTables(
            timesteps=_float32(timesteps),
            alpha=_float32(alpha),
            sigma=_float32(levels * alpha),
            next_level=_float32(np.append(levels[1:], 0.0)),
            init_noise_sigma=float(init_noise_sigma),
            prediction_type=schedule.prediction_type,
        )

    def initialize(self, noise: Float[Array, "*s"], tables: EulerTables) -> State:
        return State(noise * tables.init_noise_sigma)

    def scale_input(self, state: State, row: EulerTables) -> Float[Array, "*s"]:
        return state.latents * row.alpha

    def step(
        self, state: State, prediction: Float[Array, "*s"], row: EulerTables, noise: Float[Array, "*s"] | None = None
    ) -> State:
        x0, epsilon = row.x0_and_epsilon(prediction, self.scale_input(state, row))
        # Equals x + (next_level - level) * epsilon, without the cancellation of large numbers at a level of thousands.
        return State(x0 + row.next_level * epsilon)


SAMPLERS: dict[str, Sampler] = {"ddim": DDIM(), "dpm++": DPMSolverMultistep(), "euler": Euler()}


def get_sampler(name: str) -> Sampler:
    """The sampler of that name, with its default options.

    Raises:
      ValueError: unknown name.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler is {name!r}, expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def _alpha(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signal coefficient at a noise level sigma / alpha, given alpha^2 + sigma^2 = 1."""
    return 1 / np.sqrt(1 + level**2)


def _float32(values: NDArray) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)
