"""A model on the synthetic characters beside what it must beat, and what keeps it from more.

    python -m benchmarks.characters --model runs/characters_cpu/stage2/model --output runs/characters_cpu/table
        [--protocol characters-small] [--splits identity motion both driving] [--num-clips 32] [--seeds 42]
        [--sheet sheet.png] [any option of aa_jax.evaluate, such as --networks metrics/]

Of each split: the model's animations; the reference in place of every frame; the reference's parts warped to the poses;
the true frames through the model's VAE; and the model's animations from another clip's reference or poses. Where
another body drives the character, its keypoints are given as they are, and retargeted. Each row is a run of
`aa_jax.evaluate` in a folder of its own, so that the same command goes on where it was interrupted.

`--output` gets table.md and table.json: means over clips with bootstrap intervals of 95 %. With several seeds a clip
counts by its mean over them; table.json has each seed's mean.
"""  # fmt: skip

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aa_jax import cli
from aa_jax.atomic import aside
from aa_jax.environment import environment
from aa_jax.evaluate import PREDICTED, evaluate, open_clips
from aa_jax.evaluate import parser as evaluate_parser
from aa_jax.evaluation.footage import folder_of_images
from aa_jax.evaluation.protocols import PROTOCOLS, Metric
from aa_jax.evaluation.report import finite
from aa_jax.evaluation.results import Results
from aa_jax.evaluation.sheet import sheet
from aa_jax.evaluation.suite import INFO
from aa_jax.metrics.interval import mean_interval
from aa_jax.pose.retarget import METHODS

SPLITS = {
    "identity": "characters that training holds out",
    "motion": "families of motion that training holds out",
    "both": "characters and families of motion that training holds out",
    "driving": "characters that training holds out, driven by the keypoints of other bodies",
}
BETTER = {"higher": "Higher is better", "lower": "Lower is better", "truth": "Best near the truth"}
SHEET_CLIPS = 12
TRUTH = "the truth itself"


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
    ways = sorted(METHODS, key="none".__ne__) if split == "driving" else ["none"]
    retargets = [(f", retarget {way}" if split == "driving" else "", ("--retarget", way)) for way in ways]
    for words, options in retargets:
        yield Row(title=f"animation{words}", options=(*given, *options), noise=True)
    yield Row(title="reference as every frame", options=("--baseline", "copy"))
    for words, options in retargets:
        yield Row(title=f"warped reference{words}", options=("--baseline", "warp", *options))
    yield Row(title="truth through the VAE", options=(*given, "--baseline", "reconstruction"))
    yield Row(title="wrong reference", options=(*given, "--baseline", "wrong-reference"), noise=True)
    yield Row(title="wrong pose", options=(*given, "--baseline", "wrong-pose"), noise=True)


def merged(found: Sequence[Results], metric: Metric) -> dict[str, Any]:
    """A cell: the mean over clips and seeds, its interval, each seed's mean, and the true frames' own value."""
    estimates = [results.estimates[metric] for results in found]
    value, interval = float(np.mean([each.value for each in estimates])), estimates[0].interval
    if len(found) > 1:
        each = np.array([[results.clips[name].get(metric, np.nan) for name in found[0].clips] for results in found])
        whole = each[:, np.isfinite(each).all(axis=0)]
        interval = mean_interval(whole.mean(axis=0)) if whole.size else None
    return {
        "value": value,
        "interval": interval,
        "seeds": [each.value for each in estimates],
        "clips": estimates[0].clips,
        "truth": estimates[0].own,
    }


Table = Mapping[str, Mapping[Metric, dict[str, Any]]]


def markdown(split: str, table: Table, metrics: Sequence[Metric]) -> str:
    """The table of a split."""
    lines = [["", *(INFO[metric].title for metric in metrics)], ["---"] * (1 + len(metrics))]
    for title, row in table.items():
        lines.append([title, *(_cell(row[metric]["value"], row[metric]["interval"], metric) for metric in metrics)])
    first = next(iter(table.values()))
    lines.append([TRUTH, *(_cell(first[metric]["truth"], None, metric) for metric in metrics)])
    return f"## {split}: {SPLITS[split]}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: float | None, interval: Sequence[float] | None, metric: Metric) -> str:
    digits = INFO[metric].digits
    ends = "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return "" if value is None or not np.isfinite(value) else f"{value:.{digits}f}{ends}"


def legend(metrics: Sequence[Metric], unavailable: Mapping[Metric, str], num_clips: int) -> str:
    """What there is to know of the columns."""
    lines = [f"Means over {num_clips} clips, and in brackets their 95 % bootstrap interval over clips."]
    for better, words in (
        ("higher", "Higher is better"),
        ("lower", "Lower is better"),
        ("truth", "Best near the truth"),
    ):
        titles = [INFO[metric].title for metric in metrics if INFO[metric].better == better]
        lines += [f"{words}: {'; '.join(titles)}."] if titles else []
    lines += [f"{INFO[metric].title} is left out: it {reason}." for metric, reason in unavailable.items()]
    return " ".join(lines) + "\n"


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
    tables: dict[str, Table] = {
        split: {title: {metric: merged(each, metric) for metric in metrics} for title, each in lines.items()}
        for split, lines in found.items()
    }
    facts = {
        **{name: getattr(args, name) for name in ("model", "protocol", "num_clips", "seeds")},
        "options": list(more),
        "splits": tables,
        **environment(),
    }
    text = "\n".join(
        [legend(metrics, unavailable, args.num_clips), *(markdown(*each, metrics) for each in tables.items())]
    )
    for name, content in (
        ("table.md", text),
        ("table.json", json.dumps(finite(facts), indent=1, allow_nan=False) + "\n"),
    ):
        with aside(args.output / name) as partial:
            partial.write_text(content, encoding="utf-8")
    print(text, end="")
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
