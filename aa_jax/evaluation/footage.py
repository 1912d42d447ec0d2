"""Frames to compare: predicted or true videos, from files or from a data set."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from aa_jax.atomic import StrPath
from aa_jax.data.clips import Clip, count_frames
from aa_jax.data.folder import ClipFiles, clip_files, find_clips
from aa_jax.data.readers import open_frames
from aa_jax.pose.files import load_keypoints
from aa_jax.pose.keypoints import Keypoints
from aa_jax.video import image_files, read_video, video_header


class Footage(Protocol):
    """A clip's frames.

    Attributes:
      name: by which predicted and true clips belong together.
    """

    @property
    def name(self) -> str: ...

    @property
    def stamp(self) -> str:
        """Another one when the frames may be others."""
        ...

    @property
    def num_frames(self) -> int:
        """Number of frames, as the files state it.

        Raises:
          ValueError: they cannot be read.
        """
        ...

    @property
    def fps(self) -> float | None:
        """Frames per second; None where nothing states it."""
        ...

    @property
    def keypoints(self) -> Keypoints | None:
        """Of every frame; None where there are none."""
        ...

    def frames(self) -> UInt8[np.ndarray, "t h w 3"]:
        """All frames, RGB.

        Raises:
          ValueError: they are damaged.
        """
        ...


@dataclasses.dataclass(frozen=True)
class FileFootage:
    """A video, or a folder of images; see `Footage`."""

    files: ClipFiles

    @property
    def name(self) -> str:
        """The path in the folder, without the suffix."""
        return self.files.name

    @property
    def stamp(self) -> str:
        """Names, sizes and times of the files."""
        path = self.files.images
        files = image_files(path) if path.is_dir() else [path]
        if self.files.poses is not None and self.files.poses.is_file():
            files.append(self.files.poses)
        digest = hashlib.sha256()
        for file in files:
            facts = file.stat()
            digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    @property
    def num_frames(self) -> int:
        """See `Footage`."""
        return len(open_frames(self.files.images))

    @property
    def fps(self) -> float | None:
        """See `Footage`."""
        return None if self.files.images.is_dir() else video_header(self.files.images)[1]

    @property
    def keypoints(self) -> Keypoints | None:
        """See `Footage`."""
        return None if self.files.poses is None or self.files.drawn else load_keypoints(self.files.poses)

    def frames(self) -> UInt8[np.ndarray, "t h w 3"]:
        """See `Footage`."""
        return read_video(self.files.images).frames


@dataclasses.dataclass(frozen=True)
class ClipFootage:
    """A clip of a data set; see `Footage`."""

    clip: Clip
    stamp: str

    @property
    def name(self) -> str:
        """The clip's."""
        return self.clip.name

    @property
    def num_frames(self) -> int:
        """See `Footage`."""
        return count_frames(self.clip)

    @property
    def fps(self) -> float | None:
        """See `Footage`."""
        return self.clip.keypoints.fps

    @property
    def keypoints(self) -> Keypoints:
        """See `Footage`."""
        return self.clip.keypoints

    def frames(self) -> UInt8[np.ndarray, "t h w 3"]:
        """See `Footage`."""
        return self.clip.frames(range(self.num_frames))


def open_folder(folder: StrPath) -> list[FileFootage]:
    """The videos and folders of images in a folder, ordered by name.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds neither, or two of one name.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} does not exist, expected a folder of videos or of folders of images")
    found = [FileFootage(files) for files in find_clips(folder)]
    if not found:
        raise ValueError(f"{folder} holds no videos and no folders of images")
    return found


def folder_of_images(path: Path, name: str) -> FileFootage:
    """Frames that were written as images."""
    return FileFootage(clip_files(path, name=name))
