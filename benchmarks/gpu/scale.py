"""What is measured: the model and the sizes, once in earnest, once as far as CPUs get in minutes, and once in seconds,
to see that all of it works."""

import dataclasses

from aa_jax.bundled import BUNDLED
from aa_jax.config import InferenceConfig, ModelConfig
from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.models.config import CLIPVisionConfig, MotionConfig, PoseGuiderConfig, UNetConfig, VAEConfig
from aa_jax.weights import load_config

Size = tuple[int, int]
# As the published pipelines have it.
SCHEDULE = NoiseSchedule(
    prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", steps_offset=1
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A stage's measurements.

    Attributes:
      config: the file in configs/ whose stage it is.
      size: height and width of the images.
      num_frames: of a sample.
      trials: `compute.remat` and batch size of each measurement, the most telling one first.
    """

    config: str
    size: Size
    num_frames: int
    trials: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """One set of measurements. Sizes are (height, width) in pixels.

    Attributes:
      model: the networks' shapes; the weights are random.
      dtype: of weights and computation, where nothing else is said.
      sizes: of the videos that are measured end to end, the first of them against PyTorch too.
      frames: of these videos.
      steps: of denoising.
      repeats: of a measurement after the first, of which the median counts.
      swept_sizes, swept_frames, swept_steps: of the cost tables.
      swept_frames_steps: of denoising, where frames are swept.
      training: the stages.
      square: side of the matrices of which the device's own limit is measured, and
      copied: bytes of the copy for the same of its memory.
    """

    name: str
    model: ModelConfig
    dtype: str
    sizes: tuple[Size, ...]
    frames: int
    steps: int
    repeats: int
    swept_sizes: tuple[Size, ...]
    swept_frames: tuple[int, ...]
    swept_steps: tuple[int, ...]
    swept_frames_steps: int
    training: tuple[Training, ...]
    square: int
    copied: int
    guidance: float = 3.5

    @property
    def small(self) -> bool:
        """Whether figures mean nothing, and only that there are some counts."""
        return self.name == "tiny"


_SD15 = ModelConfig(
    denoising_unet=UNetConfig(motion=MotionConfig()),
    reference_unet=UNetConfig(),
    pose_guider=PoseGuiderConfig(),
    vae=VAEConfig(),
    image_encoder=CLIPVisionConfig(),
    schedule=SCHEDULE,
)
_UNET = UNetConfig(
    block_out_channels=(32, 64), attention_levels=(True, False), layers_per_block=1, cross_attention_dim=32,
    norm_num_groups=8,
)  # fmt: skip
_TINY = ModelConfig(
    # diffusers' and the published temporal layers have 32 groups, whatever the other norms have.
    denoising_unet=dataclasses.replace(_UNET, motion=MotionConfig()),
    reference_unet=_UNET,
    pose_guider=PoseGuiderConfig(block_out_channels=(8, 8, 8, 8), out_channels=32),
    vae=VAEConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4),
    image_encoder=CLIPVisionConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, projection_dim=32
    ),
    schedule=SCHEDULE,
    # Sizes that the UNets cannot halve evenly.
    inference=InferenceConfig(height=72, width=64, window_length=4),
)

FULL = Scale(
    name="full",
    model=_SD15,
    dtype="bfloat16",
    sizes=((784, 512), (512, 512)),
    frames=24,
    steps=20,
    repeats=5,
    swept_sizes=((256, 256), (384, 384), (768, 768), (1024, 1024)),
    swept_frames=(24, 48, 120, 240, 600, 1200, 2400),
    swept_steps=(4, 10, 20, 30, 50),
    swept_frames_steps=4,
    training=(
        Training(
            config="stage1",
            size=(768, 768),
            num_frames=1,
            trials=(("layers", 16), ("products", 16), ("layers", 32), ("none", 8), ("layers", 64)),
        ),
        Training(
            config="stage2",
            size=(512, 512),
            num_frames=24,
            trials=(("layers", 4), ("products", 2), ("layers", 2), ("none", 1)),
        ),
    ),
    square=8192,
    copied=4 << 30,
)
CPU = dataclasses.replace(
    FULL,
    name="cpu",
    model=load_config(BUNDLED),
    dtype="float32",
    sizes=((128, 96), (64, 48)),
    swept_sizes=((96, 72), (192, 144), (256, 192)),
    training=(),
)
TINY = Scale(
    name="tiny",
    model=_TINY,
    dtype="float32",
    sizes=((72, 64),),
    frames=2,
    steps=2,
    repeats=2,
    swept_sizes=((64, 64),),
    swept_frames=(2, 6),
    swept_steps=(1, 2),
    swept_frames_steps=1,
    training=(
        Training(config="stage1", size=(64, 64), num_frames=1, trials=(("layers", 2), ("none", 1))),
        Training(config="stage2", size=(64, 64), num_frames=2, trials=(("products", 1),)),
    ),
    square=256,
    copied=1 << 20,
)
SCALES = {scale.name: scale for scale in (FULL, CPU, TINY)}
