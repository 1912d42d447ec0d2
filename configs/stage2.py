"""The paper's second stage (section 4.1): the temporal layers alone, on clips of 24 frames.

    python -m aa_jax.train --config configs/stage2.py --workdir runs/stage2

All other weights are stage 1's (`runs/stage1/model`), the temporal layers start as AnimateDiff's
(`tools.convert_weights animatediff`).
"""  # fmt: skip

import dataclasses

from aa_jax.data.sample import SampleConfig
from aa_jax.models.config import MotionConfig
from aa_jax.training.config import DataConfig, Start, TrainConfig
from configs import stage1


def config() -> TrainConfig:
    """Batch 4, 24 frames, 10,000 steps, learning rate 1e-5."""
    first = stage1.config()
    assert first.model.denoising_unet is not None
    return dataclasses.replace(
        first,
        model=dataclasses.replace(
            first.model, denoising_unet=dataclasses.replace(first.model.denoising_unet, motion=MotionConfig())
        ),
        trains=("denoising_unet.*.motion_modules.*",),
        start=Start(model="runs/stage1/model", motion_module="models/animatediff"),
        data=DataConfig(
            source=first.data.source,
            sample=SampleConfig(height=768, width=768, frames="clip", num_frames=24),
            num_workers=first.data.num_workers,
        ),
        validation=dataclasses.replace(first.validation, num_frames=24),
        batch_size=4,
        steps=10_000,
    )
