"""Stage 2 of the ablation's arm "clip_controlnet"; see `configs/ablation/arms.py`.

python -m aa_jax.train --config configs/ablation/clip_controlnet_stage2.py \
    --workdir runs/ablation/clip_controlnet/stage2
"""

from aa_jax.training.config import TrainConfig
from configs.ablation.arms import stage2


def config() -> TrainConfig:
    """The run."""
    return stage2("clip_controlnet")
