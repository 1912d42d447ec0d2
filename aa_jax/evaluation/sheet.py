"""One picture to look at: of some clips the reference, the poses, what was made of them, and the truth."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from aa_jax.evaluation.conditions import conditions
from aa_jax.evaluation.footage import ClipFootage, Footage
from aa_jax.evaluation.pairs import fit
from aa_jax.evaluation.protocols import Protocol
from aa_jax.image import strip, tile
from aa_jax.pose.draw import DrawStyle, draw_poses
from aa_jax.pose.fit import fit_keypoints

# Shown of a clip.
FRAMES = 8
# Lines of poses are as wide as they are on drawings whose shorter side has so many pixels, or images are all lines.
SHARP = 512


def sheet(
    predicted: Sequence[Footage], truth: Sequence[ClipFootage], protocol: Protocol
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The clips, as many side by side as make the picture about square: of each the reference, and rows of poses,
    predicted frames and true ones.

    Raises:
      ValueError: no clips, or a damaged file.
    """
    return tile([_strip(*each, protocol) for each in zip(predicted, truth, strict=True)])


def _strip(predicted: Footage, truth: ClipFootage, protocol: Protocol) -> UInt8[np.ndarray, "h2 w2 3"]:
    given, true = conditions(truth.clip, protocol), truth.frames()
    height, width = protocol.height or true.shape[1], protocol.width or true.shape[2]
    moments = np.linspace(0, len(true) - 1, min(FRAMES, len(true))).round().astype(int)
    poses = fit_keypoints(given.pose.take(moments.tolist()), height, width, protocol.fit)
    rows = (
        draw_poses(poses, height=height, width=width, style=DrawStyle(scale_to=SHARP)),
        *(fit(frames[moments], (height, width), protocol) for frames in (predicted.frames(), true)),
    )
    return strip(fit(given.reference[None], (height, width), protocol)[0], *rows)
