"""The forward process: how much of a clean sample and how much noise there is at each timestep.

With alpha = sqrt(alphas_cumprod[t]) and sigma = sqrt(1 - alphas_cumprod[t]), a noisy sample is
`alpha * x0 + sigma * epsilon`. A network predicts epsilon, x0 ("sample") or v = `alpha * epsilon - sigma * x0`; given
the noisy sample, the three say the same.

Option names and numbers are those of diffusers' schedulers, so that published weights find the schedule they were
trained with.
"""

import dataclasses
import math
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import NDArray

BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
PredictionType = Literal["epsilon", "v_prediction", "sample"]
TimestepSpacing = Literal["leading", "trailing", "linspace"]

# Smallest positive float16. A terminal alphas_cumprod of zero is replaced by it where a noise level sigma / alpha must
# be finite.
_SMALLEST_ALPHAS_CUMPROD = 2.0**-24


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """Discrete variance-preserving noise schedule. Hashable: a static argument under `jax.jit`.

    Attributes:
      num_train_timesteps: number of timesteps T; timesteps are 0 (nearly clean) to T - 1 (nearly or wholly noise).
      beta_start: first beta, unused by "squaredcos_cap_v2".
      beta_end: last beta, unused by "squaredcos_cap_v2".
      beta_schedule: "linear" in beta, "scaled_linear" (linear in sqrt(beta), Stable Diffusion's) or "squaredcos_cap_v2"
        (cosine).
      prediction_type: what the network predicts.
      rescale_betas_zero_snr: shift and scale sqrt(alphas_cumprod) so that the last timestep is pure noise (arXiv
        2305.08891, algorithm 1).
      timestep_spacing: how inference timesteps are spread over the training timesteps (arXiv 2305.08891, table 2).
      steps_offset: added to the timesteps of "leading" spacing.
      set_alpha_to_one: DDIM's last step goes to alphas_cumprod = 1 (True) or to that of timestep 0 (False).
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: BetaSchedule = "linear"
    prediction_type: PredictionType = "epsilon"
    rescale_betas_zero_snr: bool = False
    timestep_spacing: TimestepSpacing = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True

    def __post_init__(self) -> None:
        for name, options in (
            ("beta_schedule", get_args(BetaSchedule)),
            ("prediction_type", get_args(PredictionType)),
            ("timestep_spacing", get_args(TimestepSpacing)),
        ):
            value = getattr(self, name)
            if value not in options:
                raise ValueError(f"NoiseSchedule.{name} is {value!r}, expected one of {', '.join(options)}")
        if self.num_train_timesteps < 2:
            raise ValueError(f"NoiseSchedule.num_train_timesteps is {self.num_train_timesteps}, expected 2 or more")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"NoiseSchedule betas go from {self.beta_start} to {self.beta_end}, "
                "expected 0 < beta_start <= beta_end < 1"
            )
        if self.steps_offset < 0:
            raise ValueError(f"NoiseSchedule.steps_offset is {self.steps_offset}, expected 0 or more")

    @property
    def betas(self) -> NDArray[np.float32]:
        """Variance added by each timestep, (T,) float32."""
        if self.beta_schedule == "linear":
            betas = _linspace(self.beta_start, self.beta_end, self.num_train_timesteps)
        elif self.beta_schedule == "scaled_linear":
            betas = _linspace(math.sqrt(self.beta_start), math.sqrt(self.beta_end), self.num_train_timesteps) ** 2
        else:
            betas = _cosine_betas(self.num_train_timesteps)
        return _rescale_zero_terminal_snr(betas) if self.rescale_betas_zero_snr else betas

    @property
    def alphas_cumprod(self) -> NDArray[np.float32]:
        """Signal's share of the variance at each timestep, (T,) float32, falling; 0 at last with zero terminal SNR."""
        return _cumprod(1 - self.betas)

    @property
    def noise_levels(self) -> NDArray[np.float32]:
        """sigma / alpha at each timestep, (T,) float32, rising and finite: diffusers' `sigmas`."""
        alphas_cumprod = self.alphas_cumprod
        if self.rescale_betas_zero_snr:
            alphas_cumprod[-1] = _SMALLEST_ALPHAS_CUMPROD
        return np.sqrt((1 - alphas_cumprod) / alphas_cumprod)

    def timesteps(self, num_inference_steps: int) -> NDArray[np.int64]:
        """Timesteps to visit, falling, (num_inference_steps,) int64.

        Raises:
          ValueError: `num_inference_steps` is not in 1..T, or `steps_offset` leads beyond T - 1.
        """
        total, steps = self.num_train_timesteps, num_inference_steps
        if not 1 <= steps <= total:
            raise ValueError(f"num_inference_steps is {steps}, expected 1 to {total} (num_train_timesteps)")
        if self.timestep_spacing == "leading":
            timesteps = np.arange(steps)[::-1] * (total // steps) + self.steps_offset
        elif self.timestep_spacing == "trailing":
            # Rounding can give `arange` one element too many (e.g. 61 steps of 1000): hence the slice.
            timesteps = np.arange(total, 0, -total / steps)[:steps].round().astype(np.int64) - 1
        else:
            timesteps = np.linspace(0, total - 1, steps)[::-1].round().astype(np.int64)
        if timesteps[0] >= total:
            raise ValueError(
                f"{steps} steps of 'leading' spacing with steps_offset {self.steps_offset} start at timestep "
                f"{timesteps[0]}, but the last one is {total - 1}: use fewer steps or a smaller steps_offset"
            )
        return timesteps

    def add_noise(
        self, sample: Float[Array, "..."], noise: Float[Array, "..."], t: Int[Array, "*b"]
    ) -> Float[Array, "..."]:
        """Noisy samples at timesteps `t`, whose axes are the leading ones of `sample`; NaN where `t` is T or more."""
        alpha, sigma = self._alpha_sigma(t, sample.ndim)
        return alpha * sample + sigma * noise

    def velocity(
        self, sample: Float[Array, "..."], noise: Float[Array, "..."], t: Int[Array, "*b"]
    ) -> Float[Array, "..."]:
        """The target v of a "v_prediction" network (arXiv 2202.00512, appendix D); arguments as `add_noise`."""
        alpha, sigma = self._alpha_sigma(t, sample.ndim)
        return alpha * noise - sigma * sample

    def _alpha_sigma(self, t: Int[Array, "*b"], ndim: int) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """alpha and sigma at `t`, with axes of size one appended up to `ndim`."""
        t = jnp.asarray(t)
        # Without mode="fill" an index beyond the end would silently give the last entry.
        alphas_cumprod = jnp.asarray(self.alphas_cumprod).at[t].get(mode="fill", fill_value=jnp.nan)
        alphas_cumprod = alphas_cumprod.reshape(t.shape + (1,) * (ndim - t.ndim))
        return jnp.sqrt(alphas_cumprod), jnp.sqrt(1 - alphas_cumprod)


def x0_and_epsilon(
    prediction: Float[Array, "..."],
    sample: Float[Array, "..."],
    *,
    alpha: Float[Array, ""] | float,
    sigma: Float[Array, ""] | float,
    prediction_type: PredictionType,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The clean sample and the noise that a prediction implies: `sample = alpha * x0 + sigma * epsilon` holds for them.

    Args:
      prediction: output of the network.
      sample: what the network saw, before any conditioning: `alpha * x0 + sigma * epsilon` of the true x0 and epsilon.
      alpha: signal coefficient, 0 to 1; "epsilon" needs it above 0.
      sigma: noise coefficient, 0 to 1, `alpha ** 2 + sigma ** 2 = 1`; "sample" needs it above 0.
      prediction_type: what the network predicts.
    """
    if prediction_type == "epsilon":
        return (sample - sigma * prediction) / alpha, prediction
    if prediction_type == "sample":
        return prediction, (sample - alpha * prediction) / sigma
    return alpha * sample - sigma * prediction, alpha * prediction + sigma * sample


def _linspace(start: float, end: float, num: int) -> NDArray[np.float32]:
    """Evenly spaced float32 numbers as PyTorch makes them: float32 step, from both ends, one rounding each.

    NumPy's differ in the last bit, which rescaling to zero terminal SNR magnifies at the noisy end.
    """
    first, last = np.float32(start), np.float32(end)
    step = np.float64((last - first) / np.float32(num - 1))
    index = np.arange(num)
    return np.where(index < num // 2, first + step * index, last - step * (num - 1 - index)).astype(np.float32)


def _cosine_betas(num: int) -> NDArray[np.float32]:
    """Of alphas_cumprod = cos^2((t / T + 0.008) / 1.008 * pi / 2), at most 0.999 (arXiv 2102.09672, section 3.2)."""
    alpha_bar = np.cos((np.arange(num + 1) / num + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999).astype(np.float32)


def _rescale_zero_terminal_snr(betas: NDArray[np.float32]) -> NDArray[np.float32]:
    """arXiv 2305.08891, algorithm 1: the first sqrt(alphas_cumprod) stays, the last becomes 0, linearly in between."""
    root = np.sqrt(_cumprod(1 - betas))
    rescaled = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    alphas_cumprod = rescaled**2
    return 1 - np.concatenate([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])


def _cumprod(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cumulative product in float64, as PyTorch does it, so that the rounding of T products does not add up."""
    return np.cumprod(values, dtype=np.float64).astype(np.float32)
