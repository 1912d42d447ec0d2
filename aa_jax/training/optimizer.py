"""The optimizer of a run."""

from collections.abc import Mapping
from typing import Any

import optax
from jax.sharding import Mesh

from aa_jax.training.config import OptimizerConfig
from aa_jax.training.muon import scale_by_muon


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


def make_optimizer(config: OptimizerConfig, steps: int, mesh: Mesh | None = None) -> optax.GradientTransformation:
    """Gradient clipping, then AdamW (arXiv 1711.05101), Adafactor (arXiv 1804.04235) without momentum, or Muon (arXiv
    2502.16982), at absolute learning rates; weight decay is decoupled in all. Muon's updates are scaled to be as large
    as AdamW's, which, with Nesterov's momentum, takes care of what is no matrix; the devices of `mesh` share its
    work."""
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
        matrices = optax.chain(
            scale_by_muon(config.b1, dtype=config.moment_dtype, mesh=mesh),
            optax.add_decayed_weights(config.weight_decay),
            optax.scale_by_learning_rate(rate),
        )
        others = optax.nadamw(
            rate,
            b1=config.b1,
            b2=config.b2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mu_dtype=config.moment_dtype,
        )
        update = optax.partition({"matrices": matrices, "others": others}, _kinds)
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


def _kinds(params: Mapping[str, Any]) -> dict[str, str]:
    """Kernels are matrices."""
    return {
        key: "matrices" if value.ndim >= 2 and ".kernel" in f".{key}" else "others" for key, value in params.items()
    }
