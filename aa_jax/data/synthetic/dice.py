"""Random numbers that are a pure function of an integer: one stream for each thing that is drawn."""

import copy
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# What is drawn, each from its own stream of numbers: equal integers in two of them have nothing to do with each other.
STREAMS = ("identity", "motion", "camera", "background")


class Dice:
    """Numbers of one stream at one integer, handed out in order.

    They are drawn at once and cut into pieces: a call of `jax.random` for each would take seconds to compile.
    """

    def __init__(self, stream: str, number: Int[Array, ""] | int, size: int) -> None:
        key = jax.random.fold_in(jax.random.key(1 + STREAMS.index(stream)), number)
        self._numbers = jax.random.uniform(key, (size,))
        self._next = 0

    def copy(self) -> "Dice":
        """Another with the same numbers still to come."""
        return copy.copy(self)

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Uniform in [low, high)."""
        count = math.prod(shape)
        if self._next + count > self._numbers.size:
            raise ValueError(f"{self._numbers.size} numbers are drawn, more are asked for: make the stream longer")
        taken = self._numbers[self._next : self._next + count].reshape(shape)
        self._next += count
        return low + (high - low) * taken

    def normal(self, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Standard normal."""
        return jax.scipy.special.ndtri(jnp.clip(self.uniform(shape=shape), 1e-6, 1 - 1e-6))

    def below(self, count: int, shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        """A whole number, 0 <= number < count."""
        return jnp.minimum((self.uniform(shape=shape) * count).astype(jnp.int32), count - 1)

    def chance(self, probability: float, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """1 with this probability, else 0."""
        return (self.uniform(shape=shape) < probability).astype(jnp.float32)
