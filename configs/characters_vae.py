"""The VAE of the characters for one GPU, 256x192.

    python -m aa_jax.data prepare synthetic --num-clips 20000 --num-frames 48 --num-workers 16 --output data/characters
    python -m aa_jax.train --config configs/characters_vae.py --workdir runs/characters/vae
"""  # fmt: skip

from aa_jax.config import ModelConfig
from aa_jax.training.autoencoder import AutoencoderObjective
from aa_jax.training.config import CheckpointConfig, ComputeConfig, OptimizerConfig, TrainConfig
from configs.characters import GPU


def config() -> TrainConfig:
    """32 x 4 images a step."""
    return TrainConfig(
        model=ModelConfig(vae=GPU.vae),
        trains=("vae.*",),
        data=GPU.data(num_workers=8, num_frames=3),
        autoencoder=AutoencoderObjective(kl_weight=1e-6),
        optimizer=OptimizerConfig(
            learning_rate=3e-4, schedule="cosine", warmup_steps=500, b2=0.99, weight_decay=0.0, ema_decay=0.999
        ),
        compute=ComputeConfig(dtype="bfloat16"),
        checkpoints=CheckpointConfig(every=2000),
        validation=GPU.validation(every=2000, num_clips=16),
        batch_size=32,
        steps=20_000,
    )
