"""Stage 2 of the bundled model, on two CPU cores: the temporal layers alone, on clips of sixteen frames.

XLA_FLAGS="--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false" \
    python -m aa_jax.train --config configs/characters_bundled_stage2.py --workdir runs/characters_bundled/stage2
"""  # fmt: skip

from aa_jax.training.config import CheckpointConfig, ComputeConfig, Start, TrainConfig
from configs.characters import BUNDLED, FOREGROUND, muon


def config() -> TrainConfig:
    """2 clips of 16 frames."""
    return TrainConfig(
        model=BUNDLED.model(motion=True),
        trains=("denoising_unet.*.motion_modules.*",),
        start=Start(model=f"{BUNDLED.runs}/stage1/model"),
        data=BUNDLED.data(frames="clip", num_frames=16, regions=FOREGROUND),
        optimizer=muon(1e-3, warmup_steps=50, ema_decay=0.995),
        compute=ComputeConfig(attention="xla"),
        checkpoints=CheckpointConfig(every=100),
        validation=BUNDLED.validation(every=500, num_clips=16, num_frames=16),
        batch_size=2,
        steps=1000,
    )
