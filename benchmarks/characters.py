"""A model on the synthetic characters beside what it must beat, and what keeps it from more.

    python -m benchmarks.characters --model runs/characters_cpu/stage2/model --output runs/characters_cpu/table
        [--protocol characters-small] [--splits identity motion both driving] [--num-clips 32] [--seeds 42]
        [--sheet sheet.png] [any option of aa_jax.evaluate, such as --networks metrics/]

Of each split: the model's animations; the reference in place of every frame; the reference's parts warped to the poses;
the true frames through the model's VAE; and the model's animations from another clip's reference or poses. Where
another body drives the character, its keypoints are given as they are, and retargeted; and as if it had been filmed
from farther away. Each row is a run of `aa_jax.evaluate` in a folder of its own, so that the same command goes on where
it was interrupted.

`--output` gets table.md and table.json: means over clips with bootstrap intervals of 95 %. With several seeds a clip
counts by its mean over them; table.json has each seed's mean.
"""  # fmt: skip

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from aa_jax import cli
from aa_jax.atomic import aside
from aa_jax.evaluate import PREDICTED, evaluate, open_clips
from aa_jax.evaluate import parser as evaluate_parser
from aa_jax.evaluation.footage import folder_of_images
from aa_jax.evaluation.protocols import PROTOCOLS
from aa_jax.evaluation.results import Results
from aa_jax.evaluation.sheet import sheet
from aa_jax.pose.retarget import METHODS
from benchmarks.table import legend, markdown, merged, write

SPLITS = {
    "identity": "characters that training holds out",
    "motion": "families of motion that training holds out",
    "both": "characters and families of motion that training holds out",
    "driving": "characters that training holds out, driven by the keypoints of other bodies",
}
SHEET_CLIPS = 12
FARTHER = "0.7"
"""How large a driver is that was filmed from farther away."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
      title: in the table.
      options: of `aa_jax.evaluate`.
      noise: it depends on the seed.
    """

    title: str
    options: tuple[str, ...]
    noise: bool = False

    def folder(self, seed: int) -> str:
        """Of its evaluation."""
        return self.title.replace(", ", "_").replace(" ", "_") + (f"_{seed}" if self.noise else "")


def rows(model: str, split: str) -> Iterator[Row]:
    """The lines of a split."""
    given = ("--model", model)
    retargets: list[tuple[str, tuple[str, ...]]] = [("", ())]
    if split == "driving":
        retargets = [
            (f"{words}, retarget {way}", ("--retarget", way, "--driver-scale", scale))
            for words, scale in (("", "1"), (f", driver at {FARTHER}", FARTHER))
            for way in sorted(METHODS, key="none".__ne__)
        ]
    for words, options in retargets:
        yield Row(title=f"animation{words}", options=(*given, *options), noise=True)
    yield Row(title="reference as every frame", options=("--baseline", "copy"))
    for words, options in retargets:
        yield Row(title=f"warped reference{words}", options=("--baseline", "warp", *options))
    yield Row(title="truth through the VAE", options=(*given, "--baseline", "reconstruction"))
    yield Row(title="wrong reference", options=(*given, "--baseline", "wrong-reference"), noise=True)
    yield Row(title="wrong pose", options=(*given, "--baseline", "wrong-pose"), noise=True)


def arguments(given: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = cli.Parser(
        prog="characters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    synthetic = [name for name, protocol in PROTOCOLS.items() if protocol.num_frames]
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder or hub id")
    parser.add_argument("--protocol", choices=synthetic, default="characters-small")
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS))
    parser.add_argument("--num-clips", type=int, default=32, help="of each split")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="of the animations' noise, default 42")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--sheet", type=Path, help="write a picture of the first split: reference; poses, animation, truth"
    )
    return parser.parse_known_args(given)


def score(row: Row, split: str, args: argparse.Namespace, more: Sequence[str]) -> list[Results]:
    """A row's evaluations, one for each seed."""
    print(f"{split}: {row.title}", file=sys.stderr)
    found = []
    for seed in args.seeds if row.noise else args.seeds[:1]:
        options = ["--protocol", args.protocol, "--split", split, "--num-clips", str(args.num_clips), *row.options]
        options += ["--seed", str(seed)] if row.noise else []
        options += ["--output", str(args.output / split / row.folder(seed)), *more]
        found.append(evaluate(evaluate_parser().parse_args(options)))
    return found


def benchmark(args: argparse.Namespace, more: Sequence[str]) -> None:
    found = {
        split: {row.title: score(row, split, args, more) for row in rows(args.model, split)} for split in args.splits
    }
    any_results = next(iter(found[args.splits[0]].values()))[0]
    metrics, unavailable = list(any_results.estimates), any_results.unavailable
    tables = {split: {title: merged(each, metrics) for title, each in lines.items()} for split, lines in found.items()}
    sections = [f"## {split}: {SPLITS[split]}\n\n{markdown(table, metrics)}" for split, table in tables.items()]
    facts = {name: getattr(args, name) for name in ("model", "protocol", "num_clips", "seeds")}
    text = "\n".join([legend(metrics, unavailable, args.num_clips), *sections])
    write(args.output, text, {**facts, "options": list(more), "splits": tables})
    if args.sheet:
        draw_sheet(args)


def draw_sheet(args: argparse.Namespace) -> None:
    """The first split's first animation of some clips."""
    split = args.splits[0]
    protocol = dataclasses.replace(PROTOCOLS[args.protocol], split=split)
    clips = open_clips(protocol, None, min(args.num_clips, SHEET_CLIPS))
    folder = args.output / split / next(rows(args.model, split)).folder(args.seeds[0]) / PREDICTED
    predicted = [folder_of_images(folder / clip.name, clip.name) for clip in clips]
    args.sheet.parent.mkdir(parents=True, exist_ok=True)
    with aside(args.sheet) as partial:
        Image.fromarray(sheet(predicted, clips, protocol)).save(partial, "PNG")


def main(given: Sequence[str] | None = None) -> int:
    args, more = arguments(given)
    return cli.run("characters", lambda: benchmark(args, more), args.output)


if __name__ == "__main__":
    sys.exit(main())
