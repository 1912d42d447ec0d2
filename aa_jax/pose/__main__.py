"""Poses: find them in a video, draw them, give them to another person, smooth them, and tell what a file holds.

    python -m aa_jax.pose extract dance.mp4 --output dance.npz
    python -m aa_jax.pose extract person.png --output person.npz
    python -m aa_jax.pose retarget dance.npz person.npz --output person_dances.npz --method bones
    python -m aa_jax.pose smooth dance.npz --output smooth.npz --fill-gaps 5
    python -m aa_jax.pose draw dance.npz --output drawn.mp4
    python -m aa_jax.pose info dance.npz
"""  # fmt: skip

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aa_jax import cli
from aa_jax.image import ResizeMode, same_aspect
from aa_jax.onnx_network import DEVICES
from aa_jax.pose import keypoints as parts
from aa_jax.pose.draw import DrawStyle, draw_poses
from aa_jax.pose.dwpose import DETECTOR, HUB_ID, POSE, DWPose
from aa_jax.pose.extract import check_output, extract
from aa_jax.pose.files import load_keypoints, save_keypoints
from aa_jax.pose.fit import fit_keypoints
from aa_jax.pose.keypoints import VISIBLE, Keypoints
from aa_jax.pose.people import CHOICES, Choice
from aa_jax.pose.retarget import METHODS, retarget
from aa_jax.pose.smooth import fill_gaps, one_euro, savitzky_golay
from aa_jax.video import DEFAULT_FPS, check_writable, write_video

PARTS = {
    "body": parts.BODY,
    "feet": parts.FEET,
    "face": parts.FACE,
    "left hand": parts.LEFT_HAND,
    "right hand": parts.RIGHT_HAND,
}
FILTERS: dict[str, Callable[[Keypoints], Keypoints]] = {
    "savitzky-golay": savitzky_golay,
    "one-euro": one_euro,
    "none": lambda keypoints: keypoints,
}
KEYPOINTS = "keypoints: .npz, or OpenPose's, DisCo's or MediaPipe's JSON"


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(prog="aa-jax pose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = command.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_extract_options, _draw_options, _retarget_options, _smooth_options, _info_options):
        add(commands)
    return command


def _extract_options(commands: argparse._SubParsersAction) -> None:
    options = commands.add_parser("extract", help="find a person's keypoints in a video or image (DWPose)")
    options.add_argument("source", type=Path, metavar="SOURCE", help="a video, an image, or a folder of images")
    _add_output(options, "an interrupted extraction goes on from where it stopped when it is started again")
    options.add_argument("--choose", type=_choice, default="best", metavar="WHOM", help=(
        f"{', '.join(CHOICES)}, or an index among the people of the first frame; default best"
    ))  # fmt: skip
    options.add_argument("--num-frames", type=int, metavar="N", help="default all")
    options.add_argument(
        "--detector", type=Path, metavar="FILE", help=f"{DETECTOR}; default: downloaded from the hub ({HUB_ID})"
    )
    options.add_argument("--pose-model", type=Path, metavar="FILE", help=f"{POSE}; likewise")
    options.add_argument("--batch-size", type=int, default=8, metavar="N", help="images at once, default 8")
    options.add_argument("--device", choices=DEVICES, default="auto", help="default auto: cuda where there is one")
    options.add_argument(
        "--resolution",
        type=int,
        metavar="PIXELS",
        help="resize the shorter side first; 512 does as Moore-AnimateAnyone",
    )
    options.add_argument("--quiet", action="store_true", help="print errors only")


def _draw_options(commands: argparse._SubParsersAction) -> None:
    options = commands.add_parser("draw", help="draw keypoints as pose guiders see them")
    _add_keypoints(options, "file")
    options.add_argument(
        "--output", required=True, type=Path, metavar="OUT", help=".mp4, .gif, .webp, or a folder for PNGs"
    )
    options.add_argument("--height", type=int, metavar="PIXELS", help="default: the image's, or as --width has it")
    options.add_argument("--width", type=int, metavar="PIXELS", help="likewise")
    options.add_argument("--resize", choices=("crop", "letterbox", "stretch"), help="needed for another aspect")
    options.add_argument("--fps", type=float, help=f"frames per second; default: the keypoints', or {DEFAULT_FPS:g}")
    options.add_argument("--no-face", action="store_true")
    options.add_argument("--no-hands", action="store_true")
    options.add_argument("--feet", action="store_true")
    options.add_argument("--confidence", action="store_true", help="dim by the scores")
    options.add_argument(
        "--scale-to", type=int, metavar="PIXELS", help="stick widths are those of a drawing whose shorter side is this"
    )


def _retarget_options(commands: argparse._SubParsersAction) -> None:
    options = commands.add_parser("retarget", help="give a motion another person's size, place and build")
    _add_keypoints(options, "driving")
    _add_keypoints(options, "reference", "--reference-size")
    _add_output(options)
    options.add_argument(
        "--method", choices=METHODS, default="affine", help="affine (default): size and place; bones: build too"
    )


def _smooth_options(commands: argparse._SubParsersAction) -> None:
    options = commands.add_parser("smooth", help="fill gaps and smooth over time")
    _add_keypoints(options, "file")
    _add_output(options)
    options.add_argument("--fill-gaps", type=int, metavar="FRAMES", help="the longest gap to interpolate; default none")
    options.add_argument("--filter", choices=FILTERS, default="savitzky-golay", help="default savitzky-golay")


def _info_options(commands: argparse._SubParsersAction) -> None:
    options = commands.add_parser("info", help="tell what a file of keypoints holds")
    _add_keypoints(options, "file")
    options.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _add_keypoints(options: argparse.ArgumentParser, name: str, size: str = "--pose-size") -> None:
    options.add_argument(name, type=Path, metavar=name.upper(), help=KEYPOINTS)
    options.add_argument(
        size, type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help=f"of the images of {name.upper()}, if it is JSON"
    )


def _add_output(options: argparse.ArgumentParser, more: str = "") -> None:
    options.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="; ".join(filter(None, ("keypoints (.npz)", more)))
    )


