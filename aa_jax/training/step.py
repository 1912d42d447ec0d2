"""One training step: losses, gradients, update, average. Every stage has this one."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from aa_jax.training.config import OptimizerConfig
from aa_jax.training.lora import merge_lora
from aa_jax.training.objective import Batch, Losses
from aa_jax.training.optimizer import learning_rate
from aa_jax.training.state import Params, TrainState

Metrics = dict[str, Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
# Streams of random numbers of a step.
SAMPLES, SHARED = 0, 1


class Loss(Protocol):
    """`DenoisingLoss` or `AutoencoderLoss`."""

    def __call__(self, params: Params, batch: Batch, keys: Key[Array, " b"], shared_key: Key[Array, ""]) -> Losses: ...


def make_step(
    loss: Loss, optimizer: optax.GradientTransformation, config: OptimizerConfig, *, steps: int, seed: int
) -> Step:
    """The step, to be compiled by the caller.

    All that is random in step s follows from (seed, s) and a sample's place in the batch, so that neither the number of
    devices nor `accumulation` changes it. Where the loss or the gradient is not finite, weights, optimizer and average
    stay what they are, and the metric "finite" is false.

    Returns:
      A function of state and batch that gives the next state, and scalars: "loss", the loss's parts, "grad_norm",
      "learning_rate", "finite"; and "sample_losses" (b,).
    """
    rate = learning_rate(config, steps)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        rows = len(batch["pose"])
        keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(key, SAMPLES), row))(jnp.arange(rows))
        shared_key = jax.random.fold_in(key, SHARED)

        def mean_loss(trained: Params, part: tuple[Batch, Array]) -> tuple[Float[Array, ""], Losses]:
            losses = loss(merge_lora(trained | state.frozen), *part, shared_key)
            return losses.total.mean(), losses

        gradients, losses = _gradients(mean_loss, state.trained, (batch, keys), config.accumulation)
        norm = optax.tree.norm(gradients)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.trained)
        trained = optax.apply_updates(state.trained, updates)
        ema = _average(state, trained, config.ema_decay)
        finite = jnp.isfinite(losses.total).all() & jnp.isfinite(norm)

        def if_finite(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)

        metrics = {"loss": losses.total.mean(), **{name: part.mean() for name, part in losses.parts.items()}}
        metrics |= {"grad_norm": norm, "learning_rate": jnp.asarray(rate(state.step)), "finite": finite}
        return TrainState(
            step=state.step + 1,
            trained=if_finite(trained, state.trained),
            frozen=state.frozen,
            optimizer=if_finite(optimizer_state, state.optimizer),
            ema=if_finite(ema, state.ema),
        ), metrics | {"sample_losses": losses.total}

    return step


def init_state(
    trained: Params, frozen: Params, optimizer: optax.GradientTransformation, config: OptimizerConfig
) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trained=trained,
        frozen=frozen,
        optimizer=optimizer.init(trained),
        # A copy: the step may write the new weights where the old ones lay.
        ema=jax.tree.map(jnp.copy, trained) if config.ema_decay is not None else {},
    )


def _gradients(
    mean_loss: Callable[..., tuple[Array, Losses]], trained: Params, rows: tuple[Batch, Array], parts: int
) -> tuple[Params, Losses]:
    """The gradient of the mean loss over all rows, and the rows' losses, computed in so many parts."""
    gradient = jax.grad(mean_loss, has_aux=True)
    if parts == 1:
        return gradient(trained, rows)
    # Row i goes to part i mod parts: on many devices each then has its share of every part.
    split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), rows)

    def add(total: Params, part: tuple[Batch, Array]) -> tuple[Params, Losses]:
        found, losses = gradient(trained, part)
        return jax.tree.map(jnp.add, total, found), losses

    total, losses = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, trained), split)
    losses = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1), losses)
    return jax.tree.map(lambda x: x / parts, total), losses


def _average(state: TrainState, trained: Params, decay: float | None) -> Params:
    """The moving average, which forgets its beginning: its decay starts at 0.1 and grows to `decay`."""
    if decay is None:
        return {}
    now = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return jax.tree.map(lambda average, new: now * average + (1 - now) * new, state.ema, trained)
