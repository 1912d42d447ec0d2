"""Stage 2 of the characters for two CPU cores: the temporal layers alone, on clips of eight frames.

python -m aa_jax.train --config configs/characters_cpu_stage2.py --workdir runs/characters_cpu/stage2
"""

from aa_jax.training.config import CheckpointConfig, OptimizerConfig, Start, TrainConfig
from configs.characters import CPU, FOREGROUND


def config() -> TrainConfig:
    """2 clips of 8 frames."""
    return TrainConfig(
        model=CPU.model(motion=True),
        trains=("denoising_unet.*.motion_modules.*",),
        start=Start(model=f"{CPU.runs}/stage1/model"),
        data=CPU.data(frames="clip", num_frames=8, regions=FOREGROUND),
        optimizer=OptimizerConfig(
            learning_rate=5e-4, schedule="cosine", warmup_steps=100, b2=0.99, weight_decay=0.0, ema_decay=0.995
        ),
        checkpoints=CheckpointConfig(every=300),
        validation=CPU.validation(every=600, num_clips=16, num_frames=8),
        batch_size=2,
        steps=1200,
    )
