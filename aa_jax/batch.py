"""Animate many references and poses: the jobs of a list, on all devices of this machine, or a part of them.

    python -m aa_jax.batch --model model/ --jobs jobs.jsonl --output videos/ [any option of aa_jax.animate]

Each line of the list is one job, a JSON object with the names of animate's options, which count before the command's:

    {"reference": "anna.png", "pose": "dance.npz", "output": "anna_dance.mp4", "seed": 7, "retarget": "bones"}

Files are looked up beside the list, outputs in --output. All jobs are checked before the first is run. What is there
already is not made again, so that the same command goes on where it was interrupted. A job that fails is told of, and
the others go on. Each machine of several takes its --part of the same list: 1/3, 2/3 and 3/3.
"""  # fmt: skip

import argparse
import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from aa_jax import animate, cli
from aa_jax.animator import Animator
from aa_jax.atomic import aside
from aa_jax.config import ModelConfig
from aa_jax.devices import on_devices
from aa_jax.request import check_size
from aa_jax.video import write_video
from aa_jax.weights import load_config, load_manifest, resolve

# Options that name files beside the list; others that are the command's alone.
FILES = ("reference", "pose", "reference-pose")
OF_THE_COMMAND = ("model", "dtype", "attention", "compiled", "quiet")


class _Strict(cli.Parser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One animation.

    Attributes:
      line: of the list, from 1.
      options: `aa_jax.animate`'s.
    """

    line: int
    options: argparse.Namespace

    @property
    def output(self) -> Path:
        """The video."""
        return self.options.output

    @property
    def card(self) -> Path:
        """What the video was made of, a file beside it."""
        return self.output.with_name(f"{self.output.name}.json")

    def facts(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """All that decides the video, for the card."""
        options = {name: value for name, value in vars(self.options).items() if name not in ("output", "quiet")}
        return json.loads(json.dumps({**options, "weights": manifest}, default=str))


def read_jobs(path: Path, output: Path, more: Sequence[str]) -> list[Job]:
    """The jobs of a list.

    Args:
      output: folder of the videos.
      more: options for all jobs.

    Raises:
      FileNotFoundError: there is no such list.
      ValueError: it is empty, or a line of it is no job: which, and why.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected a list of jobs, a JSON object in each line")
    jobs: dict[Path, Job] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            words = [word for name, value in _fields(line) for word in _words(name, value, path.parent, output)]
            options = animate.parser(_Strict).parse_args([*more, *words])
            if options.output in jobs:
                raise ValueError(f"its output {options.output.name} is that of line {jobs[options.output].line} too")
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from error
        jobs[options.output] = Job(line=number, options=options)
    if not jobs:
        raise ValueError(f"{path} is empty, expected a JSON object in each line")
    return list(jobs.values())


def _fields(line: str) -> Iterator[tuple[str, Any]]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{type(fields).__name__} given, expected an object with the names of animate's options")
    for name in ("reference", "pose", "output"):
        if not isinstance(fields.get(name), str):
            raise ValueError(f"{name} is missing, or no string")
    for name, value in fields.items():
        yield name.replace("_", "-"), value


def _words(name: str, value: Any, beside: Path, output: Path) -> list[str]:
    """A job's field as the words of a command line."""
    if name in OF_THE_COMMAND:
        raise ValueError(f"{name} is of the command, the same for all jobs")
    if name == "output":
        return [f"--output={_inside(output, value)}"]
    if value is None:
        return []
    if name in FILES:
        if not isinstance(value, str):
            raise ValueError(f"{name} is {value}, expected the name of a file")
        if not (beside / value).exists():
            raise ValueError(f"{name} {beside / value} does not exist")
        return [f"--{name}={beside / value}"]
    if isinstance(value, bool):
        return [f"--{name}"] if value else []
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}={value}"]


def _inside(folder: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"output is {name}, expected a name inside the output folder")
    return folder / name


def check(jobs: Sequence[Job], config: ModelConfig, manifest: dict[str, Any]) -> list[Job]:
    """The jobs that are still to be done.

    Raises:
      ValueError: a video of a job is there that was made of something else, or a job asks for a size that cannot be.
    """
    todo = []
    for job in jobs:
        inference, options = config.inference, job.options
        check_size(options.height or inference.height, options.width or inference.width, config.downscale)
        if not job.output.exists():
            todo.append(job)
        elif not job.card.is_file() or json.loads(job.card.read_text()) != job.facts(manifest):
            raise ValueError(
                f"{job.output} was made of other files, options or weights than line {job.line} asks for: "
                "remove it, or choose another output"
            )
    return todo


def part(text: str) -> tuple[int, int]:
    """ "2/3" as (2, 3).

    Raises:
      argparse.ArgumentTypeError: it is no part.
    """
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    index, parts = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= parts:
        raise argparse.ArgumentTypeError(f"{text!r} given, expected 1/N to N/N")
    return index, parts


def batch(args: argparse.Namespace, more: Sequence[str]) -> None:
    """Run the command."""
    jobs = read_jobs(args.jobs, args.output, [f"--model={args.model}", *more])
    if jobs[0].options.compiled is not None:
        raise ValueError("--compiled is of aa_jax.animate alone: leave it out, jobs of one shape share their programs")
    if jobs[0].options.devices > 1:
        raise ValueError("--devices is of aa_jax.animate alone: leave it out, each device animates a job of its own")
    folder = resolve(args.model)
    config, manifest = load_config(folder), load_manifest(folder)
    index, parts = args.part
    mine = jobs[index - 1 :: parts]
    todo = check(mine, config, manifest)
    failed: list[Job] = []
    done = len(mine) - len(todo)
    with cli.Bar("animate", "video", quiet=args.quiet) as bar:
        bar(done, len(mine))
        work = functools.partial(_one, config=config, manifest=manifest, failed=failed.append)
        for _ in on_devices(todo, functools.partial(_open, jobs[0].options), work):
            done += 1
            bar(done, len(mine))
    if failed:
        raise ValueError(f"{len(failed)} of {len(mine)} jobs failed, the others are in {args.output}")


def _open(options: argparse.Namespace) -> Animator:
    return Animator.from_pretrained(options.model, **animate.loading_options(options))


def _one(
    animator: Animator, job: Job, *, config: ModelConfig, manifest: dict[str, Any], failed: Callable[[Job], object]
) -> None:
    job.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        inputs = animate.load_inputs(job.options, config)
        frames = animate.make_frames(animator, inputs, job.options)
    except (ValueError, FileNotFoundError) as error:
        print(f"batch: line {job.line}, {job.output.name}: {' '.join(str(error).split())}", file=sys.stderr)
        failed(job)
        return
    # The video last: it is there only with its card.
    with aside(job.card) as partial:
        partial.write_text(json.dumps(job.facts(manifest), indent=1) + "\n")
    write_video(job.output, frames, inputs.fps)


def parser() -> cli.Parser:
    """The command line; other options are animate's."""
    command = cli.Parser(
        prog="aa-jax batch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--model", required=True, metavar="DIR", help="model folder, or owner/name on the Hub")
    command.add_argument("--jobs", required=True, type=Path, metavar="FILE", help="a JSON object in each line")
    command.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of the videos")
    command.add_argument("--part", type=part, default=(1, 1), metavar="I/N", help="of the jobs; default all")
    command.add_argument("--quiet", action="store_true", help="print errors only")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args, more = parser().parse_known_args(arguments)
    return cli.run("batch", lambda: batch(args, more), args.output)


if __name__ == "__main__":
    sys.exit(main())
