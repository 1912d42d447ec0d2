"""What the commands share: one-line errors and exit codes."""

import argparse
import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from aa_jax import compilation_cache
from aa_jax.closing import Closing

EXTRAS = {
    "train": ("array_record", "grain", "importlib_resources", "optax", "orbax", "tensorboardX", "tensorflow_datasets"),
    "pose": ("onnxruntime",),
    "convert": ("diffusers", "torch", "transformers"),
    "web": ("gradio",),
}
"""The modules that each extra of the package brings."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, named by the verb as those of `run` are."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog.removeprefix('aa-jax ')}: {message} (see --help)\n")


def run(program: str, command: Callable[[], object], output: Path) -> int:
    """Run `command`: 0, or 2 and one line on stderr if the user's input or the machine's state does not allow it.

    What it compiles is kept for the next time, see `aa_jax.compilation_cache`.

    Args:
      output: what the command writes, named where the error of a full disk, say, names no file.
    """
    compilation_cache.enable()
    try:
        command()
    except ModuleNotFoundError as error:
        return _fail(program, missing(error))
    except (ValueError, FileNotFoundError) as error:
        return _fail(program, str(error))
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        if error.filename:
            reason = f"{error.filename}: {reason}"
        elif str(output) not in reason:
            reason = f"writing {output}: {reason}"
        return _fail(program, reason)
    except KeyboardInterrupt:
        return _fail(program, "interrupted")
    return 0


@contextlib.contextmanager
def warnings_as_lines(program: str) -> Iterator[None]:
    """Warnings of what is run inside become lines on stderr afterwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"{program}: {warning.message}", file=sys.stderr)


class Bar(Closing):
    """A progress bar; it appears with the first report, so that its time left is true."""

    def __init__(self, what: str, unit: str, *, quiet: bool):
        self._show = functools.partial(tqdm, desc=what, unit=unit, disable=quiet, file=sys.stderr)
        self._bar: tqdm | None = None

    def __call__(self, done: int, total: int | None) -> None:
        """So much is done of so much, where that is known; what the first report calls done was done before."""
        if self._bar is None:
            self._bar = self._show(initial=done)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        """Leave it as it is."""
        if self._bar is not None:
            self._bar.close()


def missing(error: ModuleNotFoundError) -> str:
    """What to install, where the module that is missing belongs to an extra."""
    top = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if top in modules:
            return f"{top} is missing: pip install 'aa_jax[{extra}]'"
    return str(error)


def _fail(program: str, message: str) -> int:
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return 2
