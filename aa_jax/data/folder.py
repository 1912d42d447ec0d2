"""Clips from a folder of videos and their poses, in any depth of sub-folders:

    NAME.mp4        the video (see `VIDEO_SUFFIXES`), or NAME/, a folder of its frames as images
    NAME.npz        its keypoints, one row per frame; a folder of frames may hold DisCo's openpose_json/ instead
    NAME_kps.mp4    or, where there are no keypoints, its poses drawn as a video, as Moore-AnimateAnyone's tools make it

A clip's name is its path in the folder without the suffix. Reference images are drawn from the clip itself, unless the
folder holds `references/NAME.mp4` and `references/NAME.npz`: another clip of the same character, which is then none of
the folder's own clips.

In place of a folder, Moore-AnimateAnyone's meta JSON lists the files: [{"video_path": ..., "kps_path": ...}, ...].
"""  # fmt: skip

import dataclasses
import functools
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aa_jax.atomic import StrPath
from aa_jax.data.readers import Frames, open_frames
from aa_jax.pose.disco import FOLDER as DISCO_FOLDER
from aa_jax.pose.files import SUFFIX, load_keypoints
from aa_jax.pose.json_files import read_json
from aa_jax.pose.keypoints import Keypoints
from aa_jax.video import is_image

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
DRAWN_ENDING = "_kps"
REFERENCES = "references"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipFiles:
    """Where a clip is.

    Attributes:
      name: of the clip.
      images: a video, or a folder of images.
      poses: keypoints that `load_keypoints` reads, or a video of drawn poses; None where there are none yet.
      fps: frames per second where neither the images nor the keypoints state it.
      reference: of the clip that reference images are drawn from; None where that is the clip itself.
    """

    name: str
    images: Path
    poses: Path | None
    fps: float | None = None
    reference: "ClipFiles | None" = None

    @property
    def drawn(self) -> bool:
        """Whether the poses are a video of drawings."""
        return self.poses is not None and self.poses.suffix.lower() in VIDEO_SUFFIXES


class FolderClip:
    """A video, or a folder of images, with keypoints: see `aa_jax.data.clips.Clip`. An object is for one thread."""

    def __init__(self, files: ClipFiles):
        self.files = files
        self.images: Frames = open_frames(files.images)

    def __getstate__(self) -> ClipFiles:
        return self.files

    def __setstate__(self, files: ClipFiles) -> None:
        FolderClip.__init__(self, files)

    @property
    def name(self) -> str:
        """The path in the folder, without the suffix."""
        return self.files.name

    @functools.cached_property
    def keypoints(self) -> Keypoints:
        """Of every frame.

        Raises:
          FileNotFoundError: there are none.
          ValueError: the keypoint file is damaged.
        """
        if self.files.poses is None:
            raise FileNotFoundError(f"{self.files.images} has no keypoints, expected {with_poses(self.files.images)}")
        keypoints = load_keypoints(self.files.poses)
        return keypoints if keypoints.fps else dataclasses.replace(keypoints, fps=self.files.fps)

    @property
    def reference(self) -> "FolderClip":
        """The clip in `references/`, or this one."""
        return FolderClip(self.files.reference) if self.files.reference else self

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """The frames at `indices`.

        Raises:
          IndexError: there is no such frame.
          ValueError: the video is damaged, or keypoints and video do not have the same number of frames.
        """
        if len(self.images) != len(self.keypoints):
            raise ValueError(
                f"{self.files.images} has {len(self.images)} frames, but {self.files.poses} has {len(self.keypoints)}: "
                "extract the keypoints again"
            )
        return self.images(indices)


