"""Animate synthetic characters that the bundled model has never seen, in motions that it has never seen.

    python -m aa_jax.demo --output demo/

Writes a video of each clip, all of them in one animation (reference, pose, result, truth), and a contact sheet; prints
what the frames are worth. Nothing is downloaded, and a CPU is enough.
"""  # fmt: skip

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from aa_jax import cli
from aa_jax.animator import Animator
from aa_jax.atomic import aside
from aa_jax.data.synthetic.source import Split, SyntheticSource
from aa_jax.evaluation.conditions import conditions
from aa_jax.evaluation.protocols import PROTOCOLS
from aa_jax.image import strip
from aa_jax.metrics.image import psnr
from aa_jax.pose.retarget import RetargetMethod
from aa_jax.preprocess import pose_frames
from aa_jax.video import write_video

# Frames are small, and shown larger.
ENLARGED = 4
SHEET_FRAMES = 8
# White pixels between scenes.
GAP = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """What is animated.

    Attributes:
      name: of its files: what the character does.
      split, index: which clip of the synthetic characters.
      num_frames: of it.
      retarget: how another body's keypoints are fitted to the character.
    """

    name: str
    split: Split
    index: int
    num_frames: int = 16
    retarget: RetargetMethod = "none"


SCENES = (
    Scene(name="turn", split="both", index=0),
    Scene(name="squat", split="both", index=1),
    Scene(name="dance", split="identity", index=3, num_frames=40),
    Scene(name="gait", split="driving", index=4, retarget="bones"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """An animated scene.

    Attributes:
      name: of the scene.
      fps: frames per second.
      reference, poses, frames, truth: what went in, what came out, and what should have; uint8.
      masks: where the character is in the true frames.
    """

    name: str
    fps: float
    reference: UInt8[np.ndarray, "h w 3"]
    poses: UInt8[np.ndarray, "t h w 3"]
    frames: UInt8[np.ndarray, "t h w 3"]
    truth: UInt8[np.ndarray, "t h w 3"]
    masks: Bool[np.ndarray, "t h w"]

    @property
    def side_by_side(self) -> UInt8[np.ndarray, "t h 4*w 3"]:
        """Reference, pose, result and truth."""
        reference = np.broadcast_to(self.reference, self.truth.shape)
        return np.concatenate([reference, self.poses, self.frames, self.truth], axis=2)

    def decibels(self) -> list[float]:
        """PSNR of the frames, that of the character alone, and that of the character where the reference is shown in
        place of every frame."""
        copy = np.broadcast_to(self.reference, self.truth.shape)
        scores = (
            psnr(self.frames, self.truth), psnr(self.frames, self.truth, self.masks),
            psnr(copy, self.truth, self.masks),
        )  # fmt: skip
        return [float(np.mean(score)) for score in scores]


def animate(animator: Animator, scene: Scene) -> Result:
    """Animate one scene."""
    inference = animator.config.inference
    height, width = inference.height, inference.width
    source = SyntheticSource(
        split=scene.split, num_clips=scene.index + 1, num_frames=scene.num_frames, height=height, width=width
    )
    clip = source[scene.index]
    reference, reference_pose, pose = conditions(clip, PROTOCOLS["characters-small"])
    target = None if scene.retarget == "none" else reference_pose
    frames = animator(reference, pose, retarget=scene.retarget, reference_pose=target)
    indices = range(scene.num_frames)
    return Result(
        name=scene.name,
        fps=clip.fps,
        reference=reference,
        poses=pose_frames(pose, height, width, None, inference),
        frames=frames,
        truth=clip.frames(indices),
        masks=clip.masks(indices),
    )


def together(results: Sequence[Result]) -> UInt8[np.ndarray, "t h w 3"]:
    """All scenes, two in a row, as long as the longest; the others start again."""
    length = max(len(result.frames) for result in results)
    moving = [result.side_by_side[np.arange(length) % len(result.frames)] for result in results]
    gap = np.full((*moving[0].shape[:2], GAP, 3), 255, np.uint8)
    rows = [np.concatenate([left, gap, right], axis=2) for left, right in zip(moving[::2], moving[1::2], strict=True)]
    return np.concatenate(rows, axis=1)


def contact_sheet(results: Sequence[Result]) -> UInt8[np.ndarray, "h w 3"]:
    """Of each scene the reference and, in three rows, poses, results and truth of some frames."""
    strips = []
    for result in results:
        shown = np.linspace(0, len(result.frames) - 1, SHEET_FRAMES).round().astype(int)
        strips.append(strip(result.reference, result.poses[shown], result.frames[shown], result.truth[shown]))
    return np.concatenate(strips)


def enlarge(frames: UInt8[np.ndarray, "*t h w 3"]) -> UInt8[np.ndarray, "*t h2 w2 3"]:
    """Small frames for a large screen, every pixel a square."""
    return frames.repeat(ENLARGED, axis=-3).repeat(ENLARGED, axis=-2)


def demo(args: argparse.Namespace) -> None:
    """Run the command."""
    output: Path = args.output
    output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    animator = Animator.from_pretrained(args.model)
    results = []
    print(f"{'PSNR, dB':12} {'frames':>8} {'frame':>8} {'character':>10} {'its reference in place':>24}")
    for scene in SCENES:
        result = animate(animator, scene)
        results.append(result)
        write_video(output / f"{scene.name}.mp4", enlarge(result.frames), result.fps)
        whole, character, copied = result.decibels()
        print(f"{scene.name:12} {len(result.frames):8} {whole:8.2f} {character:10.2f} {copied:24.2f}", flush=True)
    write_video(output / "demo.webp", enlarge(together(results)), results[0].fps)
    with aside(output / "sheet.png") as partial:
        Image.fromarray(enlarge(contact_sheet(results))).save(partial, format="PNG")
    print(f"written to {output} in {time.perf_counter() - start:.0f} s")


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(prog="aa-jax demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--output", type=Path, default=Path("demo"), metavar="DIR", help="default: demo/")
    command.add_argument(
        "--model",
        default="bundled",
        metavar="DIR",
        help="another model of the characters; default: the bundled one",
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    return cli.run("demo", lambda: demo(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
