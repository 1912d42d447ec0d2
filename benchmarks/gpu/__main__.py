"""Everything that is to be measured on a GPU, in one call that nobody has to watch.

    python -m benchmarks.gpu --output results.json [--budget-minutes 9] [--parts NAME ...] [--sizes 784x512 ...]
        [--work FOLDER] [--moore FOLDER --moore-packages FOLDER]

Parts run in the order of their worth, each in a process of its own, until the time is over; the results are written
after each. A part that fails, or is ended because its time is over, keeps what it has measured. The same command goes
on with what is not done; with the same `--work` it finds what was compiled, too. `--list` shows the parts. The machine
should do nothing else meanwhile, on its processors neither.
`python -m benchmarks.report` makes tables and pictures of the results.

The machine needs aa_jax's requirements with JAX for its GPU, and optax for training. PyTorch is measured where it is
installed: diffusers' networks with `diffusers` (tested with 0.42) and `transformers`; and the published pipeline with
`--moore`, a checkout of Moore-AnimateAnyone, and `--moore-packages`, a folder with the diffusers of its time
(`pip install --target FOLDER --no-deps diffusers==0.24.0`). On a machine without a network, wheels of what is missing
(most likely `av` and `diffusers`) can be carried along: `pip install --target FOLDER --no-deps *.whl`, and FOLDER in
PYTHONPATH.
"""  # fmt: skip

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aa_jax.atomic import aside
from aa_jax.environment import git_state
from benchmarks.gpu.job import Job, read_records
from benchmarks.gpu.part import INCOMPLETE
from benchmarks.gpu.parts import Part, parts
from benchmarks.gpu.scale import SCALES, Scale, Size

FORMAT = 1
# Of what a failing part has said, what is kept.
TAIL = 3000
# JAX takes its memory at once: nearly all, as parts run one after the other.
SURROUNDINGS = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92", "TF_CPP_MIN_LOG_LEVEL": "1", "AA_JAX_CACHE": "off"}
ROOT = Path(__file__).parents[2]


def main() -> int:
    args = parser().parse_args()
    scale, start = SCALES[args.scale], time.time()
    if args.sizes:
        scale = dataclasses.replace(scale, sizes=tuple(args.sizes))
    known = parts(scale)
    strange = set(args.parts or ()) - {part.name for part in known}
    if strange:
        print(f"benchmarks.gpu: there is no part {sorted(strange)[0]}: --list shows all", file=sys.stderr)
        return 2
    chosen = [part for part in known if not args.parts or part.name in args.parts]
    if args.list:
        print("\n".join(part.name for part in chosen))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        results = _results(args)
        for part in chosen:
            if results["parts"].get(part.name, {}).get("status") == "done":
                print(f"{part.name}: done before", flush=True)
                continue
            deadline = start + 60 * args.budget_minutes
            outcome = _run(part, scale, args, work, deadline)
            # What was measured in an earlier run is not given up for a run that came to less.
            before = results["parts"].get(part.name, {})
            if len(outcome["records"]) >= len(before.get("records", ())):
                results["parts"][part.name] = outcome
            results["seconds"] = round(results["seconds"] + outcome["seconds"], 1)
            _write(args.output, results)
    return 0


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON; what is in it is kept")
    command.add_argument("--budget-minutes", type=float, default=9, metavar="N")
    command.add_argument("--parts", nargs="+", metavar="NAME", help="default: all")
    command.add_argument(
        "--sizes", nargs="+", type=_size, metavar="HxW", help="of the videos; default: 784x512 512x512"
    )
    command.add_argument("--work", type=Path, metavar="FOLDER", help="for compiled programs; default: a temporary one")
    command.add_argument(
        "--scale",
        choices=sorted(SCALES),
        default="full",
        help="cpu: the bundled model, for the parts steps, frames and sizes; tiny: to see that all parts work",
    )
    command.add_argument("--moore", type=Path, metavar="FOLDER", help="checkout of Moore-AnimateAnyone")
    command.add_argument("--moore-packages", type=Path, metavar="FOLDER", help="with diffusers 0.24")
    command.add_argument("--commit", metavar="TEXT", help="of this code, where it is no checkout")
    command.add_argument("--list", action="store_true", help="show the parts and end")
    return command


def _size(text: str) -> Size:
    height, width = map(int, text.split("x"))
    return height, width


def _results(args: argparse.Namespace) -> dict[str, Any]:
    """Those of the file, to be completed, or none."""
    if args.output.is_file():
        results = json.loads(args.output.read_text())
        if (results.get("format"), results.get("scale")) == (FORMAT, args.scale):
            return results
        raise SystemExit(f"benchmarks.gpu: {args.output} holds no results of scale {args.scale}: name another file")
    git = git_state(ROOT) or {"commit": args.commit, "dirty": None}
    return {
        "format": FORMAT,
        "scale": args.scale,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": "python -m benchmarks.gpu " + " ".join(_public(sys.argv[1:])),
        "git": git,
        "seconds": 0.0,
        "parts": {},
    }


def _public(words: list[str]) -> list[str]:
    """A command without the folders of the machine."""
    return [Path(word).name if "/" in word else word for word in words]


def _run(part: Part, scale: Scale, args: argparse.Namespace, work: Path, deadline: float) -> dict[str, Any]:
    """Run a part in its own process; what became of it, and what it measured."""
    left = deadline - time.time()
    missing = [f"--{name.replace('_', '-')}" for name in part.needs if not getattr(args, name)]
    why = f"it takes {' and '.join(missing)}" if missing else "the time is over" if left < part.least else ""
    if why:
        print(f"{part.name}: left out, {why}", flush=True)
        return {"status": "left out", "error": why, "seconds": 0.0, "records": []}
    print(f"{part.name}: {left:.0f} s left", flush=True)
    limit = min(part.most, left)
    records = work / f"{part.name}.jsonl"
    records.unlink(missing_ok=True)
    options = part.options | {name: str(getattr(args, name).absolute()) for name in part.needs}
    job = Job(scale=scale, options=options, work=work, records=records, deadline=time.time() + 0.95 * limit)
    start, log = time.time(), work / f"{part.name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.part", part.module, job.to_json()],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT, env=_environment(part, work),
        )  # fmt: skip
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    status = {0: "done", INCOMPLETE: "incomplete", None: "stopped"}.get(code, "failed")
    found = read_records(records)
    outcome = {"status": status, "seconds": round(time.time() - start, 1), "records": found}
    if status in ("failed", "stopped"):
        outcome["error"] = _tail(log, code)
    print(f"{part.name}: {status} after {outcome['seconds']} s, {len(found)} records", flush=True)
    if status == "failed":
        print(_tail(log, code), flush=True)
    return outcome


def _environment(part: Part, work: Path) -> dict[str, str]:
    """For a part: this package found, compiled programs kept for the next, and the GPU left to PyTorch where that is
    measured."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(work / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    always = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if part.in_torch:
        always["JAX_PLATFORMS"] = "cpu"
    if part.xla_flags:
        always["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {part.xla_flags}"
    return {**SURROUNDINGS, **cache, **os.environ, **always}


def _end(process: subprocess.Popen) -> None:
    """End a part and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path, code: int | None) -> str:
    """The end of what a part said, without the folders of the machine."""
    said = log.read_text(errors="replace")[-TAIL:]
    for folder, name in ((str(ROOT), "."), (sys.prefix, "PYTHON"), (tempfile.gettempdir(), "TMP")):
        said = said.replace(folder, name)
    return said if code is not None else f"its time was over\n{said}"


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as partial:
        partial.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
