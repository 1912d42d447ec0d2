"""Animate a still image of a character.

    python -m aa_jax.animate --model model/ --reference person.png --pose dance.mp4 --output out.mp4
    python -m aa_jax.animate --model model/ --reference person.png --pose dance.npz --output out.mp4 --height 768
    --width 512 --resize crop
"""  # fmt: skip

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8

from aa_jax import cli, preprocess
from aa_jax.animator import DTYPES, Animator
from aa_jax.config import ModelConfig
from aa_jax.image import load_image
from aa_jax.memory import parse_size
from aa_jax.models.config import ATTENTION_IMPLEMENTATIONS
from aa_jax.pose.files import load_pose
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.retarget import METHODS
from aa_jax.request import MODES, check_size
from aa_jax.video import DEFAULT_FPS, Video, check_writable, side_by_side, write_video
from aa_jax.weights import load_config, resolve

# What decides the programs, as `Animator` calls it.
PROGRAM_OPTIONS = (
    "height", "width", "num_inference_steps", "guidance_scale", "guidance_rescale", "guidance_interval", "sampler",
    "windows", "window_length", "window_overlap", "window_batch", "frame_batch", "layer_frames", "bucket_frames",
    "mode", "reuse",
)  # fmt: skip
Group = argparse._ArgumentGroup


def add_program_options(video: Group, sampling: Group, machine: Group) -> None:
    """Arguments for `PROGRAM_OPTIONS` but `bucket_frames`, and for how the weights are loaded: dtype and attention."""
    divisible = "divisible by what the model's VAE downscales by, 8 in Stable Diffusion's"
    video.add_argument("--height", type=int, metavar="PIXELS", help=divisible)
    video.add_argument("--width", type=int, metavar="PIXELS", help=divisible)

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
    sampling.add_argument("--sampler", metavar="NAME", help="ddim (default), dpm++ or euler")
    sampling.add_argument(
        "--mode",
        choices=MODES,
        default="exact",
        help="fast: 10 steps of dpm++; turbo: all of the network in every other of them only; models that need no more "
        "steps run as they are; default exact",
    )
    sampling.add_argument("--reuse", type=int, metavar="N", help="steps that share an evaluation of all of the network")
    sampling.add_argument("--windows", metavar="NAME", help="long video: paper, uniform, triangular, shifted or moore")
    sampling.add_argument("--window-length", type=int, metavar="FRAMES", help="frames denoised together")
    sampling.add_argument("--window-overlap", type=int, metavar="FRAMES")

    machine.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of weights and computation, default float32"
    )
    machine.add_argument("--attention", choices=ATTENTION_IMPLEMENTATIONS, default="auto", help="kernel, default auto")
    machine.add_argument(
        "--window-batch",
        type=int,
        default=1,
        metavar="N",
        help="windows in the network at once, default 1; more may be faster at small sizes",
    )
    machine.add_argument("--frame-batch", type=int, default=4, metavar="N", help="frames in the VAE at once, default 4")
    machine.add_argument(
        "--layer-frames",
        type=int,
        metavar="N",
        help="frames of a window that a layer works on at once, default all; fewer take less memory",
    )


def add_device_options(machine: Group) -> None:
    """Arguments for the devices that run it, and for `bucket_frames`, which lets videos share programs."""
    machine.add_argument("--devices", type=int, default=1, metavar="N", help="that share each video, default 1")
    machine.add_argument(
        "--offload",
        action="store_true",
        help="keep the weights in the host's memory, each network on the device only while it works",
    )
    machine.add_argument(
        "--no-bucket-frames",
        dest="bucket_frames",
        action="store_false",
        help="a program for just this number of frames; else it is rounded up, where that changes no frame",
    )


