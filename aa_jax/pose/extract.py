"""Extraction: from a video or images to the keypoints of one person, a few frames at a time, and from where it stopped.

What is found in each frame, everyone, is kept in a hidden file beside the output until all is done, so that an
interrupted extraction goes on, and another person can be chosen without another run of the networks.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8

from aa_jax.atomic import StrPath, cannot_write
from aa_jax.image import load_image
from aa_jax.pose.dwpose import DWPose
from aa_jax.pose.files import SUFFIX, save_keypoints
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.people import CHOICES, Choice, People, follow
from aa_jax.video import IMAGE_SUFFIXES, image_files, read_video, stream_video, video_header

Frame = UInt8[np.ndarray, "h w 3"]


def extract(
    source: StrPath,
    model: DWPose,
    *,
    output: StrPath | None = None,
    choose: Choice = "best",
    num_frames: int | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Keypoints:
    """The keypoints of one person.

    Args:
      source: a video, an image, an animated image, or a folder of images.
      model: finds people and their keypoints.
      output: a keypoint file (`.npz`) to write. If this was begun before, with the same source and models, it goes on
        from there.
      choose: whom to follow if there are several: "best", "largest", "centre", or an index among the people of the
        first frame; see `aa_jax.pose.people.follow`.
      num_frames: only so many frames from the start.
      progress: called with the number of frames done and, where the source says it, of all; first with those that an
        interrupted extraction did.

    Returns:
      Keypoints of the source's size and rate; a still image or a folder of images has none.

    Raises:
      FileNotFoundError: there is nothing at `source`, or no folder for `output`.
      ValueError: the source cannot be read or its frames differ in size, nobody is found, or an argument is not
        possible.
      OSError: the output cannot be written.
    """
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}, expected 1 or more")
    if isinstance(choose, str) and choose not in CHOICES:
        raise ValueError(f"choose {choose!r} given, expected one of {', '.join(CHOICES)} or a person's index")
    if output is not None:
        check_output(output)
    opened = open_source(source)
    total = opened.count if num_frames is None or opened.count is None else min(num_frames, opened.count)
    first = next(opened.frames)
    frames = itertools.islice(itertools.chain([first], opened.frames), num_frames)
    with _Record(output, _facts(source, model, first)) as record:
        found = record.people[:num_frames]
        # Frames that are done are decoded again, which takes a small part of the networks' time.
        left = itertools.islice(frames, len(found), None)
        while True:
            if progress:
                progress(len(found), total)
            batch = list(itertools.islice(left, model.batch_size))
            if not batch:
                break
            for index, frame in enumerate(batch, len(found)):
                if frame.shape != first.shape:
                    raise ValueError(
                        f"{source} holds frames of different sizes: the first is {first.shape[1]}x{first.shape[0]} "
                        f"(width x height), frame {index} is {frame.shape[1]}x{frame.shape[0]}: expected one size"
                    )
            latest = model(batch)
            record.add(latest)
            found += latest
    height, width = first.shape[:2]
    keypoints = follow(found, height=height, width=width, fps=opened.fps, choose=choose)
    if output is not None:
        save_keypoints(output, keypoints)
        record.remove()
    return keypoints


def check_output(path: StrPath) -> None:
    """Raise what `extract` would for this output, before any work.

    Raises:
      ValueError: it does not end in `.npz`, or is a folder.
      FileNotFoundError: the folder for it does not exist.
    """
    target = Path(path)
    if target.suffix.lower() != SUFFIX:
        raise ValueError(f"{path} does not end in {SUFFIX}, the suffix of keypoint files")
    if target.is_dir():
        raise ValueError(f"{path} is a folder, expected a keypoint file ({SUFFIX}) to write")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent} is not an existing folder, so {path} cannot be written: create it")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Frames to read in order, once.

    Attributes:
      frames: RGB, at least one.
      count: how many there are, where that is known; a video's header may not say.
      fps: frames per second; None where there is none.
    """

    frames: Iterator[Frame]
    count: int | None
    fps: float | None


def open_source(path: StrPath) -> Source:
    """A video, an image, an animated image or a folder of images, read one frame at a time.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: it is none of these; damage further on is raised when it is come to.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist, expected a video, an image or a folder of images")
    if path.is_dir():
        files = image_files(path)
        return Source(frames=map(load_image, files), count=len(files), fps=None)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        video = read_video(path)
        return Source(frames=iter(video.frames), count=len(video), fps=video.fps if len(video) > 1 else None)
    count, fps = video_header(path)
    return Source(frames=(frame.rgb for frame in stream_video(path)), count=count, fps=fps)


def _facts(source: StrPath, model: DWPose, first: Frame) -> dict[str, object]:
    """What must be the same for an extraction to go on: the files by name, size and time of change."""
    path = Path(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path]

    def facts(file: Path) -> list[str | int]:
        state = file.stat()
        return [file.name, state.st_size, state.st_mtime_ns]

    return {
        "source": [facts(file) for file in files],
        "models": [facts(file) for file in model.paths],
        "resolution": model.resolution,
        "shape": list(first.shape),
    }


class _Record:
    """The hidden file beside the output: NumPy arrays one after another, first the facts as JSON, then for each frame
    its people (n, 134, 3): x, y, score. A file of other facts is begun anew, what is torn at its end is dropped."""

    def __init__(self, output: StrPath | None, facts: dict[str, object]):
        self.path = None if output is None else Path(output).with_name(f".{Path(output).name}.partial")
        self.facts = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        self.people: list[People] = []
        self.file: BinaryIO | None = None

    def __enter__(self) -> "_Record":
        if self.path is not None:
            try:
                self.file = open(self.path, "r+b" if self.path.exists() else "w+b")
                self.file.truncate(self._read(self.file))
                self.file.seek(0, os.SEEK_END)
                if not self.file.tell():
                    self._write([self.facts])
            except OSError as error:
                raise cannot_write(self.path, error) from error
        return self

    def _read(self, file: BinaryIO) -> int:
        """Read what is there; the length of its whole part."""
        end = 0
        try:
            if not np.array_equal(np.load(file), self.facts):
                return 0
            while True:
                end = file.tell()
                people = np.load(file)
                self.people.append(People(points=people[..., :2], scores=people[..., 2]))
        except (EOFError, ValueError):
            return end

    def add(self, people: list[People]) -> None:
        """Append frames."""
        if self.path is None:
            return
        try:
            self._write([np.concatenate([frame.points, frame.scores[..., None]], axis=-1) for frame in people])
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _write(self, arrays: list[np.ndarray]) -> None:
        assert self.file is not None
        # By way of memory: NumPy writes to a file directly, and then has no reason when that fails.
        memory = io.BytesIO()
        for array in arrays:
            np.save(memory, array)
        self.file.write(memory.getvalue())
        self.file.flush()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):  # of a full disk, which was reported when it was written to
                self.file.close()
        # A source that cannot be read will not be another time, while an interruption or a full disk may pass.
        if kind is not None and issubclass(kind, ValueError):
            self.remove()

    def remove(self) -> None:
        """Delete the file."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
