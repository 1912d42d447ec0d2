"""Compiled programs are kept on disk, so that a command compiles only what it has never compiled before."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from aa_jax.processor import processor

SWITCH = "AA_JAX_CACHE"
MAX_BYTES = 4 << 30


def enable() -> None:
    """Let JAX keep what takes a second or more to compile in `folder()`, up to `MAX_BYTES`; what was used longest ago
    goes first.

    For commands: the library leaves the user's JAX as it is. Nothing is done where JAX was not imported, where it has a
    cache already (`JAX_COMPILATION_CACHE_DIR`), or with `AA_JAX_CACHE=off`. A cache that cannot be written is one line
    on stderr, and none is used. As with JAX's own cache: who can write to it can run code as its user.
    """
    jax = sys.modules.get("jax")
    if jax is None or jax.config.jax_compilation_cache_dir or os.environ.get(SWITCH) == "off":
        return
    try:
        path = folder()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_broken(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        print(f"aa_jax: compiled programs are not kept: {error} ({SWITCH}=off says no more)", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    if jax.config.jax_compilation_cache_max_size == -1:  # JAX's default: no limit
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    # A full disk, say: the result is the same without.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Without JAX's cache, whoever switched it on; for a process that has not used it before."""
    import jax

    config: Any = jax.config
    before = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", before)


def folder() -> Path:
    """Where the cache is: one for each kind of processor, as a home may be shared by machines of several."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aa_jax" / "xla" / processor()


def _remove_broken(path: Path) -> None:
    """Remove entries whose process died while it wrote them: JAX would neither read nor replace them, and fail to make
    room among them. The time of use is written last, beside an entry."""
    try:
        with filelock.FileLock(path / ".lockfile", timeout=0):  # JAX's own lock
            for entry in path.glob("*-cache"):
                if not entry.with_name(entry.name.removesuffix("-cache") + "-atime").is_file():
                    entry.unlink()
    except filelock.Timeout:  # another process writes at this moment
        return
