"""The same as `configs/finetune.py` by low-rank changes of all attention matrices: a few million parameters train.

    python -m aa_jax.train --config configs/finetune_lora.py --workdir runs/mine --start.model models/moore

The model folder that comes out has the changes added to its weights.
"""

import dataclasses

from aa_jax.training.config import Lora, OptimizerConfig, TrainConfig
from configs import finetune


def config() -> TrainConfig:
    """Rank 16, AdamW, learning rate 1e-4."""
    return dataclasses.replace(
        finetune.config(),
        lora=Lora(rank=16),
        optimizer=OptimizerConfig(learning_rate=1e-4, weight_decay=0.0, accumulation=8),
    )
