"""The small VAE of the characters for two CPU cores, 64x48.

    python -m aa_jax.data prepare synthetic --num-clips 1500 --num-frames 16 --height 64 --width 48 \
        --output data/characters_cpu
    python -m aa_jax.train --config configs/characters_cpu_vae.py --workdir runs/characters_cpu/vae
"""  # fmt: skip

from aa_jax.config import ModelConfig
from aa_jax.training.autoencoder import AutoencoderObjective
from aa_jax.training.config import CheckpointConfig, OptimizerConfig, TrainConfig
from configs.characters import CPU


def config() -> TrainConfig:
    """6 images a step: of 3 clips the reference and a frame."""
    return TrainConfig(
        model=ModelConfig(vae=CPU.vae),
        trains=("vae.*",),
        data=CPU.data(num_frames=1),
        autoencoder=AutoencoderObjective(reconstruction="l2", kl_weight=1e-6),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, schedule="cosine", warmup_steps=100, b2=0.99, weight_decay=0.0, ema_decay=0.995
        ),
        checkpoints=CheckpointConfig(every=500),
        validation=CPU.validation(every=500, num_clips=16),
        batch_size=3,
        steps=2500,
    )
