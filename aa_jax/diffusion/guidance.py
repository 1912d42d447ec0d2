"""Classifier-free guidance: the step from the unconditional to the conditional prediction, lengthened."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance (arXiv 2207.12598), `u + scale * (c - u)` in diffusers' convention.

    A pytree: under `jax.jit`, `scale` is traced, so that a new value needs no compilation; `rescale` and `interval` are
    static.

    Attributes:
      scale: diffusers' `guidance_scale`; 1 is the conditional prediction. Guidance is on where it is above 1
        (`enabled`).
      rescale: diffusers' `guidance_rescale`, 0 to 1: how far the standard deviation of the guided prediction is brought
        back to that of the conditional one (arXiv 2305.08891, section 3.4). Both are taken over the whole clip: all
        frames, pixels and channels.
      interval: the part of the sampling run that is guided, as fractions of its steps: 0 is its start, pure noise, 1
        its end. A step is guided if all of it lies in the interval; in the others the unconditional half is not
        computed. The interval of arXiv 2404.07724, which that paper gives in noise levels; fractions mean the same for
        any schedule and sampler.
    """

    scale: float | Float[Array, ""] = 3.5
    rescale: float = dataclasses.field(default=0.0, metadata={"static": True})
    interval: tuple[float, float] = dataclasses.field(default=(0.0, 1.0), metadata={"static": True})

    def __post_init__(self) -> None:
        # Under jit `scale` is a tracer: only numbers can be checked.
        if isinstance(self.scale, int | float) and not (self.scale >= 0 and math.isfinite(self.scale)):
            raise ValueError(
                f"Guidance.scale is {self.scale}, expected a finite number, 0 or more (1 or less: no guidance)"
            )
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"Guidance.rescale is {self.rescale}, expected 0 to 1")
        is_pair = isinstance(self.interval, tuple) and len(self.interval) == 2
        if not is_pair or not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"Guidance.interval is {self.interval}, expected (start, end) with 0 <= start < end <= 1")

    @property
    def enabled(self) -> bool:
        """Whether the scale asks for guidance: `sample` takes None if it does not. Not under jit."""
        return bool(self.scale > 1)

    def guided_steps(self, num_inference_steps: int) -> NDArray[np.bool_]:
        """Which steps are guided, (num_inference_steps,).

        Raises:
          ValueError: none is.
        """
        start, end = self.interval
        step = np.arange(num_inference_steps)
        guided = (step / num_inference_steps >= start) & ((step + 1) / num_inference_steps <= end)
        if not guided.any():
            raise ValueError(
                f"Guidance.interval {self.interval} holds none of {num_inference_steps} steps: "
                "widen it, or set scale to 1"
            )
        return guided

    def __call__(
        self, unconditional: Float[Array, "t h w c"], conditional: Float[Array, "t h w c"]
    ) -> Float[Array, "t h w c"]:
        """The guided prediction of one clip."""
        guided = unconditional + self.scale * (conditional - unconditional)
        if self.rescale == 0:
            return guided
        rescaled = guided * (jnp.std(conditional) / jnp.std(guided))
        return self.rescale * rescaled + (1 - self.rescale) * guided
