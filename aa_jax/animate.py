"""Animate a still image of a character.

    python -m aa_jax.animate --model model/ --reference person.png --pose dance.mp4 --output out.mp4
    python -m aa_jax.animate --model model/ --reference person.png --pose dance.npz --output out.mp4 --height 768
    --width 512 --resize crop
"""  # fmt: skip

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aa_jax import cli, preprocess
from aa_jax.animator import DTYPES, Animator, check_size, retarget_pose
from aa_jax.image import load_image
from aa_jax.models.config import ATTENTION_IMPLEMENTATIONS
from aa_jax.pose.files import load_pose
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.retarget import METHODS
from aa_jax.video import DEFAULT_FPS, Video, check_writable, side_by_side, write_video
from aa_jax.weights import load_config, resolve


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(
        prog="animate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=True
    )
    files = command.add_argument_group("files")
    files.add_argument(
        "--model", required=True, metavar="DIR", help="model folder, or owner/name on the Hugging Face Hub"
    )
    files.add_argument("--reference", required=True, type=Path, metavar="IMG", help="image of the character")
    files.add_argument(
        "--pose", required=True, type=Path, metavar="FILE",
        help="keypoints (.npz; OpenPose's, DisCo's or MediaPipe's JSON), or drawn poses (a video, an animation or a "
        "folder of images)",
    )  # fmt: skip
    files.add_argument(
        "--pose-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"),
        help="of the images that the pose was found in, if it is JSON",
    )  # fmt: skip
    files.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="OUT",
        help=".mp4, .gif, .webp, or a folder for PNGs (a name without suffix)",
    )
    files.add_argument(
        "--side-by-side", action="store_true", help="write reference, pose and result beside one another"
    )

    video = command.add_argument_group("video (defaults are the model's)")
    divisible = "divisible by what the model's VAE downscales by, 8 in Stable Diffusion's"
    video.add_argument("--height", type=int, metavar="PIXELS", help=divisible)
    video.add_argument("--width", type=int, metavar="PIXELS", help=divisible)
    video.add_argument("--num-frames", type=int, metavar="N", help="default: all frames of the pose")
    video.add_argument("--fps", type=float, help=f"frames per second; default: the pose's, or {DEFAULT_FPS:g}")
    video.add_argument(
        "--resize",
        choices=("crop", "letterbox", "stretch"),
        help="needed where reference or pose have another aspect than the video",
    )
    video.add_argument(
        "--retarget",
        choices=METHODS,
        default="none",
        help="give the keypoints the size and place (affine), and the build (bones), of the character; default none",
    )
    video.add_argument(
        "--reference-pose",
        type=Path,
        metavar="FILE",
        help="keypoints of the reference image, for --retarget: python -m aa_jax.pose extract IMG --output FILE.npz",
    )

    sampling = command.add_argument_group("sampling (defaults are the model's)")
    sampling.add_argument("--num-inference-steps", type=int, metavar="N")
    sampling.add_argument("--guidance-scale", type=float, metavar="S", help="1 or less switches guidance off")
    sampling.add_argument("--guidance-rescale", type=float, default=0.0, metavar="R", help="0 to 1, default 0")
    sampling.add_argument(
        "--guidance-interval",
        type=float,
        nargs=2,
        default=(0.0, 1.0),
        metavar=("START", "END"),
        help="guided part of the run, default 0 1",
    )
    sampling.add_argument("--seed", type=int, default=42, help="default 42")
    sampling.add_argument("--sampler", default="ddim", metavar="NAME", help="ddim (default), dpm++ or euler")
    sampling.add_argument("--windows", metavar="NAME", help="long video: paper, uniform, triangular, shifted or moore")
    sampling.add_argument("--window-length", type=int, metavar="FRAMES", help="frames denoised together")
    sampling.add_argument("--window-overlap", type=int, metavar="FRAMES")

    machine = command.add_argument_group("machine")
    machine.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of weights and computation, default float32"
    )
    machine.add_argument("--attention", choices=ATTENTION_IMPLEMENTATIONS, default="auto", help="kernel, default auto")
    machine.add_argument(
        "--window-batch",
        type=int,
        metavar="N",
        help="windows in the network at once, default all; fewer take less memory",
    )
    machine.add_argument("--frame-batch", type=int, default=4, metavar="N", help="frames in the VAE at once, default 4")
    machine.add_argument("--quiet", action="store_true", help="print errors only")
    return command


def animate(args: argparse.Namespace) -> None:
    """Run the command. Whatever can be checked without the weights is checked before they are read."""
    say = (lambda *words: None) if args.quiet else print
    output = args.output
    check_writable(output, args.fps)
    config = load_config(resolve(args.model))
    height = config.inference.height if args.height is None else args.height
    width = config.inference.width if args.width is None else args.width
    check_size(height, width, config.downscale)
    reference, loaded = load_image(args.reference), _load_pose(args.pose, args.pose_size)
    fps = args.fps if args.fps is not None else loaded.fps or DEFAULT_FPS
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps:g}, expected a positive number")
    check_writable(output, fps)
    with cli.warnings_as_lines("animate"):
        pose = retarget_pose(loaded, reference, args.retarget, args.reference_pose)
    character = preprocess.reference_frame(reference, height, width, args.resize, config.inference)
    drawn = preprocess.pose_frames(pose, height, width, args.resize, config.inference, args.num_frames)
    frames = len(drawn)

    start = time.perf_counter()
    animator = Animator.from_pretrained(args.model, dtype=args.dtype, attention=args.attention)
    millions = sum(np.size(leaf) for leaf in animator.leaves()) / 1e6
    said = f"{config.family}, {millions:.0f} million parameters, {args.dtype}, read in {_since(start)}"
    say(f"model    {args.model}: {said}")
    say(f"video    {frames} frames, {width}x{height}, {fps:g} per second")

    start = time.perf_counter()
    with cli.Bar("denoise", "step", quiet=args.quiet) as bar:
        video = animator(
            reference,
            pose,
            height=height,
            width=width,
            num_frames=frames,
            num_inference_steps=args.num_inference_steps,
            guidance_scale=args.guidance_scale,
            guidance_rescale=args.guidance_rescale,
            guidance_interval=tuple(args.guidance_interval),
            seed=args.seed,
            sampler=args.sampler,
            windows=args.windows,
            window_length=args.window_length,
            window_overlap=args.window_overlap,
            window_batch=args.window_batch,
            frame_batch=args.frame_batch,
            resize=args.resize,
            progress=bar,
        )
    compiling = animator.programs.compile_seconds
    running = time.perf_counter() - start - compiling
    say(f"compile  {compiling:.1f} s")
    say(f"run      {running:.1f} s, {frames / running:.3g} frames per second")
    write_video(output, side_by_side(character, drawn, video) if args.side_by_side else video, fps)
    say(f"written  {output}")


def _load_pose(path: Path, size: Sequence[int] | None) -> Keypoints | Video:
    height, width = size or (None, None)
    return load_pose(path, height=height, width=width)


def _since(start: float) -> str:
    return f"{time.perf_counter() - start:.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    return cli.run("animate", lambda: animate(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
