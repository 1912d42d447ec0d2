"""What a number depends on beside its inputs: versions, devices, the state of the code."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import aa_jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment() -> dict[str, Any]:
    """`versions` of what is installed, `devices`, and `git` (see `git_state`)."""
    devices = jax.devices()
    return {
        "versions": {"aa_jax": aa_jax.__version__, "python": platform.python_version(), **_installed()},
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
        },
        "git": git_state(Path(aa_jax.__file__).parent),
    }


def _installed() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    return versions


def git_state(folder: Path) -> dict[str, Any] | None:
    """`commit` of a checkout, and whether anything in it is `dirty`: changed, or new and not ignored.

    None where git does not know the folder's files (they are installed, or git is missing).
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", "--", "."):
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
