"""Export a model's animation for serving without this package: StableHLO of its programs, and the weights in one file.

    python -m aa_jax.export model/ --output served/ --num-frames 24 --height 784 --width 512
    python -m aa_jax.export model/ --output served/ --num-frames 24 --dtype bfloat16 --platforms cuda

Sizes and options are those of the folder from then on; reference, poses and seed are what it is run with. It needs JAX
and safetensors (`examples/serve.py` runs it), on a CPU or a GPU alike, and no machine of the kind to be made.
"""  # fmt: skip

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aa_jax import cli
from aa_jax.animate import add_program_options, program_options
from aa_jax.animator import Animator
from aa_jax.request import Request
from aa_jax.serving import BACKENDS, check_platforms, save_programs
from aa_jax.weights import load_config, resolve


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(
        prog="aa-jax export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("model", metavar="MODEL", help="model folder, or owner/name on the Hugging Face Hub")
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to be made")
    command.add_argument("--num-frames", required=True, type=int, metavar="N", help="of the video")
    command.add_argument(
        "--platforms",
        nargs="+",
        default=["cpu", "cuda"],
        metavar="NAME",
        help=f"to run on, default cpu cuda; of {', '.join(BACKENDS)}",
    )
    command.add_argument("--quiet", action="store_true", help="print errors only")
    same = command.add_argument_group("as for aa_jax.animate (defaults are the model's)")
    add_program_options(same, same, same)
    command.set_defaults(bucket_frames=False)  # all frames are asked for
    return command


def export(args: argparse.Namespace) -> None:
    """Run the command. Whatever can be checked without the weights is checked before they are read."""
    say = (lambda *words: None) if args.quiet else print
    options, start = program_options(args), time.perf_counter()
    check_platforms(args.platforms)
    Request.of(load_config(resolve(args.model)), **options).denoising(args.num_frames)
    animator = Animator.from_pretrained(args.model, dtype=args.dtype, attention=args.attention)
    sizes = save_programs(animator, args.output, num_frames=args.num_frames, platforms=args.platforms, **options)
    for name, size in sizes.items():
        say(f"{name:28} {size:>15,} bytes")
    say(f"written  {args.output} in {time.perf_counter() - start:.1f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    return cli.run("export", lambda: export(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
