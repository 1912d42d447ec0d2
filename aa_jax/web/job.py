"""What becomes of an upload: it is checked, animated and written. Pure functions, that know of no page."""

import dataclasses
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aa_jax import preprocess
from aa_jax.animator import Animator
from aa_jax.config import InferenceConfig, ModelConfig
from aa_jax.image import ResizeMode, load_image
from aa_jax.pose.files import load_pose
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.retarget import RetargetMethod
from aa_jax.request import check_size
from aa_jax.video import DEFAULT_FPS, IMAGE_SUFFIXES, Video, side_by_side, write_video
from aa_jax.web.uploads import (
    KEYPOINT_SUFFIXES,
    POSE_SUFFIXES,
    Limits,
    as_one,
    check_drawn,
    check_files,
    check_image,
    hidden,
)

# Pixels to which the videos beside one another, and those of poses, are enlarged where they are lower.
SHOWN_HEIGHT = 320
# Uploads are decoded one after another: their memory adds up otherwise, and Python's record of warnings is global.
_READING = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a visitor asks for.

    Attributes:
      reference: image of the character, None if there is none yet.
      pose: one file, or the frames of a folder.
      reference_pose: keypoints of the image, for retargeting.
      pose_size: height and width of the images that keypoints are of, where their JSON does not say.
      height, width: of the video, pixels.
      frames: of the pose that are animated, from its start, at most.
      steps, guidance_scale, seed, sampler, windows, window_length: as `Animator` takes them.
      resize: what to do with another aspect; None refuses it.
      retarget: how the pose is fitted to the character.
      fps: frames per second; None: the pose's.
    """

    reference: Path | None
    pose: Sequence[Path]
    reference_pose: Path | None = None
    pose_size: tuple[int, int] | None = None
    height: int
    width: int
    frames: int
    steps: int
    guidance_scale: float
    seed: int = 42
    sampler: str = "ddim"
    windows: str | None = None
    window_length: int | None = None
    resize: ResizeMode | None = "crop"
    retarget: RetargetMethod = "none"
    fps: float | None = None

    @property
    def folders(self) -> dict[str, str]:
        """The folders that the files are in, which are no visitor's business."""
        files = [*self.pose, *(file for file in (self.reference, self.reference_pose) if file)]
        return {str(file.parent): "the upload" for file in files}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A request that was found good.

    Attributes:
      request: what was asked for.
      reference: the image.
      pose: retargeted.
      character, drawn: the image and the drawn poses at the size of the video.
      fps: frames per second.
      notes: warnings, a line each.
    """

    request: Request
    reference: UInt8[np.ndarray, "h w 3"]
    pose: Keypoints | Video | UInt8[np.ndarray, "t h w 3"]
    character: UInt8[np.ndarray, "height width 3"]
    drawn: UInt8[np.ndarray, "t height width 3"]
    fps: float
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What was written.

    Attributes:
      video, beside: the video, and reference, pose and video beside one another, the last enlarged if it is small; MP4.
      frames, height, width, fps: of the video.
      seconds, compiling: that it took in all, and for compiling alone.
    """

    video: Path
    beside: Path
    frames: int
    height: int
    width: int
    fps: float
    seconds: float
    compiling: float


def prepare(request: Request, config: ModelConfig, limits: Limits) -> Job:
    """Check all that can be checked without the device, and read the files.

    Raises:
      ValueError: something is missing, too large or wrong, in one line that names files as their visitor does.
    """
    with hidden(request.folders):
        if request.reference is None:
            raise ValueError("there is no reference image: upload one, or choose an example")
        _check_numbers(request, config, limits)
        if request.reference_pose is not None:
            check_files("the reference's keypoints", [request.reference_pose], KEYPOINT_SUFFIXES, limits)
        reference = read_reference(request.reference, limits)
        with _READING, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            loaded = read_pose(request.pose, request.frames, limits, request.pose_size)
            pose = preprocess.retarget_pose(loaded, reference, request.retarget, request.reference_pose)
        height, width, inference = request.height, request.width, config.inference
        return Job(
            request=request,
            reference=reference,
            pose=pose,
            character=preprocess.reference_frame(reference, height, width, request.resize, inference),
            drawn=preprocess.pose_frames(pose, height, width, request.resize, inference),
            fps=request.fps or loaded.fps or DEFAULT_FPS,
            notes=tuple(str(warning.message) for warning in caught if warning.category is UserWarning),
        )


