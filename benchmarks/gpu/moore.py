"""The published PyTorch pipeline, Moore-AnimateAnyone's, from a checkout of it, with random weights.

It asks for libraries of 2023. diffusers 0.24 runs with the present transformers and huggingface_hub where these have
the four names that it imports and never calls.
"""

import sys
import types
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import torch
import transformers.utils

from aa_jax.config import ModelConfig
from aa_jax.models.config import needed
from benchmarks.gpu.diffusers import record_peer
from benchmarks.gpu.job import Job, repeated, seconds
from benchmarks.gpu.model import make_inputs
from benchmarks.torch_peer import compile_for

MISSING: tuple[tuple[types.ModuleType, str], ...] = (
    (huggingface_hub.constants, "hf_cache_home"),
    (huggingface_hub, "HfFolder"),
    (huggingface_hub, "cached_download"),
    (transformers.utils, "FLAX_WEIGHTS_NAME"),
)
# As its configuration for inference says.
MOTION = {
    "use_motion_module": True,
    "use_inflated_groupnorm": True,
    "unet_use_cross_frame_attention": False,
    "unet_use_temporal_attention": False,
    "motion_module_resolutions": (1, 2, 4, 8),
    "motion_module_decoder_only": False,
    "motion_module_type": "Vanilla",
}


def run(job: Job) -> None:
    scale, (height, width) = job.scale, (job.options["height"], job.options["width"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # float16, as it is published; CPUs are slow in it.
    dtype = torch.float16 if device == "cuda" else torch.float32
    pipeline = make_pipeline(
        scale.model, job.options["moore"], job.options["moore_packages"], device=device, dtype=dtype
    )
    if job.options["compiled"]:
        pipeline.denoising_unet.forward = compile_for(device, pipeline.denoising_unet.forward)
        pipeline.vae.decode = compile_for(device, pipeline.vae.decode)
    reference, pose = make_inputs(scale.frames, height, width)
    from PIL import Image

    images = [Image.fromarray(frame) for frame in pose]
    video = None

    def animate(steps: int = scale.steps) -> None:
        nonlocal video
        video = pipeline(
            Image.fromarray(reference), images, width, height, scale.frames, steps, scale.guidance,
            generator=torch.manual_seed(0),
        ).videos  # fmt: skip

    # Two steps warm up as well as all: it has one shape.
    first = seconds(lambda: animate(min(2, scale.steps)))
    taken = repeated(animate, max(1, scale.repeats // 2), job.left)
    if not np.isfinite(np.asarray(video)).all():
        job.record("note", text="with random weights, the published pipeline's float16 overflows")
    record_peer(job, "Moore-AnimateAnyone", first, taken, None, str(dtype).removeprefix("torch."))


def make_pipeline(config: ModelConfig, checkout: str, packages: str, *, device: str, dtype: Any) -> Any:
    """The pipeline of `scripts/pose2vid.py` there, without its files of weights."""
    for module, name in MISSING:
        if not hasattr(module, name):
            setattr(module, name, "")
    # Before any other diffusers.
    sys.path[:0] = [packages, checkout]
    from diffusers import AutoencoderKL, DDIMScheduler
    from src.models.pose_guider import PoseGuider
    from src.models.unet_2d_condition import UNet2DConditionModel
    from src.models.unet_3d import UNet3DConditionModel
    from src.pipelines.pipeline_pose2vid_long import Pose2VideoPipeline
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from tools.convert_weights.export import declared_config

    def declared(name: str) -> dict[str, Any]:
        fields = declared_config(getattr(config, name))
        return {key: value for key, value in fields.items() if not key.startswith("_") and key != "architectures"}

    def in_three_dimensions(fields: dict[str, Any]) -> dict[str, Any]:
        blocks = ("down_block_types", "up_block_types")
        return fields | {side: tuple(name.replace("2D", "3D") for name in fields[side]) for side in blocks}

    unet, guider, schedule = needed(config.denoising_unet, "denoising UNet"), config.pose_guider, config.schedule
    motion, guider = needed(unet.motion, "temporal layers"), needed(guider, "pose guider")
    kwargs = {
        "num_attention_heads": motion.num_attention_heads,
        "num_transformer_block": 1,
        "attention_block_types": ("Temporal_Self", "Temporal_Self"),
        "temporal_position_encoding": True,
        "temporal_position_encoding_max_len": motion.max_length,
        "temporal_attention_dim_div": 1,
    }
    with torch.device(device):
        networks = {
            "vae": AutoencoderKL(**declared("vae")),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**declared("image_encoder"))),
            "reference_unet": UNet2DConditionModel(**declared("reference_unet")),
            "denoising_unet": UNet3DConditionModel(
                **in_three_dimensions(declared("denoising_unet")), **MOTION,
                motion_module_mid_block=motion.mid_block, motion_module_kwargs=kwargs,
            ),
            "pose_guider": PoseGuider(guider.out_channels, block_out_channels=guider.block_out_channels),
        }  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=schedule.beta_start, beta_end=schedule.beta_end, beta_schedule=schedule.beta_schedule,
        clip_sample=False, steps_offset=schedule.steps_offset, prediction_type=schedule.prediction_type,
        rescale_betas_zero_snr=schedule.rescale_betas_zero_snr, timestep_spacing=schedule.timestep_spacing,
    )  # fmt: skip
    for network in networks.values():
        network.to(device, dtype).eval()
    pipeline = Pose2VideoPipeline(**networks, scheduler=scheduler).to(device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
