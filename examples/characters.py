"""A contact sheet of synthetic characters, each in eight frames of a clip with its pose below.

python -m examples.characters [--output examples/characters.png]
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from aa_jax.data.synthetic import SyntheticSource
from aa_jax.data.synthetic.source import SyntheticClip
from aa_jax.pose.draw import draw_poses

NUM_CHARACTERS, NUM_FRAMES, COLUMNS = 12, 8, 2
# Drawn large, shown small.
HEIGHT, WIDTH, SHRINK = 512, 384, 4
STEP = 3
MARGIN = 6


def strip(clip: SyntheticClip) -> np.ndarray:
    """Frames of a clip in a row, their poses below."""
    chosen = range(0, STEP * NUM_FRAMES, STEP)
    poses = draw_poses(clip.keypoints, height=clip.height, width=clip.width)[list(chosen)]
    rows = [np.concatenate(list(images), axis=1) for images in (clip.frames(chosen), poses)]
    sheet = np.concatenate(rows)
    return cv2.resize(sheet, None, fx=1 / SHRINK, fy=1 / SHRINK, interpolation=cv2.INTER_AREA)


def contact_sheet() -> np.ndarray:
    """All characters, `COLUMNS` beside each other; the last ones do what is held out of the training."""
    sources = [
        SyntheticSource(split=split, num_clips=100, num_frames=STEP * NUM_FRAMES, height=HEIGHT, width=WIDTH)
        for split in ("train", "both")
    ]
    held_out = NUM_CHARACTERS // 4
    clips = [sources[0][index] for index in range(NUM_CHARACTERS - held_out)] + [sources[1][i] for i in range(held_out)]
    strips = [np.pad(strip(clip), ((0, MARGIN), (0, MARGIN), (0, 0)), constant_values=255) for clip in clips]
    rows = [np.concatenate(strips[at : at + COLUMNS], axis=1) for at in range(0, NUM_CHARACTERS, COLUMNS)]
    return np.concatenate(rows)[:-MARGIN, :-MARGIN]


def main() -> None:
    """Draw the sheet and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".png"))
    output = parser.parse_args().output
    Image.fromarray(contact_sheet()).save(output, optimize=True)
    print(output)


if __name__ == "__main__":
    main()
