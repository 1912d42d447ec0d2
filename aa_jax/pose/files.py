"""Keypoint files, and the one function that reads a pose of any form.

A keypoint file is a NumPy archive (`.npz`, no pickles) of
    points   (t, 134, 2) float32, normalised x and y in the order of `Keypoints`
    scores   (t, 134) float32
    height, width   integers, the size in pixels of the images that the points were found in
    fps      float, frames per second; absent where it is not known
"""

import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from aa_jax.atomic import aside
from aa_jax.pose.keypoints import Keypoints
from aa_jax.video import Video, read_video

SUFFIX = ".npz"
REQUIRED_KEYS = ("points", "scores", "height", "width")


def save_keypoints(path: str | os.PathLike[str], keypoints: Keypoints) -> None:
    """Write a keypoint file; an existing one is replaced, and a failure leaves nothing behind.

    Raises:
      ValueError: the path does not end in `.npz`.
      OSError: the file cannot be written.
    """
    if Path(path).suffix.lower() != SUFFIX:
        raise ValueError(f"{path} does not end in {SUFFIX}, the suffix of keypoint files")
    arrays: dict[str, Any] = {
        "points": keypoints.points,
        "scores": keypoints.scores,
        "height": np.int64(keypoints.height),
        "width": np.int64(keypoints.width),
    }
    if keypoints.fps is not None:
        arrays["fps"] = np.float64(keypoints.fps)
    archive = io.BytesIO()
    np.savez_compressed(archive, **arrays)
    with aside(path) as partial:
        partial.write_bytes(archive.getvalue())


def load_keypoints(path: str | os.PathLike[str]) -> Keypoints:
    """Read a keypoint file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is no NumPy archive, is damaged, holds pickles, lacks a key, or its arrays are no keypoints.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist, expected a keypoint file ({SUFFIX})")
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, expected a keypoint file ({SUFFIX})")
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path} is damaged or no NumPy archive, expected a keypoint file ({SUFFIX})")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: np.asarray(archive[key]) for key in (*REQUIRED_KEYS, "fps") if key in archive}
        except (ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read as a keypoint file: {error}") from error
    missing = [key for key in REQUIRED_KEYS if key not in arrays]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: a keypoint file holds {', '.join(REQUIRED_KEYS)} and optionally fps"
        )
    for key in ("height", "width", "fps"):
        if key in arrays and arrays[key].shape != ():
            raise ValueError(f"{path} holds {key} of shape {arrays[key].shape}, expected one number")
    fields: dict[str, Any] = {key: array if array.ndim else array.item() for key, array in arrays.items()}
    try:
        return Keypoints(**fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_pose(path: str | os.PathLike[str]) -> Keypoints | Video:
    """Read a pose: keypoints from an `.npz`, else drawn frames from a video, an animated image or a folder of images.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: what is there is none of these; see `load_keypoints` and `aa_jax.video.read_video`.
    """
    return load_keypoints(path) if Path(path).suffix.lower() == SUFFIX else read_video(path)
