"""A published model on your own videos, on one GPU: all that stage 1 trains.

    python -m aa_jax.train --config configs/finetune.py --workdir runs/mine --start.model models/moore

`models/moore` is a converted model; `videos/` has NAME.mp4 with NAME.npz beside it (`aa_jax.pose extract`). Adafactor
and recomputed activations keep it within 80 GB.
"""

import dataclasses

from aa_jax.data.source import SourceConfig
from aa_jax.training.config import CheckpointConfig, DataConfig, OptimizerConfig, Start, TrainConfig, ValidationConfig
from configs import moore_stage1


def config() -> TrainConfig:
    """512x512, batch 8 in 8 parts, 2,000 steps."""
    moore = moore_stage1.config()
    return dataclasses.replace(
        moore,
        model=dataclasses.replace(
            moore.model, inference=dataclasses.replace(moore.model.inference, height=512, width=512)
        ),
        start=Start(model="models/moore"),
        data=DataConfig(
            source=SourceConfig(kind="folder", path="videos"),
            sample=dataclasses.replace(moore.data.sample, height=512, width=512),
        ),
        optimizer=OptimizerConfig(name="adafactor", learning_rate=1e-5, weight_decay=0.0, accumulation=8),
        compute=dataclasses.replace(moore.compute, fsdp=1),
        checkpoints=CheckpointConfig(every=500, keep_last=1),
        validation=ValidationConfig(),
        batch_size=8,
        steps=2_000,
    )
