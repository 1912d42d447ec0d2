"""The synthetic characters: networks and data that the stages in `configs/characters_*.py` share."""

import dataclasses

from aa_jax.config import InferenceConfig, ModelConfig
from aa_jax.data.regions import RegionWeights
from aa_jax.data.sample import SampleConfig
from aa_jax.data.source import SourceConfig
from aa_jax.diffusion.schedule import NoiseSchedule, PredictionType
from aa_jax.models.config import CLIPVisionConfig, MotionConfig, PoseGuiderConfig, UNetConfig, VAEConfig
from aa_jax.pose.draw import DrawStyle
from aa_jax.training.config import DataConfig, OptimizerConfig, ValidationConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """What differs between a GPU, an hour of two CPU cores, and the hours of them that the bundled model took.

    Attributes:
      height, width: of frames.
      unet: both UNets, without temporal layers.
      vae: and its downscaling, which the pose guider shares.
      guider: channels of the pose guider's levels.
      encoder: in CLIP's place; it trains with stage 1.
      num_frames: of the clips.
      records: where the clips are; None renders them when they are asked for, always others.
      runs: folder of the runs.
      prediction_type: what the denoising UNet predicts, see `NoiseSchedule`.
      num_inference_steps, guidance_scale: as the model is run.
    """

    height: int
    width: int
    unet: UNetConfig
    vae: VAEConfig
    guider: tuple[int, ...]
    encoder: CLIPVisionConfig
    num_frames: int
    records: str | None
    runs: str
    prediction_type: PredictionType = "v_prediction"
    num_inference_steps: int = 20
    guidance_scale: float = 1.4

    def model(self, *, motion: bool = False) -> ModelConfig:
        """All networks."""
        temporal = MotionConfig(
            num_attention_heads=self.unet.num_attention_heads, max_length=32, norm_num_groups=self.unet.norm_num_groups
        )
        return ModelConfig(
            denoising_unet=dataclasses.replace(self.unet, motion=temporal if motion else None),
            reference_unet=self.unet,
            pose_guider=PoseGuiderConfig(
                block_out_channels=self.guider, out_channels=self.unet.block_out_channels[0]
            ),
            vae=self.vae,
            image_encoder=self.encoder,
            schedule=NoiseSchedule(
                beta_schedule="squaredcos_cap_v2", prediction_type=self.prediction_type, rescale_betas_zero_snr=True,
                timestep_spacing="trailing",
            ),
            inference=InferenceConfig(
                height=self.height, width=self.width, num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale, window_length=16, draw_face=False, draw_scale_to=512,
                reference_resample="bicubic", pose_resample="bicubic",
            ),
        )  # fmt: skip

    def data(self, *, num_workers: int = 0, **sample: object) -> DataConfig:
        """The characters; `sample` are fields of `SampleConfig`."""
        rendered = SourceConfig(
            kind="synthetic", num_clips=100_000, num_frames=self.num_frames, height=self.height, width=self.width
        )
        return DataConfig(
            source=rendered if self.records is None else SourceConfig(kind="records", path=self.records),
            num_workers=num_workers,
            sample=SampleConfig(
                height=self.height,
                width=self.width,
                clip_size=self.encoder.image_size,
                latent_downscale=self.vae.downscale,
                style=DrawStyle(face=False, scale_to=512),
                **sample,  # type: ignore[arg-type]
            ),
        )

    def validation(self, **fields: object) -> ValidationConfig:
        """Characters that training does not see, rendered; `fields` are `ValidationConfig`'s."""
        source = SourceConfig(
            kind="synthetic", split="identity", num_clips=64, num_frames=self.num_frames, height=self.height,
            width=self.width,
        )  # fmt: skip
        return ValidationConfig(source=source, guidance_scale=self.guidance_scale, **fields)  # type: ignore[arg-type]


# The character counts three times, as it does in the scores.
FOREGROUND = RegionWeights(hands=3.0, face=3.0, body=3.0)


def muon(learning_rate: float, *, warmup_steps: int = 100, ema_decay: float = 0.998) -> OptimizerConfig:
    """From scratch, small networks learn two to three times as fast with it as with AdamW."""
    return OptimizerConfig(
        name="muon", learning_rate=learning_rate, schedule="cosine", warmup_steps=warmup_steps, b1=0.95, b2=0.99,
        weight_decay=0.0, ema_decay=ema_decay,
    )  # fmt: skip


GPU = Preset(
    height=256,
    width=192,
    unet=UNetConfig(
        in_channels=4, out_channels=4, block_out_channels=(128, 256, 512, 512), cross_attention_dim=256,
        attention_levels=(True, True, True, False),
    ),
    vae=VAEConfig(block_out_channels=(32, 64, 128, 128)),
    guider=(16, 32, 96, 256),
    encoder=CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4, image_size=112,
        patch_size=14, projection_dim=256,
    ),
    num_frames=48,
    records="data/characters",
    runs="runs/characters",
)  # fmt: skip

CPU = Preset(
    height=64,
    width=48,
    unet=UNetConfig(
        in_channels=12, out_channels=12, block_out_channels=(32, 64), attention_levels=(True, True), layers_per_block=1,
        cross_attention_dim=64, num_attention_heads=2, norm_num_groups=8,
    ),
    vae=VAEConfig(latent_channels=12, block_out_channels=(16, 32, 64), layers_per_block=1, norm_num_groups=4),
    guider=(8, 16, 32),
    encoder=CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, image_size=48, patch_size=8,
        projection_dim=64,
    ),
    num_frames=16,
    records="data/characters_cpu",
    runs="runs/characters_cpu",
)  # fmt: skip

BUNDLED = dataclasses.replace(
    CPU,
    unet=dataclasses.replace(CPU.unet, block_out_channels=(64, 128)),
    records=None,
    runs="runs/characters_bundled",
    # Of twelve noisy channels, small networks learn the image much sooner than the noise.
    prediction_type="sample",
    num_inference_steps=2,
    guidance_scale=1.0,
)