def _choice(text: str) -> Choice:
    if text in CHOICES:
        return text  # type: ignore[return-value]
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} given, expected {', '.join(CHOICES)} or a person's index")


def run_extract(args: argparse.Namespace) -> None:
    """`extract`."""
    check_output(args.output)
    model = DWPose(
        args.detector, args.pose_model, batch_size=args.batch_size, device=args.device, resolution=args.resolution
    )
    with cli.Bar("extract", "frame", quiet=args.quiet) as bar:
        keypoints = extract(
            args.source, model, output=args.output, choose=args.choose, num_frames=args.num_frames, progress=bar
        )
    if not args.quiet:
        print(f"{args.output}: {_summary(keypoints)}")


def run_draw(args: argparse.Namespace) -> None:
    """`draw`."""
    check_writable(args.output, args.fps)
    keypoints = _load(args.file, args.pose_size)
    fps = args.fps if args.fps is not None else keypoints.fps or DEFAULT_FPS
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps:g}, expected a positive number")
    height, width = _drawing_size(keypoints, args.height, args.width)
    mode: ResizeMode = args.resize or "stretch"
    if args.resize is None and not same_aspect((keypoints.height, keypoints.width), (height, width)):
        raise ValueError(
            f"the keypoints are of {keypoints.width}x{keypoints.height} (width x height), "
            f"which is not the aspect of {width}x{height}: choose --resize crop, letterbox or stretch, or another size"
        )
    style = DrawStyle(
        face=not args.no_face,
        hands=not args.no_hands,
        feet=args.feet,
        confidence=args.confidence,
        scale_to=args.scale_to,
    )
    fitted = fit_keypoints(keypoints, height, width, mode)
    write_video(args.output, draw_poses(fitted, height=height, width=width, style=style), fps)
    print(f"{args.output}: {len(fitted)} frames of {width}x{height}")


