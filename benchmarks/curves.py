"""The loss curves of runs, as one picture.

    python -m benchmarks.curves runs/characters_cpu/vae runs/characters_cpu/stage1 runs/characters_cpu/stage2
        --output curves.png
"""  # fmt: skip

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the choice of a backend

SCORE = "validation/foreground_psnr"
# Part of a run over which its loss is averaged for the thick line.
SMOOTH = 0.05


def read(run: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a figure."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = np.array([(line["step"], line[name]) for line in lines if line.get(name) is not None])
    return (found[:, 0], found[:, 1]) if len(found) else (np.zeros(0), np.zeros(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    figure, axes = plt.subplots(1, len(args.runs), figsize=(4 * len(args.runs), 2.8), squeeze=False)
    for run, axis in zip(args.runs, axes[0], strict=True):
        steps, loss = read(run, "loss")
        width = max(1, round(SMOOTH * len(loss)))
        axis.plot(steps, loss, color="0.8", linewidth=0.7)
        axis.plot(steps[width - 1 :], np.convolve(loss, np.full(width, 1 / width), "valid"), color="C0")
        axis.set(yscale="log", title=run.name, xlabel="step", ylabel="loss")
        steps, score = read(run, SCORE)
        if len(score):
            other = axis.twinx()
            other.plot(steps, score, "o-", color="C1", markersize=4)
            other.set_ylabel("held-out foreground PSNR, dB", color="C1")
    figure.tight_layout()
    figure.savefig(args.output, dpi=110)


if __name__ == "__main__":
    main()
