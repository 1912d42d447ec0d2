"""Moore-AnimateAnyone's second stage (its configs/train/stage2.yaml), without its faults."""

import dataclasses

from aa_jax.data.sample import SampleConfig
from aa_jax.models.config import MotionConfig
from aa_jax.pose.draw import DrawStyle
from aa_jax.training.config import DataConfig, Start, TrainConfig
from configs import moore_stage1


def config() -> TrainConfig:
    """512x512, 24 frames at a distance of 4, batch 1, 10,000 steps."""
    first = moore_stage1.config()
    assert first.model.denoising_unet is not None
    return dataclasses.replace(
        first,
        model=dataclasses.replace(
            first.model,
            denoising_unet=dataclasses.replace(first.model.denoising_unet, motion=MotionConfig()),
            inference=dataclasses.replace(first.model.inference, height=512, width=512),
        ),
        trains=("denoising_unet.*.motion_modules.*",),
        start=Start(model="runs/moore_stage1/model", motion_module="models/animatediff"),
        data=DataConfig(
            source=first.data.source,
            sample=SampleConfig(height=512, width=512, frames="clip", num_frames=24, stride=4, style=DrawStyle()),
            num_workers=first.data.num_workers,
        ),
        compute=dataclasses.replace(first.compute, fsdp=1),
        validation=dataclasses.replace(first.validation, num_frames=24),
        batch_size=1,
        steps=10_000,
    )
