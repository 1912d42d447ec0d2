"""The same animation in PyTorch by diffusers' networks, with the same weights and the same work."""

import numpy as np
import torch

from aa_jax import preprocess
from aa_jax.models.config import needed
from aa_jax.request import Request
from benchmarks.gpu.job import Job, repeated, seconds, spread
from benchmarks.gpu.likeness import psnr
from benchmarks.gpu.model import make_inputs, make_noise
from benchmarks.random_weights import made_tensors
from benchmarks.torch_peer import Peer


def run(job: Job) -> None:
    scale, (height, width) = job.scale, (job.options["height"], job.options["width"])
    config = scale.model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    peer = Peer(
        config, lambda name: made_tensors(config, name), device=device, dtype=getattr(torch, scale.dtype),
        compiled=job.options["compiled"],
    )  # fmt: skip
    request = Request.of(config, height=height, width=width, num_inference_steps=scale.steps)
    reference, pose = make_inputs(scale.frames, height, width)
    encoder = needed(config.image_encoder, "image encoder")
    arguments = (
        preprocess.vae_pixels(reference),
        preprocess.clip_pixels(reference, encoder.image_size, config.inference),
        preprocess.pose_pixels(pose, needed(config.pose_guider, "pose guider")),
        make_noise(scale, scale.frames, height, width),
        request.sampler.tables(config.schedule, scale.steps),
        scale.guidance,
    )
    video = None

    def animate() -> None:
        nonlocal video
        video = peer(*arguments)

    first = seconds(animate)
    taken = repeated(animate, scale.repeats, job.left)
    record_peer(job, "diffusers", first, taken, video, scale.dtype)


def record_peer(job: Job, peer: str, first: float, taken: list[float], video: np.ndarray | None, dtype: str) -> None:
    """Keep a peer's figures; how like its video is to ours, where the weights are the same and ours is there."""
    height, width = job.options["height"], job.options["width"]
    ours = job.work / f"video_{height}x{width}.npy"
    likeness = psnr(video, np.load(ours)) if video is not None and ours.is_file() else None
    on_gpu = torch.cuda.is_available()
    job.record(
        "peer",
        peer=peer,
        compiled=job.options["compiled"],
        height=height,
        width=width,
        frames=job.scale.frames,
        steps=job.scale.steps,
        dtype=dtype,
        first_seconds=first,
        seconds=spread(taken),
        psnr_to_ours=likeness,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
        reserved_bytes=torch.cuda.max_memory_reserved() if on_gpu else None,
    )
