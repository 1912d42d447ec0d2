"""What decides the programs of an animation: sizes, sampler, guidance and windows, with the model's defaults filled
in."""

import dataclasses
from typing import Any, Literal, NamedTuple

import numpy as np

from aa_jax.config import ModelConfig
from aa_jax.diffusion.buckets import padded_plan
from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.sample import ROWS, Steps, plan_steps
from aa_jax.diffusion.samplers import DDIM, Sampler, get_sampler
from aa_jax.diffusion.windows import Windows, get_windows
from aa_jax.models.config import needed

Mode = Literal["exact", "fast", "turbo"]
FAST: dict[str, Any] = {"sampler": "dpm++", "num_inference_steps": 10}
MODES: dict[Mode, dict[str, Any]] = {"exact": {}, "fast": FAST, "turbo": {**FAST, "reuse": 2}}
"""What each mode puts in place of the model's own values, where a call does not say. A model that needs no more steps
than that runs as it is: fewer evaluations of it are another animation."""


class Denoising(NamedTuple):
    """How some frames are denoised.

    Attributes:
      steps: the run's tables.
      num_frames: of the arrays, some of which may be cut off the result.
      true_frames: see `Conditions.num_frames`.
      whole: whether one window holds all frames.
    """

    steps: Steps
    num_frames: int
    true_frames: np.int32 | None
    whole: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The options of an animation; see `Animator.__call__`."""

    config: ModelConfig
    height: int
    width: int
    num_inference_steps: int
    guidance: Guidance
    sampler: Sampler
    windows: Windows
    window_batch: int
    frame_batch: int
    layer_frames: int | None
    bucket_frames: bool
    reuse: int

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        *,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        sampler: str | Sampler | None = None,
        windows: str | Windows | None = None,
        window_length: int | None = None,
        window_overlap: int | None = None,
        window_batch: int = 1,
        frame_batch: int = 4,
        layer_frames: int | None = None,
        bucket_frames: bool = True,
        mode: Mode = "exact",
        reuse: int | None = None,
    ) -> "Request":
        """From a call's options, None for the model's own.

        Raises:
          ValueError: one of them is out of range.
        """
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}, expected one of {', '.join(MODES)}")
        inference = config.inference
        preset = MODES[mode] if inference.num_inference_steps > FAST["num_inference_steps"] else {}
        sampler = preset.get("sampler") if sampler is None else sampler
        if num_inference_steps is None:
            num_inference_steps = preset.get("num_inference_steps")
        reuse = preset.get("reuse", 1) if reuse is None else reuse
        height = inference.height if height is None else height
        width = inference.width if width is None else width
        steps = inference.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance = Guidance(
            scale=float(inference.guidance_scale if guidance_scale is None else guidance_scale),
            rescale=guidance_rescale,
            interval=guidance_interval,
        )
        check_size(height, width, config.downscale)
        counts = {
            "num_inference_steps": steps,
            "window_batch": window_batch,
            "frame_batch": frame_batch,
            "layer_frames": layer_frames,
            "reuse": reuse,
        }
        for name, number in counts.items():
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}, expected 1 or more")
        if sampler is None or sampler == "ddim":
            sampler = DDIM(previous_timestep=inference.previous_timestep)
        return cls(
            config=config,
            height=height,
            width=width,
            num_inference_steps=steps,
            guidance=guidance,
            sampler=get_sampler(sampler) if isinstance(sampler, str) else sampler,
            windows=_windows(config, windows, window_length, window_overlap),
            window_batch=window_batch,
            frame_batch=frame_batch,
            layer_frames=layer_frames,
            bucket_frames=bucket_frames,
            reuse=reuse,
        )

    @property
    def enabled_guidance(self) -> Guidance | None:
        """The guidance; None where it is off."""
        return self.guidance if self.guidance.enabled else None

    @property
    def guided_or_not(self) -> list[bool]:
        """Whether steps are guided: all, none, or some and some not."""
        guidance = self.enabled_guidance
        if guidance is None or guidance.interval == (0, 1):
            return [guidance is not None]
        return sorted(set(guidance.guided_steps(self.num_inference_steps).tolist()), reverse=True)

    def latents(self, num_frames: int) -> tuple[int, int, int, int]:
        """Shape of so many frames' latents."""
        downscale, vae = self.config.downscale, needed(self.config.vae, "vae")
        return num_frames, self.height // downscale, self.width // downscale, vae.latent_channels

    def denoising(self, num_frames: int) -> Denoising:
        """How so many frames are denoised: those that one window holds with further ones (`diffusion.buckets`), unless
        these would change them.

        A stochastic sampler draws noise, and rescaled guidance takes statistics, over all frames at once; so do some
        models' norms over all frames of a window.
        """
        steps = self.num_inference_steps
        networks = (self.config.denoising_unet, self.config.controlnet)
        over_frames = any(network and network.group_norm_over_frames for network in networks)
        if self.bucket_frames and not (self.sampler.stochastic or self.guidance.rescale or over_frames):
            plan, true_frames = padded_plan(self.windows, num_frames, steps)
        else:
            plan, true_frames = self.windows.plan(num_frames, steps), None
        rows = -(-steps // ROWS) * ROWS
        tables = plan_steps(
            self.sampler, self.config.schedule, steps, plan, self.enabled_guidance, self.window_batch, rows=rows
        )
        whole = plan.frames.shape[1:] == (1, plan.num_frames)
        return Denoising(tables, plan.num_frames, true_frames, whole)


def check_size(height: int, width: int, downscale: int) -> None:
    """Raise ValueError unless both are positive multiples of `downscale`, the pixels of a latent."""
    for name, size in (("height", height), ("width", width)):
        if size <= 0 or size % downscale:
            nearest = max(round(size / downscale), 1) * downscale
            raise ValueError(f"{name} is {size}, expected a positive multiple of {downscale}, such as {nearest}")


def _windows(config: ModelConfig, windows: str | Windows | None, length: int | None, overlap: int | None) -> Windows:
    inference = config.inference
    if windows is not None and not isinstance(windows, str):
        return windows
    # The model's own overlap belongs to the model's own windows.
    own = windows in (None, inference.windows) and length in (None, inference.window_length)
    length = inference.window_length if length is None else length
    motion = needed(config.denoising_unet, "denoising UNet").motion
    if motion is not None and length > motion.max_length:
        raise ValueError(
            f"window_length is {length}, but the temporal layers have {motion.max_length} positions: "
            "choose at most that"
        )
    overlap = inference.window_overlap if overlap is None and own else overlap
    return get_windows(windows or inference.windows, length=length, overlap=overlap)