def read_reference(file: Path, limits: Limits) -> UInt8[np.ndarray, "h w 3"]:
    """The image; a ValueError if it is too large or cannot be read."""
    check_files("the reference image", [file], IMAGE_SUFFIXES, limits)
    check_image("the reference image", file)
    with hidden({str(file.parent): "the upload"}):
        return load_image(file)


def read_pose(
    files: Sequence[Path], frames: int, limits: Limits, size: tuple[int, int] | None = None
) -> Keypoints | Video:
    """The first `frames` of a pose, or all if it has fewer.

    Args:
      size: height and width of the images that keypoints are of, where their JSON does not say.

    Raises:
      ValueError: there is none, it is too large, or it cannot be read.
    """
    check_files("the pose", files, POSE_SUFFIXES, limits)
    height, width = size or (None, None)
    with hidden({str(file.parent): "the upload" for file in files}), as_one(files) as path:
        check_drawn(path, frames)
        return load_pose(path, height=height, width=width, max_frames=frames)


def _check_numbers(request: Request, config: ModelConfig, limits: Limits) -> None:
    height, width, inference = request.height, request.width, config.inference
    check_size(height, width, config.downscale)
    if height * width > limits.enlargement * inference.height * inference.width:
        raise ValueError(
            f"a video of {width}x{height} (width x height) was asked for, expected at most {limits.enlargement} times "
            f"the pixels of the model's own {inference.width}x{inference.height}"
        )
    for name, value, most in (("frames", request.frames, limits.frames), ("steps", request.steps, limits.steps)):
        if not 1 <= value <= most:
            raise ValueError(f"{value} {name} were asked for, expected 1 to {most}")
    if request.fps is not None and not 0 < request.fps <= 120:
        raise ValueError(f"{request.fps:g} frames per second were asked for, expected more than 0 and at most 120")


def animate(
    animator: Animator, job: Job, progress: Callable[[int, int], object] | None = None
) -> UInt8[np.ndarray, "t height width 3"]:
    """The frames.

    Args:
      progress: see `Animator`.

    Raises:
      ValueError: windows that do not fit the model.
    """
    request = job.request
    return animator(
        job.reference,
        job.pose,
        height=request.height,
        width=request.width,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        seed=request.seed,
        sampler=request.sampler,
        windows=request.windows,
        window_length=request.window_length,
        resize=request.resize,
        progress=progress,
    )


def write(folder: Path, job: Job, frames: UInt8[np.ndarray, "t h w 3"], start: float, compiling: float) -> Result:
    """Write the videos into an existing folder.

    Args:
      start: when the animation began, by `time.perf_counter`.
      compiling: seconds of it that went into compiling.

    Raises:
      OSError: they cannot be written.
    """
    video, beside = folder / "animation.mp4", folder / "reference_pose_animation.mp4"
    write_video(video, frames, job.fps)
    write_video(beside, enlarged(side_by_side(job.character, job.drawn, frames)), job.fps)
    count, height, width, _ = frames.shape
    return Result(
        video=video, beside=beside, frames=count, height=height, width=width, fps=job.fps,
        seconds=time.perf_counter() - start, compiling=compiling,
    )  # fmt: skip


def enlarged(frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "t h2 w2 3"]:
    """Small frames for a large screen, every pixel a square; others as they are."""
    factor = -(-SHOWN_HEIGHT // frames.shape[1])
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def shown_pose(pose: Keypoints | Video, config: InferenceConfig) -> UInt8[np.ndarray, "t h w 3"]:
    """A pose to look at before it is animated: as the model's are drawn, of `SHOWN_HEIGHT` and its own aspect, unless
    that is very wide."""
    height, width = (pose.height, pose.width) if isinstance(pose, Keypoints) else pose.frames.shape[1:3]
    width = min(max(2, round(SHOWN_HEIGHT * width / height / 2) * 2), 4 * SHOWN_HEIGHT)
    return preprocess.pose_frames(pose, SHOWN_HEIGHT, width, "stretch", config)


def explain(error: Exception) -> str | None:
    """An error in one line for visitors, None for one that is nobody's mistake but the program's."""
    message = " ".join(str(error).split())
    if "RESOURCE_EXHAUSTED" in message or isinstance(error, MemoryError):
        return "the device has too little memory for this: choose fewer frames or a smaller size"
    if isinstance(error, ValueError | OSError):
        return message
    return None
