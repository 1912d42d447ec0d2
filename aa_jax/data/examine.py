"""What is out of the ordinary about a clip, before records are made of it: what is put right, and what cannot be."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from aa_jax.data.clips import Clip
from aa_jax.data.folder import DrawnClip, FolderClip
from aa_jax.data.readers import Frames, VideoFrames, even_out
from aa_jax.image import same_aspect
from aa_jax.pose.keypoints import VISIBLE, Keypoints

Read = Callable[[Sequence[int]], UInt8[np.ndarray, "n h w 3"]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """A clip that can be made records of.

    Attributes:
      name: of the clip.
      size: height and width of its frames, in pixels.
      fps: frames per second, None where that is not known.
      keypoints: of every frame of the files; None where poses are drawn.
      images: reads frames.
      drawn: reads drawn poses; None where there are keypoints.
      shown: the frames to record, as indices into the clip; of a variable frame rate some are left out or repeated.
      notes: what was found and put right.
    """

    name: str
    size: tuple[int, int]
    fps: float | None
    keypoints: Keypoints | None
    images: Read
    drawn: Read | None
    shown: Int[np.ndarray, " n"]
    notes: tuple[str, ...]


def examine(clip: Clip | DrawnClip, *, min_frames: int) -> Examined:
    """Look at a clip's files, without decoding more than the first frame.

    Raises:
      FileNotFoundError, ValueError: it cannot be used; one line says why.
    """
    images = clip.images if isinstance(clip, FolderClip | DrawnClip) else None
    drawn = clip.drawn if isinstance(clip, DrawnClip) else None
    keypoints = None if isinstance(clip, DrawnClip) else clip.keypoints
    length = len(images) if images is not None else len(keypoints or ())
    if length < min_frames:
        raise ValueError(f"{clip.name} has {length} frame{'s' * (length != 1)}, fewer than {min_frames}")
    if drawn:
        drawn([0])
    first = clip.frames([0])[0]
    height, width = first.shape[:2]
    if keypoints is not None:
        _check_keypoints(clip.name, keypoints, (height, width))
    shown, fps, notes = np.arange(length), keypoints.fps if keypoints else None, []
    if isinstance(images, VideoFrames):
        times = images.index.times
        even = even_out(times)
        if even:
            shown, fps = even
            shortest, longest = np.diff(times).min() * 1000, np.diff(times).max() * 1000
            notes.append(
                f"variable frame rate, {shortest:.0f} to {longest:.0f} ms a frame: "
                f"{len(shown)} frames at {fps:.3g} per second made of {length}"
            )
        elif length > 1:
            fps = (length - 1) / float(times[-1] - times[0])
        notes += _notes_on_frame(images, height, width)
    elif height % 2 or width % 2:
        notes.append(f"odd size, {width}x{height} (width x height)")
    return Examined(
        name=clip.name,
        size=(height, width),
        fps=fps,
        keypoints=keypoints,
        images=clip.frames,
        drawn=drawn,
        shown=shown,
        notes=tuple(notes),
    )


def _notes_on_frame(images: Frames, height: int, width: int) -> list[str]:
    notes = []
    rotation = images.first().rotation if isinstance(images, VideoFrames) else 0
    if rotation:
        notes.append(f"rotated by {rotation % 360} degrees, stored upright")
    if height % 2 or width % 2:
        notes.append(f"odd size, {width}x{height} (width x height)")
    return notes


def _check_keypoints(name: str, keypoints: Keypoints, size: tuple[int, int]) -> None:
    if not same_aspect((keypoints.height, keypoints.width), size):
        raise ValueError(
            f"{name} is {size[1]}x{size[0]} (width x height), "
            f"but its keypoints are of images of {keypoints.width}x{keypoints.height}: extract them again"
        )
    if keypoints.scores.max() < VISIBLE:
        raise ValueError(f"{name} has no visible keypoint in any of its {len(keypoints)} frames")
