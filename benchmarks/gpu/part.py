"""One part of the measurements: `python -m benchmarks.gpu.part MODULE JOB`, as `benchmarks.gpu` calls it."""

import importlib
import sys

from benchmarks.gpu.job import Job

INCOMPLETE = 3
"""Exit code of a part that has left something out for want of time."""


def main() -> int:
    module, job = sys.argv[1:]
    complete = importlib.import_module(f"benchmarks.gpu.{module}").run(Job.of(job))
    return INCOMPLETE if complete is False else 0


if __name__ == "__main__":
    sys.exit(main())
