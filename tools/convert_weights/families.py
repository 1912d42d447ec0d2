"""What differs between the published systems: how their weights are run, and how their files are called.

Read off their public source: Moore-AnimateAnyone a914ef3, novitalabs/AnimateAnyone ee2cf9e, MusePose 61c52bd,
Open-AnimateAnyone 81db087,
AnimateDiff e92bd56, Stable Diffusion 1.5's scheduler config.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from aa_jax.config import InferenceConfig, build
from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.models.config import MotionConfig
from tools.convert_weights.detect import ClipOutput

STABLE_DIFFUSION = NoiseSchedule(beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False)
# AnimateDiff's inference-v1/2/3.yaml and Moore's inference_v1.yaml. Open's YAML lacks steps_offset; its pipeline sets
# it to 1.
EPSILON = NoiseSchedule(beta_schedule="linear", steps_offset=1)
# inference_v2.yaml of Moore and novita.
VELOCITY = NoiseSchedule(
    beta_schedule="linear",
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
    steps_offset=1,
)
PUBLISHED = InferenceConfig(
    num_inference_steps=30,
    windows="moore",
    window_length=24,
    window_overlap=4,
    previous_timestep="stride",
    bank_dtype="float16",
    clip_resize="squash",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
    """A published system.

    Attributes:
      schedule: noise schedule of its weights.
      inference: how its script runs them.
      files: role to the file or, with a slash at the end, folder in which the system looks for it.
      pe_length: positions of the temporal layers where the system rebuilds the tables that its file holds.
      clip_output: which of CLIP's results is the image embedding.
      dead_reference: the ReferenceNet's file lacks what follows the last attention site's norm.
    """

    schedule: NoiseSchedule
    inference: InferenceConfig = PUBLISHED
    files: Mapping[str, str]
    pe_length: int | None = None
    clip_output: ClipOutput = "image_embeds"
    dead_reference: bool = False


ANIMATE_ANYONE_FILES = {
    "reference_unet": "reference_unet.pth",
    "denoising_unet": "denoising_unet.pth",
    "motion_module": "motion_module.pth",
    "pose_guider": "pose_guider.pth",
    "vae": "vae/",
    "image_encoder": "image_encoder/",
}
FAMILIES = {
    "moore": System(schedule=VELOCITY, files=ANIMATE_ANYONE_FILES),
    "novita": System(
        schedule=VELOCITY,
        inference=dataclasses.replace(
            PUBLISHED, clip_resize="pad", draw_face=False, draw_feet=True, hand_joint_radius=2
        ),
        files=ANIMATE_ANYONE_FILES,
    ),
    # MusePose's windows do not wrap: it lengthens the clip until they fit.
    "musepose": System(
        schedule=dataclasses.replace(VELOCITY, beta_schedule="scaled_linear"),
        inference=dataclasses.replace(
            PUBLISHED,
            num_inference_steps=20,
            height=768,
            width=768,
            windows="uniform",
            window_length=48,
            draw_face=False,
        ),
        files=ANIMATE_ANYONE_FILES,
        pe_length=128,
    ),
    "open": System(
        schedule=EPSILON,
        inference=dataclasses.replace(
            PUBLISHED,
            num_inference_steps=25,
            guidance_scale=7.5,
            height=512,
            width=512,
            window_length=16,
            bank_dtype="float32",
            clip_resize="shortest_edge",
            reference_resample="bicubic",
            pose_resample="bicubic",
        ),
        files={
            "reference_unet": "referencenet_stage_1.ckpt",
            "denoising_unet": "unet_stage_1.ckpt",
            "motion_module": "motion_module.ckpt",
            "pose_guider": "poseguider_stage_1.ckpt",
            "vae": "vae/",
            "image_encoder": "clip-vit-base-patch32/",
        },
        clip_output="pooler_output",
        dead_reference=True,
    ),
    "sd": System(
        schedule=STABLE_DIFFUSION,
        inference=InferenceConfig(),
        files={"unet": "unet/", "vae": "vae/", "image_encoder": "image_encoder/"},
    ),
    "animatediff": System(schedule=EPSILON, inference=InferenceConfig(), files={"motion_module": "motion_module.ckpt"}),
}


def is_version_1(motion: MotionConfig | None) -> bool:
    """AnimateDiff's first motion module: trained on noise prediction, with ResNet norms over all frames."""
    return motion is not None and not motion.mid_block and motion.max_length == 24


def group_norm_over_frames(family: str, motion: MotionConfig | None, declared: Mapping[str, Any] | None) -> bool:
    """Whether ResNet norms run over all frames: where a system does not set `use_inflated_groupnorm`."""
    if motion is None:
        return False
    if declared is not None and family != "open":
        return not declared.get("unet_additional_kwargs", declared).get("use_inflated_groupnorm", False)
    return family == "open" or is_version_1(motion)


def schedule(family: str, motion: MotionConfig | None, declared: Mapping[str, Any] | None) -> NoiseSchedule:
    """The family's schedule, or what "noise_scheduler_kwargs" of the motion config says."""
    kwargs = (declared or {}).get("noise_scheduler_kwargs")
    if kwargs is not None:
        kwargs = dict(kwargs)
        if kwargs.pop("clip_sample", False):
            raise ValueError(
                "--motion-config has clip_sample true in noise_scheduler_kwargs, which is not supported: expected false"
            )
        return build(NoiseSchedule, kwargs, "noise_scheduler_kwargs of --motion-config")
    if is_version_1(motion) and family in ("moore", "novita"):
        return EPSILON
    return FAMILIES[family].schedule


def inference(family: str, motion: MotionConfig | None) -> InferenceConfig:
    """How the family's script runs its weights; windows are no longer than the temporal layers' positions."""
    found = FAMILIES[family].inference
    if motion is None or found.window_length <= motion.max_length:
        return found
    overlap = None if found.window_overlap is None else min(found.window_overlap, motion.max_length - 1)
    return dataclasses.replace(found, window_length=motion.max_length, window_overlap=overlap)
