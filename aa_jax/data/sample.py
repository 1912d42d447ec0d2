"""One training sample of a clip: a reference image, target frames, and their drawn poses.

The paper draws the reference from the whole clip (section 4.1). What is random comes from the generator that is handed
in, so a sample is a pure function of the clip and the generator's seed.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from aa_jax.data.clips import Clip, DrawnClip, EncodedClip, count_frames, is_drawn, is_encoded
from aa_jax.data.colour import ColourJitter, change_colours
from aa_jax.data.regions import RegionWeights, region_weights
from aa_jax.image import resize
from aa_jax.pose.draw import DrawStyle, draw_poses
from aa_jax.pose.fit import fit_keypoints
from aa_jax.pose.flip import flip_keypoints
from aa_jax.pose.keypoints import Keypoints

# A drawing without faces, as in the paper.
PAPER_STYLE = DrawStyle(face=False)


Sample = dict[str, np.ndarray]
"""One sample, or with a leading axis a batch of them.

    reference          uint8 (height, width, 3)
    whole_reference    uint8 (clip_size, clip_size, 3), uncropped, for the image encoder
    target             uint8 (t, height, width, 3)
    pose               uint8 (t, height, width, 3), the skeletons of the target frames drawn on black
    weight             float32 (t, height / latent_downscale, width / latent_downscale), how much the loss counts at
                       each place of the targets' latents; only where some region's weight is not 1

