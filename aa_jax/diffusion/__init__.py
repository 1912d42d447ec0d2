"""Diffusion: noise schedule, samplers, guidance, windows over long videos, and the loop that joins them.

Knows nothing of networks, files or weights: a network is a function `denoise(latents, frames, step)`.
"""

from aa_jax.diffusion.buckets import bucket, padded_plan
from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.sample import (
    STATIC_ARGNAMES,
    Denoise,
    Steps,
    Trajectory,
    advance,
    advance_by_windows,
    plan_steps,
    sample,
)
from aa_jax.diffusion.samplers import DDIM, SAMPLERS, DPMSolverMultistep, Euler, Sampler, get_sampler
from aa_jax.diffusion.schedule import NoiseSchedule, x0_and_epsilon
from aa_jax.diffusion.windows import (
    Moore,
    Paper,
    Shifted,
    Triangular,
    Uniform,
    WindowPlan,
    Windows,
    get_windows,
    moore_windows,
)

__all__ = [
    "DDIM",
    "SAMPLERS",
    "STATIC_ARGNAMES",
    "DPMSolverMultistep",
    "Denoise",
    "Euler",
    "Guidance",
    "Moore",
    "NoiseSchedule",
    "Paper",
    "Sampler",
    "Shifted",
    "Steps",
    "Trajectory",
    "Triangular",
    "Uniform",
    "WindowPlan",
    "Windows",
    "advance",
    "advance_by_windows",
    "bucket",
    "get_sampler",
    "get_windows",
    "moore_windows",
    "padded_plan",
    "plan_steps",
    "sample",
    "x0_and_epsilon",
]
