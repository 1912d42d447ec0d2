"""Stage 1 of the bundled model, 64x48, on two CPU cores: single frames, eight targets of each reference.

XLA_FLAGS="--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false" \
    python -m aa_jax.train --config configs/characters_bundled_stage1.py --workdir runs/characters_bundled/stage1
"""  # fmt: skip

from aa_jax.training.config import CheckpointConfig, ComputeConfig, Start, TrainConfig
from configs.characters import BUNDLED, FOREGROUND, muon


def config() -> TrainConfig:
    """4 references x 8 targets."""
    return TrainConfig(
        model=BUNDLED.model(),
        trains=("reference_unet.*", "denoising_unet.*", "pose_guider.*", "image_encoder.*"),
        start=Start(vae=f"{BUNDLED.runs}/vae/model"),
        data=BUNDLED.data(num_frames=8, regions=FOREGROUND),
        optimizer=muon(3e-3),
        compute=ComputeConfig(attention="xla"),
        checkpoints=CheckpointConfig(every=100),
        validation=BUNDLED.validation(every=500, num_clips=16, num_frames=2),
        batch_size=4,
        steps=3000,
    )