def _drawing_size(keypoints: Keypoints, height: int | None, width: int | None) -> tuple[int, int]:
    for name, size in (("height", height), ("width", width)):
        if size is not None and size < 1:
            raise ValueError(f"{name} is {size}, expected a positive number of pixels")
    if height is not None and width is not None:
        return height, width
    if width is not None:
        return _even(keypoints.height * width / keypoints.width), width
    if height is not None:
        return height, _even(keypoints.width * height / keypoints.height)
    return keypoints.height, keypoints.width


def _even(size: float) -> int:
    """As videos need it."""
    return 2 * max(1, round(size / 2))


def run_retarget(args: argparse.Namespace) -> None:
    """`retarget`."""
    check_output(args.output)
    driving, reference = _load(args.driving, args.pose_size), _load(args.reference, args.reference_size)
    with cli.warnings_as_lines("pose retarget"):
        result = retarget(driving, reference, method=args.method)
    save_keypoints(args.output, result)
    print(f"{args.output}: {_summary(result)}")


def run_smooth(args: argparse.Namespace) -> None:
    """`smooth`."""
    check_output(args.output)
    keypoints = _load(args.file, args.pose_size)
    if args.fill_gaps is not None:
        keypoints = fill_gaps(keypoints, max_gap=args.fill_gaps)
    result = FILTERS[args.filter](keypoints)
    save_keypoints(args.output, result)
    print(f"{args.output}: {_summary(result)}")


def run_info(args: argparse.Namespace) -> None:
    """`info`."""
    keypoints = _load(args.file, args.pose_size)
    facts = describe(keypoints)
    if args.json:
        print(json.dumps(facts, indent=1))
        return
    print(f"{args.file}: {_summary(keypoints)}")
    for name, part in facts["parts"].items():
        seen = f"some in {part['frames']} of {facts['frames']} frames"
        print(f"  {name:10}  {part['visible']:6.1%} of points visible, {seen}")
    if facts["place"]:
        left, top, right, bottom = facts["place"]
        print(f"  {'place':10}  x {left:.3f} to {right:.3f}, y {top:.3f} to {bottom:.3f} of the image")


def describe(keypoints: Keypoints) -> dict[str, Any]:
    """As JSON values: `frames`, `fps`, `height`, `width`; of each of the `parts`, which share of its points is
    `visible` and in how many `frames` some are; `place`, the box (left, top, right, bottom) of what is visible, in
    parts of the image, None where nothing is."""
    visible = keypoints.scores >= VISIBLE
    seen = keypoints.points[visible]
    return {
        "frames": len(keypoints),
        "fps": keypoints.fps,
        "height": keypoints.height,
        "width": keypoints.width,
        "parts": {
            name: {"visible": float(visible[:, part].mean()), "frames": int(visible[:, part].any(1).sum())}
            for name, part in PARTS.items()
        },
        "place": [*map(float, seen.min(0)), *map(float, seen.max(0))] if len(seen) else None,
    }


def _load(path: Path, size: list[int] | None) -> Keypoints:
    height, width = size or (None, None)
    return load_keypoints(path, height=height, width=width)


def _summary(keypoints: Keypoints) -> str:
    frames = f"{len(keypoints)} frame{'s' if len(keypoints) > 1 else ''}"
    rate = "" if keypoints.fps is None else f" at {keypoints.fps:g} per second"
    return f"{frames}{rate}, of {keypoints.width}x{keypoints.height} (width x height)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    run = {
        "extract": run_extract,
        "draw": run_draw,
        "retarget": run_retarget,
        "smooth": run_smooth,
        "info": run_info,
    }[args.command]
    return cli.run(f"pose {args.command}", lambda: run(args), getattr(args, "output", None) or args.file)


if __name__ == "__main__":
    sys.exit(main())
