"""Stage 1 of the ablation's arm "clip_controlnet"; see `configs/ablation/arms.py`.

python -m aa_jax.train --config configs/ablation/clip_controlnet_stage1.py \
    --workdir runs/ablation/clip_controlnet/stage1
"""

from aa_jax.training.config import TrainConfig
from configs.ablation.arms import stage1


def config() -> TrainConfig:
    """The run."""
    return stage1("clip_controlnet")
