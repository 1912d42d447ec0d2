"""What every source of training data gives: clips of one character, with random access to their frames."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from typing_extensions import TypeIs

from aa_jax.pose.keypoints import Keypoints


class Clip(Protocol):
    """One clip of one character; its frames are read or rendered when they are asked for.

    Attributes:
      name: unique within the source.
      keypoints: of every frame; `len(keypoints)` is the number of frames, `keypoints.height`, `.width` and `.fps` are
        the clip's.
      reference: the clip that a reference image is drawn from, of the same character: the clip itself in real videos,
        another motion of the same character where a source has one.
    """

    @property
    def name(self) -> str: ...

    @property
    def keypoints(self) -> Keypoints: ...

    @property
    def reference(self) -> "Clip": ...

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """The frames at `indices` (0 <= index < number of frames, in any order, repeats allowed), RGB.

        Raises:
          IndexError: there is no such frame.
          ValueError: the clip's file is damaged.
        """
        ...


class DrawnClip(Protocol):
    """A clip whose poses are drawn already, and which has no keypoints; all else is as in `Clip`."""

    @property
    def name(self) -> str: ...

    @property
    def num_frames(self) -> int: ...

    @property
    def reference(self) -> "DrawnClip": ...

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]: ...

    def drawn(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h2 w2 3"]:
        """The drawn poses of the frames at `indices`, RGB, of a size of their own."""
        ...


class EncodedClip(Clip, Protocol):
    """A clip whose frames frozen networks have encoded already."""

    @property
    def reference(self) -> "EncodedClip": ...

    def encoded(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """Named arrays with one row per frame asked for."""
        ...


class ClipSource(Protocol):
    """A data set: a fixed number of clips in a fixed order. Sources pickle, import light, and are safe to read from
    several processes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip | DrawnClip: ...


def is_drawn(clip: Clip | DrawnClip) -> TypeIs[DrawnClip]:
    """Whether a clip's poses are drawn already. (`isinstance` would read the clip's files.)"""
    return hasattr(clip, "drawn")


def is_encoded(clip: Clip | DrawnClip) -> TypeIs[EncodedClip]:
    """Whether a clip's frames are encoded already."""
    return hasattr(clip, "encoded")


def count_frames(clip: Clip | DrawnClip) -> int:
    """Number of frames of a clip; some know it without their keypoints."""
    number = getattr(clip, "num_frames", None)
    return len(clip.keypoints) if number is None else number  # type: ignore[union-attr]
