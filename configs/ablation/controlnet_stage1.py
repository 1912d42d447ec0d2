"""Stage 1 of the ablation's arm "controlnet"; see `configs/ablation/arms.py`.

python -m aa_jax.train --config configs/ablation/controlnet_stage1.py \
    --workdir runs/ablation/controlnet/stage1
"""

from aa_jax.training.config import TrainConfig
from configs.ablation.arms import stage1


def config() -> TrainConfig:
    """The run."""
    return stage1("controlnet")