def memory_size(text: str) -> int:
    """`parse_size` for argparse."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def program_options(args: argparse.Namespace) -> dict[str, Any]:
    """`PROGRAM_OPTIONS`, as `Animator` takes them."""
    options = {name: getattr(args, name) for name in PROGRAM_OPTIONS}
    return options | {"guidance_interval": tuple(args.guidance_interval)}


def loading_options(args: argparse.Namespace) -> dict[str, Any]:
    """How `Animator.from_pretrained` loads the weights."""
    available = jax.devices()
    if not 1 <= args.devices <= len(available):
        raise ValueError(f"devices is {args.devices}, expected 1 to {len(available)}, which are there")
    return {
        "dtype": args.dtype,
        "attention": args.attention,
        "offload": args.offload,
        "devices": available[: args.devices] if args.devices > 1 else None,
    }


def parser(kind: type[cli.Parser] = cli.Parser) -> cli.Parser:
    """The command line."""
    command = kind(
        prog="aa-jax animate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=True
    )
    files = command.add_argument_group("files")
    files.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="model folder, or owner/name on the Hugging Face Hub; bundled: small drawn characters",
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
    sampling = command.add_argument_group("sampling (defaults are the model's)")
    machine = command.add_argument_group("machine")
    add_program_options(video, sampling, machine)
    add_device_options(machine)
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

    sampling.add_argument("--seed", type=int, default=42, help="default 42")
    machine.add_argument(
        "--memory-budget",
        type=memory_size,
        metavar="SIZE",
        help="of each device, such as 12GiB: frames at a time become as few as that asks for",
    )
    machine.add_argument(
        "--compiled",
        type=Path,
        metavar="DIR",
        help="programs that `aa_jax.compile` wrote, as trusted as code; what is not among them is compiled",
    )
    machine.add_argument("--quiet", action="store_true", help="print errors only")
    return command


class Inputs(NamedTuple):
    """What is animated.

    Attributes:
      reference: the image as it is.
      pose: keypoints, retargeted, or drawn poses.
      character, drawn: what the model sees of them.
      fps: of the video.
    """

    reference: UInt8[np.ndarray, "h0 w0 3"]
    pose: Keypoints | Video | UInt8[np.ndarray, "t0 h0 w0 3"]
    character: UInt8[np.ndarray, "h w 3"]
    drawn: UInt8[np.ndarray, "t h w 3"]
    fps: float


def load_inputs(args: argparse.Namespace, config: ModelConfig) -> Inputs:
    """All that the options name.

    Raises:
      FileNotFoundError, ValueError: a bad file or option.
    """
    inference = config.inference
    height = inference.height if args.height is None else args.height
    width = inference.width if args.width is None else args.width
    check_size(height, width, config.downscale)
    given_height, given_width = args.pose_size or (None, None)
    reference, loaded = load_image(args.reference), load_pose(args.pose, height=given_height, width=given_width)
    fps = args.fps if args.fps is not None else loaded.fps or DEFAULT_FPS
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps:g}, expected a positive number")
    check_writable(args.output, fps)
    pose = preprocess.retarget_pose(loaded, reference, args.retarget, args.reference_pose)
    character = preprocess.reference_frame(reference, height, width, args.resize, inference)
    drawn = preprocess.pose_frames(pose, height, width, args.resize, inference, args.num_frames)
    return Inputs(reference, pose, character, drawn, fps)


def make_frames(
    animator: Animator, inputs: Inputs, args: argparse.Namespace, progress: Callable[[int, int], object] | None = None
) -> Iterator[UInt8[np.ndarray, "h w2 3"]]:
    """The animation that the options ask for, frame by frame; all but the decoding is done when it returns.

    Raises:
      ValueError: an option that the model or the device cannot follow.
    """
    frames = animator.frames(
        inputs.reference,
        inputs.pose,
        num_frames=len(inputs.drawn),
        seed=args.seed,
        resize=args.resize,
        memory_budget=args.memory_budget,
        progress=progress,
        **program_options(args),
    )
    if not args.side_by_side:
        return frames
    pairs = zip(inputs.drawn, frames, strict=True)
    return (side_by_side(inputs.character, pose[None], frame[None])[0] for pose, frame in pairs)


def animate(args: argparse.Namespace) -> None:
    """Run the command. Whatever can be checked without the weights is checked before they are read."""
    say = (lambda *words: None) if args.quiet else print
    check_writable(args.output, args.fps)
    config = load_config(resolve(args.model))
    with cli.warnings_as_lines("animate"):
        inputs = load_inputs(args, config)
    frames, height, width, _ = inputs.drawn.shape

    start = time.perf_counter()
    animator = Animator.from_pretrained(args.model, **loading_options(args))
    if args.compiled is not None:
        animator.load_compiled(args.compiled)
    millions = sum(np.size(leaf) for leaf in animator.leaves()) / 1e6
    said = f"{config.family}, {millions:.0f} million parameters, {args.dtype}, read in {_since(start)}"
    say(f"model    {args.model}: {said}")
    say(f"video    {frames} frames, {width}x{height}, {inputs.fps:g} per second")
    start = time.perf_counter()
    if args.memory_budget is not None:
        say(f"memory   {animator.plan(frames, memory_budget=args.memory_budget, **program_options(args))}")
    with cli.Bar("denoise", "step", quiet=args.quiet) as bar:
        made = make_frames(animator, inputs, args, bar)
    write_video(args.output, made, inputs.fps)
    compiling = animator.programs.compile_seconds
    running = time.perf_counter() - start - compiling
    say(f"compile  {compiling:.1f} s")
    say(f"run      {running:.1f} s, {frames / running:.3g} frames per second")
    say(f"written  {args.output}")


def _since(start: float) -> str:
    return f"{time.perf_counter() - start:.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    return cli.run("animate", lambda: animate(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
