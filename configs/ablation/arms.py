"""The paper's ablation (section 4.4) on the synthetic characters: four ways to show the denoising UNet its reference.

All else is the same in every arm: data, seeds, steps, batch, widths, the VAE (that of the bundled model), and stage 2
of temporal layers alone. `python -m benchmarks.ablation` runs and scores them all.
"""  # fmt: skip

import dataclasses

from aa_jax.bundled import BUNDLED as BUNDLED_MODEL
from aa_jax.config import APPEARANCE, ModelConfig
from aa_jax.training.config import CheckpointConfig, ComputeConfig, Start, TrainConfig
from configs.characters import BUNDLED, CPU, FOREGROUND, muon

ARMS = {
    "clip": ("image_encoder",),
    "controlnet": ("controlnet",),
    "clip_controlnet": ("image_encoder", "controlnet"),
    "referencenet": ("image_encoder", "reference_unet"),
}
"""Of each arm the networks that see the reference."""
RUNS = "runs/ablation"
SMALL = dataclasses.replace(BUNDLED, unet=CPU.unet)


def model(arm: str, *, motion: bool = False) -> ModelConfig:
    """The arm's networks."""
    whole = dataclasses.replace(SMALL.model(motion=motion), controlnet=SMALL.unet)
    return dataclasses.replace(whole, **{name: None for name in APPEARANCE if name not in ARMS[arm]})


def stage1(arm: str) -> TrainConfig:
    """Single frames: 4 references x 8 targets."""
    return TrainConfig(
        model=model(arm),
        trains=("denoising_unet.*", "pose_guider.*", *(f"{name}.*" for name in ARMS[arm])),
        start=Start(vae=str(BUNDLED_MODEL)),
        data=SMALL.data(num_frames=8, regions=FOREGROUND),
        optimizer=muon(3e-3, ema_decay=0.99),
        compute=ComputeConfig(attention="xla"),
        checkpoints=CheckpointConfig(every=200),
        batch_size=4,
        steps=800,
    )


def stage2(arm: str) -> TrainConfig:
    """Temporal layers alone: 2 clips of 16 frames."""
    return dataclasses.replace(
        stage1(arm),
        model=model(arm, motion=True),
        trains=("denoising_unet.*.motion_modules.*",),
        start=Start(model=f"{RUNS}/{arm}/stage1/model"),
        data=SMALL.data(frames="clip", num_frames=16, regions=FOREGROUND),
        optimizer=muon(1e-3, warmup_steps=50, ema_decay=0.99),
        batch_size=2,
        steps=300,
    )
