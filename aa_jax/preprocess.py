"""From images and poses to the arrays that the networks take."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from aa_jax.config import InferenceConfig
from aa_jax.image import ResizeMode, resize, same_aspect
from aa_jax.models.clip_vision import CLIP_MEAN, CLIP_STD
from aa_jax.models.config import PoseGuiderConfig
from aa_jax.pose.draw import DrawStyle, draw_poses
from aa_jax.pose.files import SUFFIX, load_pose
from aa_jax.pose.fit import fit_keypoints
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.retarget import RetargetMethod
from aa_jax.pose.retarget import retarget as retarget_keypoints
from aa_jax.video import Video

Pose = str | os.PathLike[str] | Keypoints | Video | UInt8[np.ndarray, "t h w 3"]
ReferencePose = str | os.PathLike[str] | Keypoints
Pixels = TypeVar("Pixels", bound=Any)


def choose_mode(what: str, size: tuple[int, int], target: tuple[int, int], mode: ResizeMode | None) -> ResizeMode:
    """The resize mode, which must be given where the aspects differ: nothing is distorted or cut without being asked
    for.

    Raises:
      ValueError: the aspects of `size` and `target`, both (height, width), differ, and there is no mode.
    """
    if mode is None and not same_aspect(size, target):
        raise ValueError(
            f"the {what} is {size[1]}x{size[0]} (width x height), "
            f"which is not the aspect of the video, {target[1]}x{target[0]}: "
            "choose resize 'crop', 'letterbox' or 'stretch', or another height and width"
        )
    return mode or "stretch"


def count_frames(available: int, asked: int | None) -> int:
    """How many frames of a pose of `available` frames to animate: `asked`, or all.

    Raises:
      ValueError: there are not so many.
    """
    if asked is None:
        return available
    if asked < 1:
        raise ValueError(f"num_frames is {asked}, expected 1 or more")
    if asked > available:
        raise ValueError(
            f"num_frames is {asked}, but the pose has only {available} frames: ask for fewer or give a longer pose"
        )
    return asked


def reference_frame(
    image: UInt8[np.ndarray, "h w 3"], height: int, width: int, mode: ResizeMode | None, config: InferenceConfig
) -> UInt8[np.ndarray, "height width 3"]:
    """The reference at the size of the video."""
    mode = choose_mode("reference image", image.shape[:2], (height, width), mode)
    return resize(image, height, width, mode, config.reference_resample)


def vae_pixels(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "1 h w 3"]:
    """A frame as the VAE takes it, [-1, 1]."""
    return frame[None].astype(np.float32) / 127.5 - 1


def clip_pixels(
    image: UInt8[np.ndarray, "h w 3"], size: int, config: InferenceConfig
) -> Float[np.ndarray, "1 size size 3"]:
    """The whole reference as CLIP takes it: a square of `size` pixels, normalised. `config.clip_resize` says how it
    becomes a square."""
    return normalise_clip(clip_square(image, size, config, _pillow_bicubic))[None]


def clip_square(image: Pixels, size: int, config: InferenceConfig, resize_bicubic: Callable[..., Pixels]) -> Pixels:
    """The square, resized by `resize_bicubic(image, height, width)`; images are NumPy's or JAX's."""
    if config.clip_resize == "squash":
        return resize_bicubic(image, size, size)
    if config.clip_resize == "pad":
        image = _reflect_to_square(image)
    # The shorter edge gets `size` and the centre is cut out, as transformers' `CLIPImageProcessor` does.
    height, width = image.shape[:2]
    short = min(height, width)
    wide, high = int(size * width / short), int(size * height / short)
    top, left = (high - size) // 2, (wide - size) // 2
    return resize_bicubic(image, high, wide)[top : top + size, left : left + size]


def normalise_clip(images: UInt8[np.ndarray, "*b s s 3"]) -> Float[np.ndarray, "*b s s 3"]:
    """Squares as CLIP takes them."""
    return (images.astype(np.float32) / 255 - np.asarray(CLIP_MEAN, np.float32)) / np.asarray(CLIP_STD, np.float32)


def as_pose(pose: Pose) -> Keypoints | Video | UInt8[np.ndarray, "t h w 3"]:
    """The pose, read if it is a file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is none of these.
    """
    if isinstance(pose, str | os.PathLike):
        return load_pose(Path(pose))
    if isinstance(pose, np.ndarray) and (pose.dtype != np.uint8 or pose.ndim != 4 or pose.shape[-1] != 3):
        raise ValueError(
            f"pose is {pose.dtype} of shape {pose.shape}, expected uint8 (frames, height, width, 3), "
            "keypoints or a path"
        )
    return pose


def retarget_pose(
    pose: Keypoints | Video | UInt8[np.ndarray, "t h w 3"],
    reference: UInt8[np.ndarray, "h w 3"],
    method: RetargetMethod,
    reference_pose: ReferencePose | None,
) -> Keypoints | Video | UInt8[np.ndarray, "t h w 3"]:
    """The pose as the person in the reference image would do it; with method "none" as it is.

    Raises:
      ValueError: the pose or the reference's is drawn, there is none of the reference, it is of another image, or there
        is no such method.
      FileNotFoundError: there is nothing at the path of the reference's pose.
    """
    if method == "none":
        if reference_pose is not None:
            raise ValueError("reference_pose given, but nothing is retargeted: choose retarget 'affine' or 'bones'")
        return pose
    if not isinstance(pose, Keypoints):
        raise ValueError(
            f"retarget is {method!r}, but the pose is drawn, and only keypoints can be retargeted: "
            "give the pose as keypoints, such as python -m aa_jax.pose extract VIDEO --output FILE.npz makes"
        )
    how = "python -m aa_jax.pose extract IMAGE --output FILE.npz makes them"
    if reference_pose is None:
        raise ValueError(
            f"retarget is {method!r}, but there is no reference_pose, the keypoints of the reference image: {how}"
        )
    if isinstance(reference_pose, Keypoints):
        target: Keypoints | Video = reference_pose
    elif Path(reference_pose).suffix.lower() == SUFFIX:
        target = load_pose(reference_pose)
    else:  # JSON, which need not state the size of the image
        target = load_pose(reference_pose, height=reference.shape[0], width=reference.shape[1])
    if not isinstance(target, Keypoints):
        raise ValueError(f"reference_pose {reference_pose} holds images, expected keypoints: {how}")
    if not same_aspect((target.height, target.width), reference.shape[:2]):
        raise ValueError(
            f"reference_pose is of an image of {target.width}x{target.height} (width x height), "
            f"the reference image is {reference.shape[1]}x{reference.shape[0]}: expected the same image"
        )
    return retarget_keypoints(pose, target, method=method)


def draw_style(config: InferenceConfig) -> DrawStyle:
    """How the model's poses are drawn."""
    return DrawStyle(
        face=config.draw_face,
        feet=config.draw_feet,
        hand_joint_radius=config.hand_joint_radius,
        scale_to=config.draw_scale_to,
    )


