"""What visitors upload: which kinds and how much is taken, and several files as the one folder that they are."""

import contextlib
import dataclasses
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from aa_jax.pose import json_files
from aa_jax.pose.files import SUFFIX, holds_keypoints
from aa_jax.video import IMAGE_SUFFIXES, image_files, stream_video

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
KEYPOINT_SUFFIXES = (SUFFIX, json_files.SUFFIX)
POSE_SUFFIXES = (*KEYPOINT_SUFFIXES, *VIDEO_SUFFIXES, *IMAGE_SUFFIXES)
# A photograph of a good camera; and four seconds of full HD at 60 frames, 1.5 GB in memory.
MOST_IMAGE_PIXELS = 60_000_000
MOST_POSE_PIXELS = 500_000_000
# Bytes of an archive's arrays; a minute of keypoints is 3 MB.
MOST_ARRAY_BYTES = 200_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one visitor may ask for.

    Attributes:
      upload_mb: megabytes of an upload.
      frames: of an animation.
      steps: denoising steps.
      enlargement: pixels of a video's frame, as a multiple of those of the model's own size.
      waiting: animations that may wait while one is made.

    Raises:
      ValueError: a limit below 1.
    """

    upload_mb: int = 50
    frames: int = 120
    steps: int = 100
    enlargement: int = 4
    waiting: int = 5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name.replace('_', ' ')} is limited to {value}, expected 1 or more")


def check_files(what: str, files: Sequence[Path], suffixes: Sequence[str], limits: Limits) -> None:
    """Raise ValueError unless all files are there, of the kinds `suffixes`, and together not too large."""
    for file in files:
        if not file.is_file():
            raise ValueError(f"{what} {file.name} is here no more: uploads are deleted after a while, upload it again")
        if file.suffix.lower() not in suffixes:
            raise ValueError(f"{what} {file.name} is of another kind than expected: {', '.join(suffixes)}")
    size = sum(file.stat().st_size for file in files)
    if size > limits.upload_mb * 1e6:
        raise ValueError(f"{what} is {size / 1e6:.1f} MB, expected at most {limits.upload_mb} MB: make it smaller")
    for file in files:
        if file.suffix.lower() == SUFFIX and zipfile.is_zipfile(file):
            _check_archive(what, file)


def _check_archive(what: str, file: Path) -> None:
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:  # reading it says what is wrong
        size = sum(member.file_size for member in archive.infolist())
        if size > MOST_ARRAY_BYTES:
            raise ValueError(
                f"{what} {file.name} unpacks to {size / 1e6:.0f} MB, expected at most {MOST_ARRAY_BYTES / 1e6:.0f}"
            )


def check_image(what: str, file: Path) -> None:
    """Raise ValueError if an image has too many pixels to be decoded."""
    pixels = _pixels(file)
    if pixels > MOST_IMAGE_PIXELS:
        raise ValueError(
            f"{what} has {pixels / 1e6:.0f} million pixels, expected at most {MOST_IMAGE_PIXELS / 1e6:.0f}: "
            "make it smaller"
        )


def check_drawn(pose: Path, frames: int) -> None:
    """Raise ValueError if so many frames of a drawn pose, or all if it has fewer, are too many pixels to be decoded."""
    if holds_keypoints(pose):
        return
    if pose.is_dir():
        pixels = sum(_pixels(file) for file in image_files(pose)[:frames])
    elif pose.suffix.lower() in IMAGE_SUFFIXES:
        pixels = _pixels(pose) * min(frames, _images(pose))
    else:
        height, width, _ = next(stream_video(pose)).rgb.shape
        pixels = height * width * frames
    if pixels > MOST_POSE_PIXELS:
        raise ValueError(
            f"the pose has {pixels / 1e6:.0f} million pixels in {frames} frames, "
            f"expected at most {MOST_POSE_PIXELS / 1e6:.0f}: choose fewer frames, or make it smaller"
        )


def _pixels(image: Path) -> int:
    try:
        with Image.open(image) as opened:
            return opened.height * opened.width
    except Exception:  # whatever is wrong with it, reading it says so
        return 0


def _images(animation: Path) -> int:
    try:
        with Image.open(animation) as opened:
            return getattr(opened, "n_frames", 1)
    except Exception:
        return 0


@contextlib.contextmanager
def as_one(files: Sequence[Path]) -> Iterator[Path]:
    """The path of a pose: the one file, or a folder in which several are while the block runs.

    Raises:
      ValueError: there is no file, two have one name, or they are not the frames of a pose.
    """
    if not files:
        raise ValueError("there is no pose: choose a bundled motion, or upload a video, drawn frames or keypoints")
    if len(files) == 1:
        yield files[0]
        return
    kinds = (IMAGE_SUFFIXES, (json_files.SUFFIX,))
    if not any(all(file.suffix.lower() in kind for file in files) for kind in kinds):
        raise ValueError(
            f"the pose is {len(files)} files, expected drawn frames or JSON alone, or one file of another kind"
        )
    with tempfile.TemporaryDirectory() as folder, hidden({folder: "the pose"}):
        for file in files:
            link = Path(folder, file.name)
            if link.is_symlink():
                raise ValueError(f"two files of the pose are called {file.name}: give every frame a name of its own")
            link.symlink_to(file.resolve())
        yield Path(folder)


@contextlib.contextmanager
def hidden(folders: Mapping[str, str]) -> Iterator[None]:
    """Errors of the block name files without these folders, and a folder itself by the name it is mapped to."""
    try:
        yield
    except (ValueError, OSError) as error:
        message = str(error)
        for folder, name in folders.items():
            message = message.replace(f"{folder}/", "").replace(folder, name)
        raise ValueError(message) from error
