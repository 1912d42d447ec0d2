"""Stage 1 of the characters for two CPU cores: single frames, four targets of each reference.

python -m aa_jax.train --config configs/characters_cpu_stage1.py --workdir runs/characters_cpu/stage1
"""

from aa_jax.training.config import CheckpointConfig, OptimizerConfig, Start, TrainConfig
from configs.characters import CPU, FOREGROUND


def config() -> TrainConfig:
    """4 references x 4 targets."""
    return TrainConfig(
        model=CPU.model(),
        trains=("reference_unet.*", "denoising_unet.*", "pose_guider.*", "image_encoder.*"),
        start=Start(vae=f"{CPU.runs}/vae/model"),
        data=CPU.data(num_frames=4, regions=FOREGROUND),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, schedule="cosine", warmup_steps=200, b2=0.99, weight_decay=0.0, ema_decay=0.998
        ),
        checkpoints=CheckpointConfig(every=450),
        validation=CPU.validation(every=900, num_clips=16, num_frames=2),
        batch_size=4,
        steps=3600,
    )
