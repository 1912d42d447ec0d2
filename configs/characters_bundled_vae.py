"""The VAE of the bundled model, 64x48, on two CPU cores.

XLA_FLAGS="--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false" \
    python -m aa_jax.train --config configs/characters_bundled_vae.py --workdir runs/characters_bundled/vae
"""  # fmt: skip

from aa_jax.config import ModelConfig
from aa_jax.data.regions import RegionWeights
from aa_jax.training.autoencoder import AutoencoderObjective
from aa_jax.training.config import CheckpointConfig, TrainConfig
from configs.characters import BUNDLED, muon


def config() -> TrainConfig:
    """8 images a step: of 2 clips the reference and 3 frames. The body, a fifth of the image, has the most detail."""
    return TrainConfig(
        model=ModelConfig(vae=BUNDLED.vae),
        trains=("vae.*",),
        data=BUNDLED.data(num_frames=3, regions=RegionWeights(hands=5.0, face=5.0, body=5.0)),
        autoencoder=AutoencoderObjective(reconstruction="l2", kl_weight=1e-6),
        optimizer=muon(4e-3),
        checkpoints=CheckpointConfig(every=500),
        validation=BUNDLED.validation(every=1000, num_clips=16),
        batch_size=2,
        steps=5000,
    )
