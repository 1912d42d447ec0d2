"""Stage 1 of the bundled model, 64x48, on two CPU cores: single frames, eight targets of each reference.

XLA_FLAGS="--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false" \
    python -m aa_jax.train --config configs/characters_bundled_stage1.py --workdir runs/characters_bundled/stage1
"""  # fmt: skip

from aa_jax.training.config import CheckpointConfig, ComputeConfig, OptimizerConfig, Start, TrainConfig
from configs.characters import BUNDLED, FOREGROUND


def config() -> TrainConfig:
    """4 references x 8 targets."""
    return TrainConfig(
        model=BUNDLED.model(),
        trains=("reference_unet.*", "denoising_unet.*", "pose_guider.*", "image_encoder.*"),
        start=Start(vae=f"{BUNDLED.runs}/vae/model"),
        data=BUNDLED.data(num_frames=8, regions=FOREGROUND),
        optimizer=OptimizerConfig(
            name="muon",
            learning_rate=3e-3,
            schedule="cosine",
            warmup_steps=100,
            b1=0.95,
            b2=0.99,
            weight_decay=0.0,
            ema_decay=0.998,
        ),
        compute=ComputeConfig(attention="xla"),
        checkpoints=CheckpointConfig(every=100),
        validation=BUNDLED.validation(every=500, num_clips=16, num_frames=2),
        batch_size=4,
        steps=4000,
    )
