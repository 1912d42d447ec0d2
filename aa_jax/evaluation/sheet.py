"""One picture to look at: of some clips the reference, the poses, what was made of them, and the truth."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from aa_jax.evaluation.conditions import conditions
from aa_jax.evaluation.footage import ClipFootage, Footage
from aa_jax.evaluation.pairs import fit
from aa_jax.evaluation.protocols import Protocol
from aa_jax.pose.draw import DrawStyle, draw_poses
from aa_jax.pose.fit import fit_keypoints

# Frames of a clip, and white pixels between clips.
FRAMES, GAP = 8, 4
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
    if not truth:
        raise ValueError("no clips given, expected one or more")
    strips = [_strip(*each, protocol) for each in zip(predicted, truth, strict=True)]
    height, width = np.max([strip.shape[:2] for strip in strips], axis=0) + GAP
    columns = min(len(strips), max(1, round((len(strips) * height / width) ** 0.5)))
    lines = -(-len(strips) // columns)
    picture = np.full((lines * height, columns * width, 3), 255, np.uint8)
    for index, strip in enumerate(strips):
        top, left = index // columns * height, index % columns * width
        picture[top : top + strip.shape[0], left : left + strip.shape[1]] = strip
    return picture[:-GAP, :-GAP]


def _strip(predicted: Footage, truth: ClipFootage, protocol: Protocol) -> UInt8[np.ndarray, "h2 w2 3"]:
    given, true = conditions(truth.clip, protocol), truth.frames()
    height, width = protocol.height or true.shape[1], protocol.width or true.shape[2]
    moments = np.linspace(0, len(true) - 1, min(FRAMES, len(true))).round().astype(int)
    poses = fit_keypoints(given.pose.take(moments.tolist()), height, width, protocol.fit)
    rows = (
        draw_poses(poses, height=height, width=width, style=DrawStyle(scale_to=SHARP)),
        *(fit(frames[moments], (height, width), protocol) for frames in (predicted.frames(), true)),
    )
    first = np.full((len(rows), height, width, 3), 255, np.uint8)
    first[0] = fit(given.reference[None], (height, width), protocol)[0]
    return np.concatenate([np.concatenate([start, *row], axis=1) for start, row in zip(first, rows, strict=True)])