class DrawnClip:
    """A clip whose poses are drawn, not keypoints."""

    def __init__(self, name: str, images: Frames, poses: Frames):
        self.name, self.images, self.poses = name, images, poses

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.images)

    @property
    def reference(self) -> "DrawnClip":
        """The clip itself."""
        return self

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """The frames at `indices`; see `aa_jax.data.clips.Clip.frames`."""
        return self.images(indices)

    def drawn(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """The drawn poses of the frames at `indices`, of a size of their own.

        Raises:
          IndexError: there is no such frame.
          ValueError: the file is damaged, or poses and video do not have the same number of frames.
        """
        if len(self.poses) != len(self.images):
            raise ValueError(f"{self.name} has {len(self.images)} frames, but {len(self.poses)} drawn poses")
        return self.poses(indices)


class FilesSource:
    """Clips whose files are known: see `aa_jax.data.clips.ClipSource`."""

    def __init__(self, files: Sequence[ClipFiles]):
        self.files = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> FolderClip | DrawnClip:
        return open_clip(self.files[index])


class FolderSource(FilesSource):
    """The clips of a folder, ordered by name.

    Reading single frames of videos is slow (see `aa_jax.data.readers`), and a damaged file is an error when it is read:
    `python -m aa_jax.data prepare folder` makes records of a folder, for `aa_jax.data.records.RecordSource`.

    Args:
      path: the folder, or a meta JSON.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: the folder holds no video with poses, or the JSON is damaged.
    """

    def __init__(self, path: StrPath):
        found = find_clips(path)
        super().__init__([files for files in found if files.poses is not None])
        without = [files for files in found if files.poses is None]
        if not self.files:
            raise ValueError(
                f"{path} holds no video with poses: beside NAME.mp4, NAME{SUFFIX} was expected; "
                "`python -m aa_jax.pose extract` makes it"
            )
        if without:
            message = f"{path}: {len(without)} videos without poses are left out, {without[0].name} among them"
            warnings.warn(message, stacklevel=2)


def open_clip(files: ClipFiles) -> FolderClip | DrawnClip:
    """The clip that some files hold; they are opened when they are read."""
    if files.drawn and files.poses is not None:
        return DrawnClip(files.name, open_frames(files.images), open_frames(files.poses))
    return FolderClip(files)


def find_clips(path: StrPath) -> list[ClipFiles]:
    """The clips of a folder or a meta JSON, ordered by name, those without poses among them.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: two videos of a folder have one name, or the JSON is damaged.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"{path} does not exist, expected a folder of videos, or a meta JSON")
    clips = [*(_find(root) if root.is_dir() else _read_meta(root))]
    clips.sort(key=lambda files: files.name)
    for one, other in zip(clips, clips[1:], strict=False):
        if one.name == other.name:
            raise ValueError(f"{one.images} and {other.images} would both be the clip {one.name}: rename one")
    return clips


def with_poses(images: Path) -> Path:
    """The keypoint file that belongs to a video or a folder of images."""
    return images.with_name(_stem(images) + SUFFIX)


def _stem(images: Path) -> str:
    return images.stem if images.suffix.lower() in VIDEO_SUFFIXES else images.name


def _find(root: Path) -> Iterator[ClipFiles]:
    for images in _videos(root, ""):
        files = clip_files(images, name=images.with_name(_stem(images)).relative_to(root).as_posix())
        place = root / REFERENCES / files.name
        candidates = [*(place.with_name(place.name + suffix) for suffix in VIDEO_SUFFIXES), place]
        reference = next((found for found in candidates if found.exists()), None)
        if reference is not None:
            files = dataclasses.replace(files, reference=clip_files(reference, name=f"{REFERENCES}/{files.name}"))
        yield files


def _videos(root: Path, inside: str) -> Iterator[Path]:
    """Videos and folders of images, at any depth."""
    with os.scandir(root / inside) as scan:
        entries = [entry for entry in scan if not entry.name.startswith(".")]
    videos = [Path(entry.path) for entry in entries if entry.is_file() and _is_video(Path(entry.path))]
    yield from videos
    if inside and not videos and any(entry.is_file() and is_image(Path(entry.path)) for entry in entries):
        yield root / inside
        return
    for entry in entries:
        if entry.is_dir() and (inside or entry.name != REFERENCES):
            yield from _videos(root, os.path.join(inside, entry.name))


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.stem.endswith(DRAWN_ENDING)


def clip_files(images: Path, *, name: str, fps: float | None = None) -> ClipFiles:
    """A video or a folder of images, and the poses that lie beside it."""
    stem = _stem(images)
    drawn = [images.with_name(stem + DRAWN_ENDING + suffix) for suffix in VIDEO_SUFFIXES]
    poses = next((file for file in (with_poses(images), *drawn) if file.is_file()), None)
    if poses is None and (images / DISCO_FOLDER).is_dir():
        poses = images / DISCO_FOLDER
    return ClipFiles(name=name, images=images, poses=poses, fps=fps)


def _read_meta(path: Path) -> Iterator[ClipFiles]:
    """Moore-AnimateAnyone's meta JSON; its paths are as given, or from the JSON's folder on."""
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'{path} is no meta JSON, expected a list of {{"video_path": ..., "kps_path": ...}}')
    listed = []
    for number, entry in enumerate(entries):
        values = [entry.get(key, "") if isinstance(entry, dict) else "" for key in ("video_path", "kps_path")]
        named = [Path(value) for value in values if isinstance(value, str) and value]
        if len(named) < len(values):
            raise ValueError(f'{path}, entry {number}: expected {{"video_path": "...", "kps_path": "..."}}')
        listed.append([file if file.exists() else path.parent / file for file in named])
    common = Path(os.path.commonpath([video.parent.absolute() for video, _ in listed]))
    for video, poses in listed:
        name = video.absolute().relative_to(common).with_suffix("").as_posix()
        yield ClipFiles(name=name, images=video, poses=poses)