Of a clip that is encoded already, `reference_NAME` and `target_NAME` (t, ...) of every encoded array stand for the
three images.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What a sample is made of.

    Attributes:
      height: in pixels.
      width: in pixels.
      frames: "single" draws every target frame by itself (stage 1), "clip" takes consecutive ones (stage 2).
      num_frames: target frames of a sample: 1 in the paper's stage 1 (more share one encoded reference), 24 in stage 2.
      stride: distance of consecutive frames of a "clip"; less where the clip is too short for it (Moore-AnimateAnyone:
        4).
      margin: how many frames a "single" target keeps away from the reference where the clip is long enough
        (Moore-AnimateAnyone: 30); 0 draws both from the whole clip.
      resize: "crop" covers the frame and cuts off equally on both sides, "letterbox" fits inside of it; both keep the
        aspect.
      resample: filter for images.
      clip_size: side of `whole_reference` in pixels.
      flip: probability of mirroring the whole sample.
      colour: colour changes of reference and targets alike.
      style: how poses are drawn.
      regions: how much the loss counts on hands, face and body; needs clips with keypoints.
      latent_downscale: side of a latent place in pixels (8 in Stable Diffusion's VAE), for the weights of regions.

    Raises:
      ValueError: a value out of its range.
    """

    height: int
    width: int
    frames: Literal["single", "clip"] = "single"
    num_frames: int = 1
    stride: int = 1
    margin: int = 0
    resize: Literal["crop", "letterbox"] = "crop"
    resample: Literal["lanczos", "bicubic"] = "bicubic"
    clip_size: int = 224
    flip: float = 0.0
    colour: ColourJitter = ColourJitter()  # noqa: RUF009 - frozen
    style: DrawStyle = PAPER_STYLE
    regions: RegionWeights = RegionWeights()  # noqa: RUF009 - frozen
    latent_downscale: int = 8

    def __post_init__(self) -> None:
        for name in ("height", "width", "num_frames", "stride", "clip_size", "latent_downscale"):
            if getattr(self, name) < 1:
                raise ValueError(f"SampleConfig.{name} is {getattr(self, name)}, expected 1 or more")
        for name, choices in (("frames", ("single", "clip")), ("resize", ("crop", "letterbox"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"SampleConfig.{name} is {getattr(self, name)!r}, expected one of {choices}")
        if self.margin < 0:
            raise ValueError(f"SampleConfig.margin is {self.margin}, expected 0 or more")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"SampleConfig.flip is {self.flip}, expected a probability")
        for name in ("height", "width") if self.weighted else ():
            if getattr(self, name) % self.latent_downscale:
                raise ValueError(
                    f"SampleConfig.{name} is {getattr(self, name)}, expected a multiple of "
                    f"latent_downscale ({self.latent_downscale}), since regions have weights"
                )

    @property
    def weighted(self) -> bool:
        """Whether samples tell how much the loss counts where."""
        return self.regions != RegionWeights()


def make_sample(clip: Clip | DrawnClip, config: SampleConfig, rng: np.random.Generator) -> Sample:
    """Draw a sample from a clip.

    Raises:
      ValueError: the clip has fewer frames than a "clip" sample takes, its file is damaged, or its poses are drawn
        already but are to be mirrored or to have regions with weights.
    """
    reference, targets = choose_frames(clip, config, rng)
    flip = bool(rng.random() < config.flip)
    if is_encoded(clip):
        images = _encoded(clip, reference, targets)
    else:
        images = _images(clip, reference, targets, config, rng)
        if flip:
            images = {name: np.ascontiguousarray(np.flip(array, axis=-2)) for name, array in images.items()}
    return images | sample_poses(clip, targets, config, flip=flip)


def _images(
    clip: Clip | DrawnClip, reference: int, targets: list[int], config: SampleConfig, rng: np.random.Generator
) -> Sample:
    image, frames = clip.reference.frames([reference])[0], clip.frames(targets)
    if config.colour != ColourJitter():
        change = config.colour.draw(rng)
        image, frames = change_colours(image, change), change_colours(frames, change)
    return {
        "reference": fit_frames(image, config),
        "whole_reference": whole_frames(image, config),
        "target": fit_frames(frames, config),
    }


def _encoded(clip: EncodedClip, reference: int, targets: list[int]) -> Sample:
    of_reference, of_targets = clip.reference.encoded([reference]), clip.encoded(targets)
    return {f"reference_{name}": rows[0] for name, rows in of_reference.items()} | {
        f"target_{name}": rows for name, rows in of_targets.items()
    }


def choose_frames(clip: Clip | DrawnClip, config: SampleConfig, rng: np.random.Generator) -> tuple[int, list[int]]:
    """The indices of the reference in `clip.reference`, and of the targets in `clip`."""
    length, references = count_frames(clip), count_frames(clip.reference)
    reference = int(rng.integers(references))
    if config.frames == "single":
        same = clip.reference.name == clip.name
        allowed = np.arange(length)
        if same and config.margin:
            distant = allowed[np.abs(allowed - reference) >= config.margin]
            allowed = distant if len(distant) else allowed
        return reference, [
            int(i) for i in rng.choice(allowed, config.num_frames, replace=len(allowed) < config.num_frames)
        ]
    if length < config.num_frames:
        raise ValueError(
            f"clip {clip.name} has {length} frames, but samples take {config.num_frames}: leave it out (`long_enough`)"
        )
    stride = config.stride if config.num_frames == 1 else min(config.stride, (length - 1) // (config.num_frames - 1))
    start = int(rng.integers(length - (config.num_frames - 1) * stride))
    return reference, [start + i * stride for i in range(config.num_frames)]


def sample_poses(clip: Clip | DrawnClip, indices: list[int], config: SampleConfig, *, flip: bool) -> Sample:
    """The drawn poses of some frames, and the weights of their regions."""
    if is_drawn(clip):
        if flip:  # colours tell left from right
            raise ValueError(f"clip {clip.name} has drawn poses, which cannot be mirrored: set flip to 0")
        if config.weighted:
            raise ValueError(f"clip {clip.name} has drawn poses, which have no regions: set their weights to 1")
        return {"pose": fit_frames(clip.drawn(indices), config)}
    keypoints = fitted_keypoints(clip, indices, config, flip=flip)
    poses = {"pose": draw_poses(keypoints, height=config.height, width=config.width, style=config.style)}
    if config.weighted:
        poses["weight"] = region_weights(keypoints, config.regions, config.latent_downscale)
    return poses


def fitted_keypoints(clip: Clip, indices: list[int], config: SampleConfig, *, flip: bool) -> Keypoints:
    """The keypoints of some frames at the sample's size."""
    fitted = fit_keypoints(clip.keypoints.take(indices), config.height, config.width, config.resize)
    return flip_keypoints(fitted) if flip else fitted


def fit_frames(images: UInt8[np.ndarray, "*t h w 3"], config: SampleConfig) -> UInt8[np.ndarray, "*t h2 w2 3"]:
    """Images at the sample's size."""
    if images.shape[-3:-1] == (config.height, config.width):
        return images
    return resize(images, config.height, config.width, config.resize, config.resample)


def whole_frames(images: UInt8[np.ndarray, "*t h w 3"], config: SampleConfig) -> UInt8[np.ndarray, "*t s s 3"]:
    """Images for the image encoder: CLIP's shortest edge and centre crop."""
    return resize(images, config.clip_size, config.clip_size, "crop", "bicubic")
