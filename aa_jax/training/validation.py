"""Held-out clips generated, or images given back, during training: figures, and a sheet to look at.

The same clips, references and noise every time.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from aa_jax import preprocess
from aa_jax.data.clips import Clip, DrawnClip, count_frames
from aa_jax.data.sample import fit_frames, sample_poses, whole_frames
from aa_jax.data.source import open_source
from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.samplers import DDIM
from aa_jax.diffusion.windows import Uniform
from aa_jax.image import strip, tile, to_uint8
from aa_jax.models.config import needed
from aa_jax.programs import Programs
from aa_jax.training.config import TrainConfig
from aa_jax.training.networks import Networks
from aa_jax.training.state import Params

# Score by which the best checkpoint is known: the first of these that there is.
SCORES = ("foreground_psnr", "psnr")
FRAME_BATCH = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What is generated, and the truth.

    Attributes:
      reference, whole_reference: as samples have them.
      poses: drawn.
      truth: the frames.
      foreground: where the character is, or where the reference shows it; None where that is not known.
    """

    reference: UInt8[np.ndarray, "h w 3"]
    whole_reference: UInt8[np.ndarray, "s s 3"]
    poses: UInt8[np.ndarray, "t h w 3"]
    truth: UInt8[np.ndarray, "t h w 3"]
    foreground: Bool[np.ndarray, "t h w"] | None


def held_out(config: TrainConfig) -> list[HeldOut]:
    """The clips of `config.validation`: consecutive frames from the first on, and the middle frame of the clip that
    references are drawn from.

    Raises:
      ValueError: there are too few clips or frames.
    """
    validation = config.validation
    assert validation.source is not None
    source = open_source(validation.source)
    if len(source) < validation.num_clips:
        raise ValueError(f"validation.num_clips is {validation.num_clips}, but its source has {len(source)}")
    return [_held_out(source[index], config) for index in range(validation.num_clips)]


def _held_out(clip: Clip | DrawnClip, config: TrainConfig) -> HeldOut:
    sample, frames = config.data.sample, list(range(config.validation.num_frames))
    if count_frames(clip) < len(frames):
        raise ValueError(
            f"validation.num_frames is {len(frames)}, but clip {clip.name} has {count_frames(clip)} frames"
        )
    middle = [count_frames(clip.reference) // 2]
    reference, truth = clip.reference.frames(middle)[0], fit_frames(clip.frames(frames), sample)
    foreground, masks = None, getattr(clip, "masks", None)
    if masks and masks(middle).shape[1:] == truth.shape[1:3]:  # not of another size
        foreground = masks(frames) | clip.reference.masks(middle)  # type: ignore[union-attr]
    return HeldOut(
        reference=fit_frames(reference, sample),
        whole_reference=whole_frames(reference, sample),
        poses=sample_poses(clip, frames, sample, flip=False)["pose"],
        truth=truth,
        foreground=foreground,
    )


class Validator:
    """Generates the held-out clips with given weights; compiles once."""

    def __init__(self, config: TrainConfig, networks: Networks):
        self.config, self.networks = config, networks
        self.clips = held_out(config)
        self.programs = Programs(config.model, dict(networks.graphs)) if config.autoencoder is None else None
        self._give_back = jax.jit(self._autoencode)

    def __call__(self, params: Params) -> tuple[dict[str, float], UInt8[np.ndarray, "h w 3"]]:
        """Figures, averaged over clips, and a sheet: of each clip the reference and in three rows poses, results and
        truth.

        Returns:
          "psnr" and, where masks are known, "foreground_psnr" and "background_psnr" in decibels; "copy_..." of the
          reference in place of every frame.
        """
        results = [self.generate(params, clip) for clip in self.clips]
        each = [
            figures(found, clip) | {f"copy_{name}": value for name, value in figures(copied(clip), clip).items()}
            for found, clip in zip(results, self.clips, strict=True)
        ]
        mean = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        clips = zip(self.clips, results, strict=True)
        return mean, tile([strip(clip.reference, clip.poses, found, clip.truth) for clip, found in clips])

    def generate(
        self, params: Params, clip: HeldOut, *, reference: HeldOut | None = None
    ) -> UInt8[np.ndarray, "t h w 3"]:
        """The clip as the weights make it; `reference` gives another clip's character."""
        programs = self.programs
        if programs is None:
            return self.give_back(params, clip)
        model, validation, shown = self.config.model, self.config.validation, reference or clip
        weights = {name: self.networks.state(name, params) for name in self.networks.graphs}
        guidance = Guidance(scale=validation.guidance_scale)
        pixels = preprocess.vae_pixels(shown.reference)
        conditions = programs.encode_reference(
            weights, pixels, preprocess.normalise_clip(shown.whole_reference)[None], guided=guidance.enabled
        )
        poses = programs.pose_features(weights, clip.poses, FRAME_BATCH)
        vae, frames = needed(model.vae, "VAE"), len(clip.poses)
        size = [length // vae.downscale for length in clip.truth.shape[1:3]]
        rng = jax.random.key(validation.seed)
        motion = needed(model.denoising_unet, "denoising UNet").motion
        length = min(frames, model.inference.window_length if motion else frames)
        latents = programs.denoise(
            weights,
            jax.random.normal(rng, (frames, *size, vae.latent_channels)),
            poses,
            conditions,
            Uniform(length=length, overlap=min(length // 4, length - 1)).plan(frames, validation.num_inference_steps),
            guidance if guidance.enabled else None,
            rng,
            sampler=DDIM(),
            schedule=model.schedule,
            num_inference_steps=validation.num_inference_steps,
            window_batch=None,
            return_trajectory=False,
        )
        return to_uint8(programs.frames(weights, latents, FRAME_BATCH))

    def give_back(self, params: Params, clip: HeldOut) -> UInt8[np.ndarray, "t h w 3"]:
        """The true frames through the VAE."""
        return to_uint8(np.asarray(self._give_back(params, preprocess.vae_pixels(clip.truth)[0])))

    def _autoencode(self, params: Params, images: Float[Array, "t h w 3"]) -> Float[Array, "t h w 3"]:
        vae = self.networks.module("vae", params)
        return jnp.clip(vae.decode(vae.encode(images).mean).astype(jnp.float32) / 2 + 0.5, 0, 1)


def copied(clip: HeldOut) -> UInt8[np.ndarray, "t h w 3"]:
    """The reference in place of every frame."""
    return np.broadcast_to(clip.reference, clip.truth.shape)


def score(figures: Mapping[str, float]) -> float:
    """The figure by which checkpoints are compared, higher being better."""
    return next(figures[name] for name in SCORES if name in figures)


def figures(found: UInt8[np.ndarray, "t h w 3"], clip: HeldOut) -> dict[str, float]:
    """What frames are worth beside the truth, in decibels; see `Validator`."""
    errors = np.square(found.astype(np.float64) - clip.truth).mean(axis=-1)
    result = {"psnr": decibels(errors.mean())}
    if clip.foreground is not None:
        result["foreground_psnr"] = decibels(errors[clip.foreground].mean())
        result["background_psnr"] = decibels(errors[~clip.foreground].mean())
    return result


def decibels(error: float) -> float:
    """Peak signal-to-noise ratio of a mean squared error of bytes."""
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
