"""What the JSON keypoint formats share: reading a document, a folder's frames in order, and arrays of numbers."""

import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from aa_jax.atomic import StrPath

SUFFIX = ".json"
# No image is so large; beyond it a file is damaged, and float32 would overflow.
LARGEST = 1e6


def read_json(path: StrPath) -> Any:
    """The document of a JSON file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is empty, cut short, or no JSON.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist, expected a JSON file")
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no JSON: it is not UTF-8 text") from error
    if not text.strip():
        raise ValueError(f"{path} is empty, expected JSON")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is no JSON or is cut short: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or nested thousands deep
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error


def json_files(folder: StrPath) -> list[Path]:
    """The JSON files of a folder, hidden ones aside, in no order."""
    return [file for file in Path(folder).iterdir() if file.suffix.lower() == SUFFIX and not file.name.startswith(".")]


def frame_files(folder: StrPath) -> list[Path | None]:
    """The JSON files of a folder, one a frame, in the order of the number in their names; None where one is missing.

    The step between frames is the greatest one that all numbers share, so that 0, 2, 4 are three frames without a gap
    and 0, 1, 3 are four, the third of which is missing.

    Raises:
      ValueError: the folder holds no JSON, the files are not one clip's, or most of its frames are missing.
    """
    files = json_files(folder)
    if not files:
        raise ValueError(f"{folder} is a folder without JSON files, expected one a frame")
    # Splitting by digits puts text at even and numbers at odd places.
    parts = {file: re.split("([0-9]+)", file.name) for file in files}
    texts = {tuple(split[::2]): file for file, split in parts.items()}
    if len(texts) > 1:
        one, other, *_ = sorted(file.name for file in texts.values())
        raise ValueError(
            f"{folder} holds {one} and {other}, whose names differ in more than a number: expected one clip, "
            "one JSON file a frame"
        )
    if len(files) == 1:
        return [files[0]]
    numbers = np.array([[int(number) for number in split[1::2]] for split in parts.values()], dtype=object)
    column = next((column for column in numbers.T if len(set(column)) > 1), numbers.T[0])
    if len(set(column)) < len(files):
        raise ValueError(f"{folder} holds several files of one frame number: expected one clip, one JSON file a frame")
    first = min(column)
    step = math.gcd(*(number - first for number in column))
    count = (max(column) - first) // step + 1
    if count > 2 * len(files):
        raise ValueError(
            f"{folder} holds {len(files)} JSON files numbered {first} to {max(column)}, so that most frames are "
            "missing: number the files of successive frames successively"
        )
    frames: list[Path | None] = [None] * count
    for number, file in zip(column, files, strict=True):
        frames[(number - first) // step] = file
    return frames


def read_frames(path: StrPath) -> list[tuple[str, Any]]:
    """The frames of a JSON file or of a folder of them: where each comes from, and its document, None if missing.

    A document that is a list of anything but DisCo's people is a list of frames: of a file alone all, of a folder's the
    only one.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: see `read_json` and `frame_files`.
    """
    if Path(path).is_dir():
        return [(str(file or path), file and _only_frame(read_json(file))) for file in frame_files(path)]
    document = read_json(path)
    if _is_list_of_frames(document):
        return [(f"{path}, frame {index}", frame) for index, frame in enumerate(document)]
    return [(str(path), document)]


def _is_list_of_frames(document: Any) -> bool:
    return isinstance(document, list) and not all(isinstance(one, dict) and "keypoints" in one for one in document)


def _only_frame(document: Any) -> Any:
    return document[0] if _is_list_of_frames(document) and len(document) == 1 else document


def rows(values: Any, counts: Collection[int], where: str) -> Float[np.ndarray, "n 3"]:
    """Numbers, flat or three by three, as rows of x, y and score; those that are missing, of score 0 or less, all 0.

    Args:
      values: what the document holds.
      counts: how many rows there may be.
      where: begins the error's line.

    Raises:
      ValueError: another count, or something that is no finite number.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.asarray(values, dtype=object)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{where} holds something that is no number, expected x, y and score of each point")
    expected = " or ".join(str(count) for count in counts)
    if array.ndim not in (1, 2) or array.ndim == 2 and array.shape[1] != 3 or array.size not in [3 * c for c in counts]:
        shape = f"{array.size} numbers" if array.ndim == 1 else f"numbers of shape {array.shape}"
        raise ValueError(f"{where} holds {shape}, expected x, y and score of {expected} points")
    points = array.reshape(-1, 3).astype(np.float64)
    if not (np.abs(points) <= LARGEST).all():  # so that NaN fails
        raise ValueError(f"{where} holds a number that is NaN, infinite or beyond {LARGEST:g}")
    return np.where(points[:, 2:] > 0, points, 0.0)
