"""The paper's ablation (section 4.4) on the synthetic characters: every arm trained and scored, and one table.

    python -m benchmarks.ablation --output runs/ablation                                  # all of it, hours on a CPU
    python -m benchmarks.ablation --output runs/ablation --arms referencenet --seeds 0    # one run
    python -m benchmarks.ablation --output runs/ablation --table                          # of what is there already

Each arm of `configs/ablation` is trained in two stages with each seed, and both are scored, as without and with
temporal layers, on clips of characters that none has seen. What is there already is not done again, so that the same
command goes on where it was interrupted. The folder gets table.md, table.json and sheet.png (one clip by every arm).
"""  # fmt: skip

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from aa_jax.evaluation.protocols import PROTOCOLS, Metric
from aa_jax.video import read_video
from benchmarks.modules import call
from benchmarks.table import Row, legend, load_results, markdown, merged, write
from configs.ablation.arms import ARMS

PROTOCOL = PROTOCOLS["characters-small"]
METRICS: tuple[Metric, ...] = (
    "psnr", "foreground_psnr", "background_psnr", "ssim", "emblem_bits", "pose", "warping_error", "flicker",
)  # fmt: skip
STAGES = {"stage1": "without", "stage2": "with"}
SHOWN, ENLARGED = (0, 5, 10, 15), 3


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
    return {
        title: merged([load_results(run.scores) for run in runs if run.title == title], METRICS)
        for title in dict.fromkeys(run.title for run in runs)
    }


def sheet(runs: Sequence[Run]) -> np.ndarray:
    """The first clip by every arm with the first seed, below the truth."""
    from aa_jax.evaluate import open_clips

    (clip,) = open_clips(PROTOCOL, None, 1)
    strips = [clip.frames()[list(SHOWN)]]
    for title in dict.fromkeys(run.title for run in runs):
        run = next(run for run in runs if run.title == title)
        strips.append(read_video(run.scores / "predicted" / clip.name).frames[list(SHOWN)])
    picture = np.concatenate([np.concatenate(list(strip), axis=1) for strip in strips])
    return picture.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


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
    table = rows(sorted(runs, key=lambda run: (list(ARMS).index(run.arm), run.stage, run.seed)))
    text = legend(METRICS, {}, args.num_clips) + "\n" + markdown(table, METRICS)
    write(args.output, text, {"seeds": args.seeds, "num_clips": args.num_clips, "changes": args.change, "arms": table})
    Image.fromarray(sheet(runs)).save(args.output / "sheet.png")


if __name__ == "__main__":
    main()
