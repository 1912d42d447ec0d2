"""The paper's first stage (section 4.1): ReferenceNet, pose guider and denoising UNet on single frames.

    python -m aa_jax.train --config configs/stage1.py --workdir runs/stage1

`models/sd15` holds SD-1.5's UNet, its VAE and CLIP's image encoder (`tools.convert_weights sd`), `data/train` the
records of your videos (`aa_jax.data prepare`). What is predicted the paper does not say: SD-1.5's own epsilon.
"""  # fmt: skip

import dataclasses

from aa_jax.data.sample import SampleConfig
from aa_jax.data.source import SourceConfig
from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.training.config import (
    CheckpointConfig,
    ComputeConfig,
    DataConfig,
    OptimizerConfig,
    Start,
    TrainConfig,
    ValidationConfig,
)  # fmt: skip
from configs import sd15


def config() -> TrainConfig:
    """Batch 64, 768x768, 30,000 steps, learning rate 1e-5."""
    model = sd15.config()
    assert model.denoising_unet is not None
    return TrainConfig(
        model=dataclasses.replace(
            model,
            denoising_unet=dataclasses.replace(model.denoising_unet, motion=None),
            schedule=NoiseSchedule(beta_schedule="scaled_linear", steps_offset=1),
            inference=dataclasses.replace(model.inference, height=768, width=768, draw_face=False),
        ),
        trains=("reference_unet.*", "denoising_unet.*", "pose_guider.*"),
        start=Start(model="models/sd15"),
        data=DataConfig(
            source=SourceConfig(kind="records", path="data/train"),
            sample=SampleConfig(height=768, width=768),
            num_workers=8,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-5),
        compute=ComputeConfig(dtype="bfloat16", frozen_dtype="bfloat16", remat="layers", fsdp=0),
        checkpoints=CheckpointConfig(every=1000),
        validation=ValidationConfig(
            every=1000, source=SourceConfig(kind="records", path="data/train", split="test"), num_frames=4
        ),
        batch_size=64,
        steps=30_000,
    )
