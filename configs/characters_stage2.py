"""Stage 2 of the characters for one GPU: the temporal layers alone, on clips of 16 frames.

python -m aa_jax.train --config configs/characters_stage2.py --workdir runs/characters/stage2
"""

from aa_jax.training.config import CheckpointConfig, ComputeConfig, OptimizerConfig, Start, TrainConfig
from configs.characters import FOREGROUND, GPU


def config() -> TrainConfig:
    """16 clips of 16 frames."""
    return TrainConfig(
        model=GPU.model(motion=True),
        trains=("denoising_unet.*.motion_modules.*",),
        start=Start(model=f"{GPU.runs}/stage1/model"),
        data=GPU.data(num_workers=8, frames="clip", num_frames=16, regions=FOREGROUND),
        optimizer=OptimizerConfig(
            learning_rate=2e-4, schedule="cosine", warmup_steps=500, b2=0.99, weight_decay=0.0, ema_decay=0.999
        ),
        compute=ComputeConfig(dtype="bfloat16", frozen_dtype="bfloat16"),
        checkpoints=CheckpointConfig(every=1000),
        validation=GPU.validation(every=1000, num_clips=16, num_frames=16),
        batch_size=16,
        steps=10_000,
    )
