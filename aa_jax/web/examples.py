"""What the page can be tried with at once: held-out synthetic characters, and motions to drive them by.

    python -m aa_jax.web.examples DIR       # draws the files that come with the package

The motions are other bodies' than the characters', so that they are to be retargeted.
"""  # fmt: skip

import dataclasses
import sys
from pathlib import Path

from PIL import Image

from aa_jax.data.synthetic.source import Motion, SyntheticClip, SyntheticSource
from aa_jax.pose.files import save_keypoints
from aa_jax.pose.keypoints import Keypoints

FOLDER = Path(__file__).with_name("example_files")
HEIGHT, WIDTH, FRAMES = 256, 192, 48
# The clips of the split "identity" whose references they are.
CHARACTERS = {"character_1": 1, "character_2": 3, "character_3": 0, "character_4": 5}
# Squatting and turning are held out from training.
MOTIONS = {
    "squat": Motion(family="squat", number=0),
    "turn": Motion(family="turn", number=2),
    "walk": Motion(family="gait", number=4),
    "wave": Motion(family="wave", number=6),
    "dance": Motion(family="dance", number=8),
    "reach": Motion(family="reach", number=10),
}


def picture(character: str) -> Path:
    """The image of a character."""
    return FOLDER / f"{character}.png"


def keypoints(name: str) -> Path:
    """The keypoints of a character's image, one frame, or of a motion."""
    return FOLDER / f"{name}.npz"


def character_clips() -> dict[str, SyntheticClip]:
    """The clips that have the characters' images as their middle frames."""
    source = SyntheticSource(split="identity", num_clips=6, num_frames=FRAMES, height=HEIGHT, width=WIDTH)
    return {name: source[index].reference for name, index in CHARACTERS.items()}


def motion_clips() -> dict[str, SyntheticClip]:
    """The clips whose driving keypoints are the motions."""
    source = SyntheticSource(split="driving", num_clips=len(MOTIONS), num_frames=FRAMES, height=HEIGHT, width=WIDTH)
    return {
        name: dataclasses.replace(source[index], motion=motion) for index, (name, motion) in enumerate(MOTIONS.items())
    }


def stored(exact: Keypoints) -> Keypoints:
    """As the files have them: rounded, so that they are small."""
    return dataclasses.replace(exact, points=exact.points.round(4), scores=exact.scores.round(2))


def write(folder: Path) -> None:
    """Draw all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in character_clips().items():
        middle = clip.num_frames // 2
        Image.fromarray(clip.frames([middle])[0]).save(folder / f"{name}.png", optimize=True)
        save_keypoints(folder / f"{name}.npz", stored(clip.keypoints.take([middle])))
    for name, clip in motion_clips().items():
        save_keypoints(folder / f"{name}.npz", stored(clip.driving))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
