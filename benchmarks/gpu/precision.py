"""What lower precision changes in a video: every dtype against float32 with exact products."""

from typing import Any

import jax
import numpy as np

from aa_jax.animator import Animator
from aa_jax.bundled import BUNDLED
from aa_jax.data.synthetic.source import SyntheticSource
from aa_jax.evaluation.conditions import conditions
from aa_jax.evaluation.protocols import PROTOCOLS
from benchmarks.gpu.job import Job, seconds
from benchmarks.gpu.likeness import psnr
from benchmarks.gpu.model import make_animator, make_inputs, make_noise

# Dtype and, for float32, what its products are rounded to: on GPUs XLA may take TF32.
EXACT = ("float32", "highest")
OTHERS = (("bfloat16", None), ("float16", None), ("float32", "default"))


def run(job: Job) -> bool:
    """Records the true-size model with random weights, and the trained one of the package where it is there."""
    complete = True
    for model in ("random", "bundled") if (BUNDLED / "config.json").is_file() else ("random",):
        exact, expected = None, 0.0
        for dtype, products in (EXACT, *OTHERS):
            if job.left < expected:
                complete = False
                continue
            jax.config.update("jax_default_matmul_precision", products)
            jax.clear_caches()
            video, facts = _animate(job, model, dtype)
            # Of the first, which is the slowest by far; the others compile as long.
            expected = expected or facts["seconds"] / 2 + facts["compile_seconds"]
            exact = video if exact is None else exact
            job.record(
                "precision", model=model, dtype=dtype, products=products, psnr_to_float32=psnr(video, exact), **facts
            )
    return complete


def _animate(job: Job, model: str, dtype: str) -> tuple[np.ndarray, dict[str, Any]]:
    """A video, and what it took after the first."""
    scale = job.scale
    if model == "bundled":
        animator = Animator.from_pretrained(BUNDLED, dtype=dtype)
        inference = animator.config.inference
        frames, height, width, steps = 16, inference.height, inference.width, inference.num_inference_steps
        options: dict[str, Any] = {}
        clip = SyntheticSource(split="identity", num_clips=1, num_frames=frames, height=height, width=width)[0]
        reference, _, pose = conditions(clip, PROTOCOLS["characters-small"])
    else:
        animator = make_animator(scale, dtype=dtype)
        (height, width), frames, steps = scale.sizes[-1], scale.frames, scale.steps
        options = {
            "height": height, "width": width, "num_inference_steps": steps, "guidance_scale": scale.guidance,
            "latents": make_noise(scale, frames, height, width),
        }  # fmt: skip
        reference, pose = make_inputs(frames, height, width)
    seconds(lambda: animator(reference, pose, **options))
    found: list[np.ndarray] = []
    taken = seconds(lambda: found.append(animator(reference, pose, **options)))
    facts = {
        "height": height, "width": width, "frames": frames, "steps": steps, "seconds": taken,
        "compile_seconds": animator.programs.compile_seconds, 
    }  # fmt: skip
    return found[0], facts
