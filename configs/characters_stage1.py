"""Stage 1 of the characters for one GPU: single frames, four targets of each reference.

python -m aa_jax.train --config configs/characters_stage1.py --workdir runs/characters/stage1
"""

from aa_jax.training.config import CheckpointConfig, ComputeConfig, OptimizerConfig, Start, TrainConfig
from configs.characters import FOREGROUND, GPU


def config() -> TrainConfig:
    """64 references x 4 targets."""
    return TrainConfig(
        model=GPU.model(),
        trains=("reference_unet.*", "denoising_unet.*", "pose_guider.*", "image_encoder.*"),
        start=Start(vae=f"{GPU.runs}/vae/model"),
        data=GPU.data(num_workers=8, num_frames=4, regions=FOREGROUND),
        optimizer=OptimizerConfig(
            learning_rate=2e-4, schedule="cosine", warmup_steps=1000, b2=0.99, weight_decay=0.0, ema_decay=0.9995
        ),
        compute=ComputeConfig(dtype="bfloat16"),
        checkpoints=CheckpointConfig(every=2000),
        validation=GPU.validation(every=2000, num_clips=16, num_frames=4),
        batch_size=64,
        steps=30_000,
    )
