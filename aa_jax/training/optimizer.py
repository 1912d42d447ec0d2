"""The optimizer of a run."""

from collections.abc import Mapping
from typing import Any

import optax
from optax.contrib import MuonDimensionNumbers, muon

from aa_jax.training.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate at each step: linear warm-up, then constant or a cosine down to 0 at `steps`."""
    if config.schedule == "constant":
        after: optax.Schedule = optax.constant_schedule(config.learning_rate)
    else:
        after = optax.cosine_decay_schedule(config.learning_rate, max(steps - config.warmup_steps, 1))
    if not config.warmup_steps:
        return after
    # The first step's rate is not 0: it would do nothing.
    first = config.learning_rate / config.warmup_steps
    warmup = optax.linear_schedule(first, config.learning_rate, max(config.warmup_steps - 1, 1))
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Gradient clipping, then AdamW (arXiv 1711.05101), Adafactor (arXiv 1804.04235) without momentum, or Muon (arXiv
    2502.16982), at absolute learning rates; weight decay is decoupled in all. Muon's updates are scaled to be as large
    as AdamW's, which, with Nesterov's momentum, takes care of what is no matrix."""
    rate = learning_rate(config, steps)
    if config.name == "adamw":
        update = optax.adamw(
            rate,
            b1=config.b1,
            b2=config.b2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mu_dtype=config.moment_dtype,
        )
    elif config.name == "muon":
        update = muon(
            rate,
            beta=config.b1,
            adam_b1=config.b1,
            adam_b2=config.b2,
            weight_decay=config.weight_decay,
            adam_weight_decay=config.weight_decay,
            mu_dtype=config.moment_dtype,
            muon_weight_dimension_numbers=_matrices,
            consistent_rms=0.2,
        )
    else:
        # Not `optax.adafactor`, whose weight decay is not multiplied by the learning rate.
        update = optax.chain(
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.add_decayed_weights(config.weight_decay),
            optax.scale_by_learning_rate(rate),
        )
    clip = optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm)
    return optax.chain(clip, update)


def _matrices(params: Mapping[str, Any]) -> dict[str, MuonDimensionNumbers | None]:
    """Kernels as matrices from inputs, of convolutions those of the whole window, to outputs; None for all else."""
    return {
        key: MuonDimensionNumbers(reduction_axis=tuple(range(value.ndim - 1)), output_axis=value.ndim - 1)
        if getattr(value, "ndim", 0) >= 2 and ".kernel" in f".{key}"  # optax hides others behind a mark
        else None
        for key, value in params.items()
    }
