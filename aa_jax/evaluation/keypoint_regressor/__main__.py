"""Train the keypoint regressor of the synthetic characters anew, on renders that are made first.

    python -m aa_jax.evaluation.keypoint_regressor --output weights.safetensors
    python -m aa_jax.evaluation.keypoint_regressor --output weights.safetensors --steps 8000 --seed 1

Prints its PCK on true renders of characters that it has not seen: the ceiling of a model's. The same arguments give the
same file on the same machine.
"""  # fmt: skip

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aa_jax import cli
from aa_jax.atomic import aside
from aa_jax.evaluation.keypoint_regressor.regressor import KeypointRegressor
from aa_jax.evaluation.keypoint_regressor.training import TRAINED_ON, Settings, draw_pool, train
from aa_jax.evaluation.keypoint_regressor.validation import VALIDATED_ON, validate
from aa_jax.tensor_file import write_tensors


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(
        prog="keypoint_regressor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    default = Settings()
    command.add_argument("--clips", type=int, default=default.clips, metavar="N", help=f"default {default.clips}")
    command.add_argument("--steps", type=int, default=default.steps, metavar="N", help=f"default {default.steps}")
    command.add_argument(
        "--batch-size", type=int, default=default.batch_size, metavar="N",
        help=f"frames in a step, default {default.batch_size}",
    )  # fmt: skip
    command.add_argument(
        "--learning-rate", type=float, default=default.learning_rate, metavar="R",
        help=f"at its highest, default {default.learning_rate:g}",
    )  # fmt: skip
    command.add_argument("--seed", type=int, default=default.seed, metavar="N", help=f"default {default.seed}")
    command.add_argument(
        "--validation-clips", type=int, default=200, metavar="N", help="of each held-out split, default 200"
    )
    command.add_argument("--quiet", action="store_true", help="print errors only")
    return command


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    settings = Settings(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Settings)})
    if args.validation_clips < 2:
        raise ValueError(f"--validation-clips {args.validation_clips} given, expected 2 or more")
    if args.output.is_dir() or not args.output.absolute().parent.is_dir():
        raise ValueError(f"--output {args.output} given, expected a file in a folder that exists")
    began = time.monotonic()
    with cli.Bar("rendering", "clip", quiet=args.quiet) as progress:
        pool = draw_pool(TRAINED_ON, settings.clips, progress=progress)
    with cli.Bar("training", "step", quiet=args.quiet) as progress:
        tensors = train(pool, settings, lambda step, loss: progress(step, settings.steps))
    regressor = KeypointRegressor(tensors)
    scores = {split: validate(regressor, split, args.validation_clips) for split in VALIDATED_ON}
    metadata = {
        "trained_on": json.dumps({"splits": TRAINED_ON, **dataclasses.asdict(settings)}),
        "pck": json.dumps({"validation_clips": args.validation_clips, **scores}),
    }
    with aside(args.output) as partial:
        facts = write_tensors(partial, tensors, metadata)
    if args.quiet:
        return
    print(f"{'PCK at 0.05 of the height':26}" + "".join(f"{split:>10}" for split in VALIDATED_ON))
    for row in scores[VALIDATED_ON[0]]:
        print(f"{row:26}" + "".join(f"{scores[split][row]:10.3f}" for split in VALIDATED_ON))
    print(f"{facts.parameters} parameters, {facts.size} bytes, {time.monotonic() - began:.0f} s")
    print(f"written  {args.output}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    return cli.run("keypoint_regressor", lambda: run(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
