"""Moore-AnimateAnyone's first stage (its configs/train/stage1.yaml), without its faults.

Its learning: v-prediction with zero terminal SNR, min-SNR 5, noise offset 0.05, AdamW, batch 4 on each of its GPUs.
Its networks: a pose guider that starts as ControlNet's (`start.pose_guider`), a ReferenceNet that starts as SD image
variations' UNet (`start.reference_unet`) and whose last level does not train.
"""

import dataclasses

from aa_jax.data.sample import SampleConfig
from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.models.config import PoseGuiderConfig
from aa_jax.pose.draw import DrawStyle
from aa_jax.training.config import DataConfig, OptimizerConfig, Start, TrainConfig
from aa_jax.training.objective import Objective
from configs import stage1


def config() -> TrainConfig:
    """768x768, 30,000 steps, learning rate 1e-5, seed 12580."""
    paper = stage1.config()
    return dataclasses.replace(
        paper,
        model=dataclasses.replace(
            paper.model,
            pose_guider=PoseGuiderConfig(architecture="controlnet"),
            schedule=NoiseSchedule(
                beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True,
                timestep_spacing="trailing", steps_offset=1,
            ),
            inference=dataclasses.replace(paper.model.inference, draw_face=True),
        ),
        trains=(*paper.trains, "!reference_unet.up_blocks.3.*"),
        start=Start(model="models/sd15", reference_unet="models/sd-image-variations", pose_guider="models/openpose"),
        data=DataConfig(
            source=paper.data.source,
            sample=SampleConfig(height=768, width=768, margin=30, style=DrawStyle()),
            num_workers=paper.data.num_workers,
        ),
        objective=Objective(min_snr_gamma=5.0, noise_offset=0.05),
        optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=1),
        batch_size=4,
        seed=12580,
    )  # fmt: skip
