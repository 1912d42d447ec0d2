"""Compile the programs of an animation ahead of time, for `aa_jax.animate --compiled` and `Animator.load_compiled`.

    python -m aa_jax.compile --model model/ --output compiled/ --num-frames 24 48 --height 784 --width 512

The programs run on this kind of device, with this JAX and aa_jax, and with this model or one trained further from it.
They serve every number of frames of the same bucket, or above a window's length, of steps up to a multiple of 64,
every guidance scale above 1, and any seed.
"""  # fmt: skip

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aa_jax import cli, compilation_cache
from aa_jax.animate import add_device_options, add_program_options, loading_options, program_options
from aa_jax.animator import Animator
from aa_jax.atomic import new_folder
from aa_jax.request import Request
from aa_jax.weights import load_config, resolve


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(
        prog="aa-jax compile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--model", required=True, metavar="DIR", help="model folder, or owner/name on the Hugging Face Hub"
    )
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to be made")
    command.add_argument(
        "--num-frames", required=True, type=int, nargs="+", metavar="N", help="of the videos, one or several numbers"
    )
    command.add_argument("--quiet", action="store_true", help="print errors only")
    same = command.add_argument_group("as will be given to aa_jax.animate (defaults are the model's)")
    add_program_options(same, same, same)
    add_device_options(same)
    return command


def compile_programs(args: argparse.Namespace) -> None:
    """Run the command. Whatever can be checked without the weights is checked before they are read."""
    say = (lambda *words: None) if args.quiet else print
    options = program_options(args)
    request = Request.of(load_config(resolve(args.model)), **options)
    for num_frames in args.num_frames:
        request.denoising(num_frames)
    with new_folder(args.output) as partial, compilation_cache.off():  # see `executables.save`
        animator = Animator.from_pretrained(args.model, **loading_options(args))
        for num_frames in args.num_frames:
            before, start = animator.programs.compiled, time.perf_counter()
            animator.compile(num_frames, **options)
            made = animator.programs.compiled - before
            say(f"compile  {num_frames} frames: {made} programs in {time.perf_counter() - start:.1f} s")
        sizes = animator.save_compiled(partial)
    say(f"written  {args.output}: {len(sizes)} programs, {sum(sizes.values()) / 1e6:.1f} MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    return cli.run("compile", lambda: compile_programs(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
