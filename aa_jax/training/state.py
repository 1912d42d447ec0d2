"""What changes in a training run."""

import dataclasses

import jax
import optax
from jaxtyping import Array, Int

Params = dict[str, jax.Array]
"""Parameters by "network.path", as model folders name them: `denoising_unet.conv_in.kernel`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """All that a step reads and writes. Random numbers and the place in the data follow from `step`.

    Attributes:
      step: steps done.
      trained: float32.
      frozen: what the networks need besides; never changed.
      optimizer: of `trained`.
      ema: moving average of `trained`; empty without one.
    """

    step: Int[Array, ""]
    trained: Params
    frozen: Params
    optimizer: optax.OptState
    ema: Params

    @property
    def params(self) -> Params:
        """What the networks are made of."""
        return self.trained | self.frozen

    @property
    def best(self) -> Params:
        """The same, averaged where there is an average: what is validated and exported."""
        return self.params | self.ema
