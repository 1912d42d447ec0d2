"""Train a model, or go on with training where it stopped.

    python -m aa_jax.train --config configs/stage1.py --workdir runs/stage1
    python -m aa_jax.train --config configs/stage1.py --workdir runs/stage1 --batch-size 16 --optimizer.accumulation 4
    python -m aa_jax.train --config configs/stage1.py --workdir runs/stage1 --dry-run
    python -m aa_jax.train --config configs/stage1.py --workdir runs/stage1 --export model/

Any field of the configuration can be set: --FIELD VALUE; --fields lists them. On several processes add --distributed.
"""  # fmt: skip

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import jax

from aa_jax import cli
from aa_jax.models.config import require
from aa_jax.training.config import StoredDtype, load_train_config
from aa_jax.training.override import fields, override


def parser() -> cli.Parser:
    """The command line, but for the configuration's fields."""
    command = cli.Parser(
        prog="aa-jax train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="a Python file that defines config()"
    )
    command.add_argument("--workdir", type=Path, metavar="DIR", help="of the run; one that was begun is gone on with")
    command.add_argument("--dry-run", action="store_true", help="say what a step takes, and stop")
    command.add_argument(
        "--export", type=Path, metavar="DIR", help="write the best checkpoint as a model folder, and stop"
    )
    command.add_argument("--fields", action="store_true", help="list the configuration's fields, and stop")
    command.add_argument("--quiet", action="store_true", help="print errors only")
    folder = command.add_argument_group("with --export")
    folder.add_argument("--step", type=int, metavar="N", help="the checkpoint; default: the best one")
    folder.add_argument("--store", choices=get_args(StoredDtype), help="dtype of the weights, default float32")
    folder.add_argument(
        "--scores", type=Path, nargs="+", metavar="DIR/scores.json", help="what `aa_jax.evaluate` found, for the card"
    )
    folder.add_argument("--notes", type=Path, metavar="FILE", help="a text for the card: purpose, limits, data")
    folder.add_argument("--licence", metavar="NAME", help="of the weights, for the card; by the Hub's name: apache-2.0")
    many = command.add_argument_group("several processes")
    many.add_argument(
        "--distributed", action="store_true",
        help="each process runs this command; SLURM, Kubernetes, Open MPI and TPU pods tell them of each other, else:",
    )  # fmt: skip
    many.add_argument("--coordinator", metavar="HOST:PORT", help="of the first process")
    many.add_argument("--num-processes", type=int, metavar="N")
    many.add_argument("--process-id", type=int, metavar="I", help="0 to N - 1")
    return command


def run(args: argparse.Namespace, changes: Sequence[str]) -> None:
    """Run the command."""
    config = override(load_train_config(args.config), changes)
    if args.fields:
        for name, kind in fields():
            print(f"--{name.replace('_', '-'):50} {kind}")
        return
    require(args.workdir is not None or args.dry_run, "--workdir is not given, expected the folder of the run")
    for name in ("step", "store", "scores", "notes", "licence"):
        require(args.export is not None or getattr(args, name) is None, f"--{name} is given without --export")
    for name in ("coordinator", "num_processes", "process_id"):
        given = getattr(args, name) is not None
        require(args.distributed or not given, f"--{name.replace('_', '-')} is given without --distributed")
    # Imported when they are needed: --help and errors of the configuration come at once.
    from aa_jax.training.loop import export_checkpoint, train

    if args.distributed:
        jax.distributed.initialize(args.coordinator, args.num_processes, args.process_id)
    workdir = args.workdir or Path("dry-run")
    if args.export:
        about = {"dtype": args.store or "float32", "scores": args.scores or (), "notes": args.notes}
        export_checkpoint(config, workdir, args.export, step=args.step, licence=args.licence, **about)
        if jax.process_index() == 0 and not args.quiet:
            print(f"written  {args.export}")
        return
    say = (lambda _: None) if args.quiet else print
    train(config, workdir, dry_run=args.dry_run, quiet=args.quiet, say=say)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args, changes = parser().parse_known_args(arguments)
    return cli.run("train", lambda: run(args, changes), args.workdir or Path("."))


if __name__ == "__main__":
    sys.exit(main())
