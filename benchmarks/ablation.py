"""The paper's ablation (section 4.4) on the synthetic characters: every arm trained and scored, and one table.

    python -m benchmarks.ablation --output runs/ablation                                  # all of it, hours on a CPU
    python -m benchmarks.ablation --output runs/ablation --arms referencenet --seeds 0    # one run
    python -m benchmarks.ablation --output runs/ablation --table                          # of what is there already

Each arm of `configs/ablation` is trained in two stages with each seed, and both are scored, as without and with
temporal layers, on clips of characters that none has seen. What is there already is not done again, so that the same
command goes on where it was interrupted. The folder gets table.md and table.json, which also compare each arm with the
paper's own, and each with and without temporal layers, clip by clip; and sheet.png (one clip by every arm).
"""  # fmt: skip

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from aa_jax.evaluation.protocols import PROTOCOLS, Metric
from aa_jax.evaluation.results import Results
from aa_jax.video import read_video
from benchmarks.modules import call
from benchmarks.table import (
    TRUTH,
    Row,
    differences,
    legend,
    load_results,
    markdown,
    markdown_of_differences,
    merged,
    write,
)
from configs.ablation.arms import ARMS

PROTOCOL = PROTOCOLS["characters-small"]
METRICS: tuple[Metric, ...] = (
    "psnr", "foreground_psnr", "background_psnr", "ssim", "emblem_bits", "pose", "warping_error", "flicker",
)  # fmt: skip
STAGES = {"stage1": "without", "stage2": "with"}
PAPER = "referencenet"  # the paper's arm, with which the others are compared
SHOWN, ENLARGED, MARGIN = (0, 5, 10, 15), 3, 190


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """An arm trained with a seed, as far as a stage.

    Attributes:
      folder: of all runs.
    """

    folder: Path
    arm: str
    seed: int
    stage: str

    @property
    def workdir(self) -> Path:
        """Of the training."""
        return self.folder / self.arm / str(self.seed) / self.stage

    @property
    def scores(self) -> Path:
        """Of the evaluation."""
        return self.folder / self.arm / str(self.seed) / f"{self.stage}_scores"

    @property
    def title(self) -> str:
        """In the table."""
        return f"{self.arm}, {STAGES[self.stage]} temporal layers"


def train(run: Run, changes: Sequence[str]) -> None:
    """Train, or go on with it."""
    if (run.workdir / "model").is_dir():
        return
    first = dataclasses.replace(run, stage="stage1")
    start = ["--start.model", first.workdir / "model"] if run.stage == "stage2" else []
    own = [change.removeprefix(f"{run.stage}.") for change in changes if change.startswith(f"{run.stage}.")]
    call(
        "aa_jax.train", "--config", f"configs/ablation/{run.arm}_{run.stage}.py", "--workdir", run.workdir,
        "--seed", run.seed, "--quiet", *start, *(f"--{change}" for change in own),
    )  # fmt: skip


def score(run: Run, num_clips: int) -> None:
    """Animate and score held-out clips."""
    call(
        "aa_jax.evaluate", "--protocol", PROTOCOL.name, "--model", run.workdir / "model", "--num-clips", num_clips,
        "--metrics", *METRICS, "--output", run.scores, "--quiet",
    )  # fmt: skip


def rows(runs: Sequence[Run]) -> dict[str, Row]:
    """Of each arm and stage, over its seeds."""
    return {title: merged(list(found.values()), METRICS) for title, found in by_title(runs).items()}


def by_title(runs: Sequence[Run]) -> dict[str, dict[int, Results]]:
    """Of each arm and stage, what was found with each seed."""
    found: dict[str, dict[int, Results]] = {}
    for run in runs:
        found.setdefault(run.title, {})[run.seed] = load_results(run.scores)
    return found


def comparisons(runs: Sequence[Run]) -> dict[str, dict[str, Row]]:
    """Under their headings, how far each arm is above the paper's, and above itself without temporal layers, over the
    seeds that both have."""
    found, first = by_title(runs), Run(folder=Path(), arm=PAPER, seed=0, stage="stage1")

    def above(run: Run, other: Run) -> dict[str, Row]:
        these, those = found.get(run.title, {}), found.get(other.title, {})
        seeds = [seed for seed in these if seed in those]
        return {run.title: differences([these[i] for i in seeds], [those[i] for i in seeds], METRICS)} if seeds else {}

    arms: dict[str, Row] = {}
    stages: dict[str, Row] = {}
    for arm in ARMS:
        for stage in STAGES if arm != PAPER else ():
            arms |= above(dataclasses.replace(first, arm=arm, stage=stage), dataclasses.replace(first, stage=stage))
        without = dataclasses.replace(first, arm=arm)
        stages |= above(dataclasses.replace(without, stage="stage2"), without)
    return {f"Above {PAPER}, in the same stage": arms, "Above the same arm without temporal layers": stages}


def sheet(runs: Sequence[Run]) -> Image.Image:
    """The first clip by every arm with the first seed, below the truth."""
    from aa_jax.evaluate import open_clips

    (clip,) = open_clips(PROTOCOL, None, 1)
    strips = {TRUTH: clip.frames()}
    for run in reversed(runs):
        strips[run.title] = read_video(run.scores / "predicted" / clip.name).frames
    rows = {title: np.concatenate(list(strips[title][list(SHOWN)]), axis=1) for title in [TRUTH, *by_title(runs)]}
    picture = np.concatenate(list(rows.values())).repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
    canvas = Image.new("RGB", (MARGIN + picture.shape[1], picture.shape[0]), "white")
    canvas.paste(Image.fromarray(picture), (MARGIN, 0))
    for i, title in enumerate(rows):
        place = (8, (i + 0.5) * picture.shape[0] / len(rows))
        ImageDraw.Draw(canvas).text(place, title.replace(", ", "\n"), fill="black", font_size=15, anchor="lm")
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--num-clips", type=int, default=32, help="that are scored, default 32")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--change", nargs="*", default=[], metavar="STAGE.FIELD=VALUE", help="of the configurations")
    args = parser.parse_args()
    runs = [
        Run(folder=args.output, arm=arm, seed=seed, stage=stage)
        for seed in args.seeds for arm in args.arms for stage in STAGES
    ]  # fmt: skip
    for run in () if args.table else runs:
        if not (run.scores / "scores.json").is_file():
            train(run, args.change)
            score(run, args.num_clips)
    runs = [run for run in runs if (run.scores / "scores.json").is_file()]
    runs.sort(key=lambda run: (list(ARMS).index(run.arm), run.stage, run.seed))
    table, compared = rows(runs), comparisons(runs)
    sections = [f"## {title}\n\n{markdown_of_differences(each, METRICS)}" for title, each in compared.items() if each]
    text = "\n".join([legend(METRICS, {}, args.num_clips), markdown(table, METRICS), *sections])
    facts = {"seeds": args.seeds, "num_clips": args.num_clips, "changes": args.change}
    write(args.output, text, {**facts, "arms": table, "differences": compared})
    sheet(runs).save(args.output / "sheet.png")


if __name__ == "__main__":
    main()
