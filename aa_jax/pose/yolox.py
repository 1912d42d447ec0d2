"""YOLOX, the detector in front of DWPose: from images to the network's input, and from its output to people's boxes.

As published (`src/dwpose/onnxdet.py` of Moore-AnimateAnyone, after IDEA-Research's DWPose), bit for bit: the network
takes BGR pixels in [0, 255]; its output is one row for each cell of grids of strides 8, 16 and 32: place and logarithm
of the size of a box in strides, objectness, and the probabilities of COCO's classes, the first of which is a person.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

STRIDES = (8, 16, 32)
PADDING = 114
PERSON = 0
# Boxes that score less never come to suppression; of the others, people's are taken above the second threshold.
CANDIDATE_SCORE = 0.1
PERSON_SCORE = 0.3
MOST_OVERLAP = 0.45


def letterbox(
    image: UInt8[np.ndarray, "h w 3"], height: int, width: int
) -> tuple[Float[np.ndarray, "3 height width"], float]:
    """The image scaled to fit, at the top left of a grey canvas; and the scale."""
    scale = min(height / image.shape[0], width / image.shape[1])
    high, wide = int(image.shape[0] * scale), int(image.shape[1] * scale)
    canvas = np.full((height, width, 3), PADDING, np.uint8)
    canvas[:high, :wide] = cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)
    return canvas.transpose(2, 0, 1).astype(np.float32), scale


def num_cells(height: int, width: int) -> int:
    """How many rows the network gives for an input of this size."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


def people_boxes(
    rows: Float[np.ndarray, "cells 5+classes"], height: int, width: int, scale: float
) -> Float[np.ndarray, "n 4"]:
    """The people in one image, best first.

    Args:
      rows: the network's output for it, float32.
      height: of the network's input.
      width: of the network's input.
      scale: `letterbox`'s.

    Returns:
      Left, top, right and bottom in pixels of the image; may be none.
    """
    cells, strides = _grid(height, width)
    centres = ((rows[:, :2] + cells) * strides).astype(np.float32)
    sizes = (np.exp(rows[:, 2:4]) * strides).astype(np.float32)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1) / np.float32(scale)
    # Other classes are suppressed among themselves, and so make no difference.
    scores = rows[:, 4] * rows[:, 5 + PERSON]
    candidates = scores > CANDIDATE_SCORE
    boxes, scores = boxes[candidates], scores[candidates]
    kept = _suppress(boxes, scores)
    people = scores[kept].astype(np.float64) > PERSON_SCORE
    return boxes[kept][people].astype(np.float64)


def _grid(height: int, width: int) -> tuple[Float[np.ndarray, "cells 2"], Float[np.ndarray, "cells 1"]]:
    """Column and row of each cell in its grid, and its stride."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = height // stride, width // stride
        cells.append(np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64)


def _suppress(boxes: Float[np.ndarray, "n 4"], scores: Float[np.ndarray, " n"]) -> list[int]:
    """Non-maximum suppression: boxes by falling score, without those that overlap a better one too much. Sizes count
    the pixel at the far edge."""
    left, top, right, bottom = boxes.T
    areas = (right - left + 1) * (bottom - top + 1)
    waiting, kept = scores.argsort()[::-1], []
    while waiting.size:
        best, others = waiting[0], waiting[1:]
        kept.append(int(best))
        wide = np.maximum(0, np.minimum(right[best], right[others]) - np.maximum(left[best], left[others]) + 1)
        high = np.maximum(0, np.minimum(bottom[best], bottom[others]) - np.maximum(top[best], top[others]) + 1)
        shared = wide * high
        waiting = others[shared / (areas[best] + areas[others] - shared) <= MOST_OVERLAP]
    return kept
