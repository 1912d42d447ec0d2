"""What an animation is made from, of each clip."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from aa_jax.data.clips import Clip
from aa_jax.data.synthetic.source import SyntheticClip
from aa_jax.evaluation.protocols import Protocol
from aa_jax.pose.keypoints import Keypoints


class Conditions(NamedTuple):
    """What there is of a clip.

    Attributes:
      reference: the image.
      reference_pose: its keypoints, one frame.
      pose: the keypoints that drive it.
    """

    reference: UInt8[np.ndarray, "h w 3"]
    reference_pose: Keypoints
    pose: Keypoints

    def with_reference_of(self, other: "Conditions") -> "Conditions":
        """Another clip's character in this clip's poses."""
        return self._replace(reference=other.reference, reference_pose=other.reference_pose)

    def with_pose_of(self, other: "Conditions") -> "Conditions":
        """This clip's character in as many of another clip's poses; the last one is held where they are too few."""
        frames = np.minimum(np.arange(len(self.pose)), len(other.pose) - 1)
        return self._replace(pose=other.pose.take(frames.tolist()))

    def with_driver_scaled(self, scale: float) -> "Conditions":
        """The driving keypoints so many times as large about the image's centre."""
        points = (0.5 + scale * (self.pose.points - 0.5)).astype(self.pose.points.dtype)
        return self if scale == 1 else self._replace(pose=dataclasses.replace(self.pose, points=points))


def conditions(clip: Clip, protocol: Protocol) -> Conditions:
    """What the protocol gives of a clip."""
    of = clip if protocol.reference == "first" else clip.reference
    index = 0 if protocol.reference == "first" else len(of.keypoints) // 2
    return Conditions(
        reference=of.frames([index])[0],
        reference_pose=of.keypoints.take([index]),
        pose=clip.driving if isinstance(clip, SyntheticClip) else clip.keypoints,
    )
