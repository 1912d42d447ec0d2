"""Writing aside, then renaming: what is written appears under its final name whole, or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

StrPath = str | os.PathLike[str]


@contextlib.contextmanager
def aside(path: StrPath) -> Iterator[Path]:
    """A temporary path beside `path` for a file or a folder; renamed to `path` at the end, or removed on any error.

    Raises:
      OSError: writing or renaming failed; the line names `path`.
    """
    partial = temporary(path)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: StrPath) -> Iterator[Path]:
    """A temporary folder beside `path`, which takes its name when the block ends without an error, else is removed.

    Raises:
      ValueError: `path` is a file, or a folder with something in it.
      OSError: writing or renaming failed; the line names `path`.
    """
    folder = Path(path).absolute()
    if folder.is_file() or folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} exists already and is not empty: remove it or choose another output folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with aside(folder) as partial:
        partial.mkdir()
        yield partial


def temporary(path: StrPath) -> Path:
    """A hidden name beside `path` that nothing has."""
    return Path(path).with_name(f".{secrets.token_hex(8)}.partial")


def cannot_write(path: StrPath, error: OSError) -> OSError:
    """The same error, of the same class, with a line that names `path`."""
    return OSError(error.errno, f"cannot write {path}: {error.strerror or error}")