def pose_frames(
    pose: Keypoints | Video | UInt8[np.ndarray, "t h w 3"],
    height: int,
    width: int,
    mode: ResizeMode | None,
    config: InferenceConfig,
    num_frames: int | None = None,
) -> UInt8[np.ndarray, "n height width 3"]:
    """The first `num_frames` drawn poses at the size of the video: keypoints are drawn at it, drawings are resized."""
    frames = count_frames(len(pose), num_frames)
    if isinstance(pose, Keypoints):
        mode = choose_mode("pose", (pose.height, pose.width), (height, width), mode)
        first = pose.take(slice(frames))
        fitted = fit_keypoints(first, height, width, mode)
        return draw_poses(fitted, height=height, width=width, style=draw_style(config))
    drawn = (pose.frames if isinstance(pose, Video) else pose)[:frames]
    mode = choose_mode("pose", drawn.shape[1:3], (height, width), mode)
    return resize(drawn, height, width, mode, config.pose_resample)


def pose_pixels(frames: UInt8[Array, "t h w 3"], config: PoseGuiderConfig) -> Float[Array, "t h w 3"]:
    """Drawn poses in the value range that the pose guider takes."""
    unit = frames.astype(np.float32) / 255
    return unit if config.input_range == "unit" else 2 * unit - 1


def _pillow_bicubic(image: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _reflect_to_square(image: Pixels) -> Pixels:
    """Pad the shorter sides by reflection."""
    longest = max(image.shape[:2])
    missing = [longest - side for side in image.shape[:2]]
    rows, columns = (
        np.pad(np.arange(side), (total // 2, total - total // 2), mode="reflect")
        for side, total in zip(image.shape[:2], missing, strict=True)
    )
    return image[rows][:, columns]
