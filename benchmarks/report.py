"""Tables and pictures of what `benchmarks.gpu` and `benchmarks.cpu_vs_torch` have measured.

    python -m benchmarks.report results.json [MORE.json ...] --output FOLDER

FOLDER gets tables.md, and pictures of whatever was measured: roofline.png (what each group of layers reaches, beside
what the device can), cost_by_frames.png, cost_by_size.png, cost_by_steps.png and training_by_devices.png. Of several
files, from machines with other numbers of devices say, the first is the one that the tables are of; the last picture
takes all. Pictures need `pip install -e ".[benchmark]"`.
"""  # fmt: skip

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from aa_jax.atomic import aside
from benchmarks.gpu import plots, tables
from benchmarks.gpu.job import Record

# What every result of benchmarks.cpu_vs_torch has.
CPU = ("machine", "threads", "size", "frames", "seconds", "ratio")


def read(path: Path) -> list[Record]:
    """All that was measured, in one list; of `benchmarks.cpu_vs_torch` its one result.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it is none of these two.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected what benchmarks.gpu has written")
    try:
        found = json.loads(path.read_text())
        if "parts" not in found:
            return [{"kind": "cpu_vs_torch", **{name: found[name] for name in CPU}, **found}]
        about = {name: found[name] for name in ("date", "command", "git", "scale", "seconds")}
        status = {name: part["status"] for name, part in found["parts"].items()}
        records = [record for part in found["parts"].values() for record in part["records"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no result of benchmarks.gpu or benchmarks.cpu_vs_torch: {error!r}") from error
    return [{"kind": "run", **about, "status": status}, *records]


def report(files: Sequence[Path], folder: Path) -> list[Path]:
    """Write tables and pictures; the files that were written."""
    every = [read(path) for path in files]
    cpu = [record for records in every for record in records if record["kind"] == "cpu_vs_torch"]
    gpu = [records for records in every if records[0]["kind"] == "run"]
    sections = (tables.sections(gpu[0]) if gpu else []) + tables.cpu(cpu)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "tables.md"]
    with aside(written[0]) as partial:
        partial.write_text("\n".join(sections), encoding="utf-8")
    for name, figure in plots.pictures(gpu).items():
        written.append(folder / f"{name}.png")
        with aside(written[-1]) as partial:
            figure.savefig(partial, dpi=110, format="png")
    return written


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    args = parser.parse_args()
    try:
        for path in report(args.results, args.output):
            print(path)
    except (OSError, ValueError) as error:
        print(f"benchmarks.report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
