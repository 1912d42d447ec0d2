"""The regressor's own PCK on true renders of characters that it was not trained on: the most that a model's frames can
reach; on renders that suffered as generated frames do; and where it must be low, on wrong poses."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from aa_jax.data.synthetic.source import Split
from aa_jax.evaluation.keypoint_regressor.pck import pck
from aa_jax.evaluation.keypoint_regressor.regressor import KeypointRegressor
from aa_jax.evaluation.keypoint_regressor.training import FRAMES_PER_CLIP, draw_pool

VALIDATED_ON: tuple[Split, ...] = ("identity", "both")
# Height and width at which the benchmark is meant to be used.
LARGE = (256, 192)
# The body's points where left and right are confused.
SIDES_SWAPPED = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)

Frame = UInt8[np.ndarray, "h w 3"]


def validate(regressor: KeypointRegressor, split: Split, clips: int) -> dict[str, float]:
    """Mean PCK over frames of the first clips of a split.

    Of true renders at 48x64 (width x height) and at `LARGE`; of what `DEGRADATIONS` makes of the small ones; and, where
    the pose is wrong, of the frames of the clip before ("other clip"), of mirrored ones ("mirrored"), and of points
    whose sides are swapped ("sides swapped"; those in the middle stay right).
    """
    pool = draw_pool((split,), clips)
    large = draw_pool((split,), clips, height=LARGE[0], width=LARGE[1])

    def score(found: np.ndarray) -> float:
        return float(np.nanmean(pck(found, pool.points, pool.visible)))

    found = regressor(pool.frames)
    scores = {"true": score(found), f"true, {LARGE[1]}x{LARGE[0]}": score(regressor(large.frames))}
    for name, change in DEGRADATIONS.items():
        random = np.random.default_rng(0)
        scores[name] = score(regressor(np.stack([change(frame, random) for frame in pool.frames])))
    return scores | {
        "other clip": score(np.roll(found, FRAMES_PER_CLIP, axis=0)),
        "mirrored": score(regressor(np.ascontiguousarray(pool.frames[:, :, ::-1]))),
        "sides swapped": score(found[:, SIDES_SWAPPED]),
    }


def blurred(frame: Frame, deviation: float) -> Frame:
    """Smoothed by a Gaussian of so many pixels."""
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(deviation)))


def noisy(frame: Frame, random: np.random.Generator, deviation: float) -> Frame:
    """With independent noise of so many of 255 levels."""
    return np.clip(np.round(frame + random.normal(0, deviation, frame.shape)), 0, 255).astype(np.uint8)


def through_jpeg(frame: Frame, quality: int) -> Frame:
    """Compressed and read again."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "jpeg", quality=quality)
    return np.asarray(Image.open(buffer))


def halved(frame: Frame) -> Frame:
    """At half its size, enlarged again."""
    image = Image.fromarray(frame)
    return np.asarray(image.reduce(2).resize(image.size, Image.Resampling.BILINEAR))


def occluded(frame: Frame, random: np.random.Generator) -> Frame:
    """With a disc of any colour, a fifth of the height wide, anywhere."""
    height, width, _ = frame.shape
    y, x = np.indices((height, width))
    centre_y, centre_x = random.uniform(size=2) * (height, width)
    disc = (y - centre_y) ** 2 + (x - centre_x) ** 2 < (height / 10) ** 2
    return np.where(disc[..., None], random.integers(0, 256, 3), frame).astype(np.uint8)


DEGRADATIONS: Mapping[str, Callable[[Frame, np.random.Generator], Frame]] = {
    "blurred by 1 pixel": lambda frame, random: blurred(frame, 1.0),
    "blurred by 2 pixels": lambda frame, random: blurred(frame, 2.0),
    "noise of 20 levels": lambda frame, random: noisy(frame, random, 20.0),
    "JPEG of quality 20": lambda frame, random: through_jpeg(frame, 20),
    "halved and enlarged": lambda frame, random: halved(frame),
    "occluded": occluded,
}
"""By name; pixels are those of frames of 48x64."""
