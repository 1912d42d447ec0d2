"""Keypoint files of all formats, and the one function that reads a pose of any form.

Ours is a NumPy archive (`.npz`, no pickles) of
    points   (t, 134, 2) float32, normalised x and y in the order of `Keypoints`
    scores   (t, 134) float32
    height, width   integers, the size in pixels of the images that the points were found in
    fps      float, frames per second; absent where it is not known
"""

import dataclasses
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aa_jax.atomic import StrPath, aside
from aa_jax.pose import json_files
from aa_jax.pose.disco import FOLDER as DISCO_FOLDER
from aa_jax.pose.disco import load_disco
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.mediapipe import is_result, load_mediapipe
from aa_jax.pose.openpose import Scale, load_openpose
from aa_jax.pose.people import Choice
from aa_jax.video import IMAGE_SUFFIXES, Video, read_video

SUFFIX = ".npz"
REQUIRED_KEYS = ("points", "scores", "height", "width")


def save_keypoints(path: StrPath, keypoints: Keypoints) -> None:
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


def load_keypoints(
    path: StrPath,
    *,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    scale: Scale = "auto",
    choose: Choice | None = None,
) -> Keypoints:
    """Read keypoints: our `.npz`, or JSON of OpenPose, DisCo or MediaPipe, told apart by what they hold.

    Args:
      path: a file, or a folder with one JSON file a frame (or a clip's folder of DisCo).
      height: of the images in pixels, where the files do not state it; where they do, it must be theirs.
      width: likewise.
      fps: frames per second; default: what the file states, if it does.
      scale: the unit of OpenPose's JSON, see `aa_jax.pose.openpose.load_openpose`.
      choose: whom to follow, see `aa_jax.pose.people.follow`; default: "best", in DisCo's JSON the first in each frame.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: the file is of no known format, is damaged, holds pickles, lacks a key, its arrays are no keypoints,
        or the images' size is not known.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist, expected a keypoint file ({SUFFIX} or {json_files.SUFFIX})")
    if not path.is_dir() and path.suffix.lower() != json_files.SUFFIX:
        keypoints = _load_npz(path)
        size = keypoints.height if height is None else height, keypoints.width if width is None else width
        if size != (keypoints.height, keypoints.width):
            raise ValueError(
                f"{path} is of images of {keypoints.height}x{keypoints.width} (height x width), "
                f"but {size[0]}x{size[1]} was given"
            )
        return keypoints if fps is None else dataclasses.replace(keypoints, fps=fps)
    if (path / DISCO_FOLDER).is_dir():
        path = path / DISCO_FOLDER
    form = _json_form(path)
    if form == "disco":
        return load_disco(path, height=height, width=width, fps=fps, choose=choose)
    choose = "best" if choose is None else choose
    if form == "openpose":
        return load_openpose(path, height=height, width=width, fps=fps, scale=scale, choose=choose)
    if height is None or width is None:
        raise ValueError(
            f"{path} is MediaPipe's landmarks, which do not state the size of the images: "
            "give height and width (--pose-size HEIGHT WIDTH)"
        )
    return load_mediapipe(path, height=height, width=width, fps=fps, choose=choose)


def load_pose(
    path: StrPath,
    *,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    scale: Scale = "auto",
    choose: Choice | None = None,
    max_frames: int | None = None,
) -> Keypoints | Video:
    """Read a pose: keypoints, else drawn frames from a video, an animated image or a folder of images.

    Args:
      path: keypoints are an `.npz` or `.json` file, a folder of JSON without images, or a clip's folder of DisCo.
      height: this and the others: of keypoints, see `load_keypoints`.
      max_frames: only so many frames from the start; of drawings no more are decoded.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: what is there is none of these; see `load_keypoints` and `aa_jax.video.read_video`.
    """
    if not holds_keypoints(Path(path)):
        return read_video(path, max_frames=max_frames)
    keypoints = load_keypoints(path, height=height, width=width, fps=fps, scale=scale, choose=choose)
    return keypoints.take(slice(max_frames))


def holds_keypoints(path: Path) -> bool:
    """Whether a pose is keypoints, and not drawn, as far as names say; a folder's JSON is looked into.

    Raises:
      ValueError: a folder holds both.
    """
    if not path.is_dir():
        return path.suffix.lower() in (SUFFIX, json_files.SUFFIX)
    if (path / DISCO_FOLDER).is_dir():
        return True
    if not json_files.json_files(path):
        return False
    if not any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.iterdir()):
        return True
    try:
        form = _json_form(path)
    except ValueError:  # JSON of another kind, beside drawn poses
        return False
    raise ValueError(
        f"{path} holds both images and keypoints ({form} JSON), so that it is not clear which is the pose: "
        "give a folder with one of them"
    )


def _json_form(path: Path) -> Literal["openpose", "disco", "mediapipe"]:
    """Whose JSON a file or a folder holds, told by its first frame."""
    if path.is_dir():
        path = next(file for file in json_files.frame_files(path) if file)
    document = json_files.read_json(path)
    if document == []:  # nobody in a frame; a list of no frames reads the same, and fails for want of a person
        return "disco"
    frames = document if isinstance(document, list) else [document]
    first = next((frame for frame in frames if frame is not None), None)
    if isinstance(first, dict) and "people" in first:
        return "openpose"
    if isinstance(first, dict) and is_result(first):
        return "mediapipe"
    if isinstance(first, dict) and "keypoints" in first and isinstance(document, list):
        return "disco"
    raise ValueError(
        f'{path} holds no keypoints that are known: expected OpenPose\'s JSON ({{"people": [...]}}), '
        'DisCo\'s ([{"keypoints": [...]}, ...]) or MediaPipe\'s landmarks ({"pose_landmarks": [...]})'
    )


def _load_npz(path: Path) -> Keypoints:
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(
                f"{path} is damaged or no NumPy archive, expected a keypoint file ({SUFFIX}): "
                "aa-jax pose extract finds keypoints in images and videos"
            )
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
