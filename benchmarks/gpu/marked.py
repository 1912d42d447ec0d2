"""The tests that need a GPU: `pytest -m gpu`."""

import re
import subprocess
import sys

from benchmarks.gpu.job import Job


def run(job: Job) -> None:
    # Modules that cannot be imported, as what their other tests need is not installed, are no obstacle.
    options = ("-q", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", *options, "tests"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=max(job.left, 1), check=False)
    said = done.stdout + done.stderr
    summary = re.findall(r"^=*\s*(\d+ (?:passed|failed|error|skipped|deselected).*?)=*$", done.stdout, re.MULTILINE)
    # 5: there is no such test.
    job.record("tests", exit_code=done.returncode, summary=summary[-1] if summary else "", said=said[-2000:])
