"""Scores of single clips, each in a file of its own: what is there already is not computed again."""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from aa_jax.atomic import aside
from aa_jax.evaluation.pairs import Pair, read_pair
from aa_jax.evaluation.protocols import Metric, Protocol
from aa_jax.evaluation.suite import INFO, Compared, Suite

# Another one where the same frames may have other scores.
VERSION = 1
SUFFIX = ".npz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Of one pair.

    Attributes:
      name: of the clip.
      values: of each metric, one or several numbers; NaN where there is none.
      own: likewise, of the true frames in place of the predicted ones, for metrics that have it.
      features: of each Fréchet distance, predicted and true.
      handled: lines about what was resized.
    """

    name: str
    values: Mapping[Metric, Float[np.ndarray, " n"]]
    own: Mapping[Metric, Float[np.ndarray, " n"]]
    features: Mapping[Metric, tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]]
    handled: tuple[str, ...]


def score(pair: Pair, protocol: Protocol, suite: Suite) -> ClipScores:
    """Compute everything about a pair.

    Raises:
      ValueError: a file is damaged, or the frames do not fit; see `read_pair`, and the metrics.
    """
    predicted, truth, handled = read_pair(pair, protocol)
    compared = Compared(predicted=predicted, truth=truth, footage=pair.truth)
    own = dataclasses.replace(compared, predicted=truth)
    return ClipScores(
        name=pair.name,
        values={name: of(compared) for name, of in suite.values.items()},
        own={name: of(own) for name, of in suite.values.items() if INFO[name].own},
        features={name: (of(predicted), of(truth)) for name, of in suite.features.items()},
        handled=tuple(handled),
    )


def score_all(
    pairs: tuple[Pair, ...], protocol: Protocol, suite: Suite, folder: Path, *, progress: Callable[[int, int], object]
) -> tuple[list[Path], list[str]]:
    """Score each pair, or leave it where the same was scored before.

    Args:
      folder: of the clips' files, made if need be.
      progress: called with (pairs done, pairs).

    Returns:
      The files, and lines about the pairs that could not be scored.

    Raises:
      OSError: a file cannot be written.
    """
    files, problems = [], []
    progress(0, len(pairs))
    for done, pair in enumerate(pairs, 1):
        path = folder / f"{pair.name}{SUFFIX}"
        try:
            stamp = stamp_of(pair, protocol, suite)
            if read_stamp(path) != stamp:
                write(path, score(pair, protocol, suite), stamp)
            files.append(path)
        except ValueError as error:
            problems.append(f"{pair.name}: {error}")
        progress(done, len(pairs))
    return files, problems


def stamp_of(pair: Pair, protocol: Protocol, suite: Suite) -> str:
    """Another one where the scores may be others: of the frames, the protocol and the networks."""
    facts = {
        "version": VERSION,
        "protocol": dataclasses.asdict(protocol),
        "networks": suite.networks,
        "metrics": [*suite.values, *suite.features],
        "clips": [pair.predicted.stamp, pair.truth.stamp, pair.num_frames],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write(path: Path, scores: ClipScores, stamp: str) -> None:
    """Write a clip's file, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    for name, values in scores.values.items():
        arrays[f"values/{name}"] = values
    for name, values in scores.own.items():
        arrays[f"own/{name}"] = values
    for name, (predicted, true) in scores.features.items():
        arrays[f"predicted/{name}"], arrays[f"true/{name}"] = predicted, true
    about = json.dumps({"stamp": stamp, "name": scores.name, "handled": scores.handled})
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as partial, open(partial, "wb") as file:
        np.savez(file, about=np.array(about), **arrays)  # type: ignore[arg-type]


def read_stamp(path: Path) -> str | None:
    """The stamp of a clip's file; None where there is no such file, or a damaged one."""
    try:
        with np.load(path) as file:
            return json.loads(str(file["about"]))["stamp"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def read(path: Path) -> ClipScores:
    """A clip's file."""
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        parts: dict[str, dict] = {"values": {}, "own": {}, "predicted": {}, "true": {}}
        for key in file.files:
            part, _, name = key.partition("/")
            if name:
                parts[part][name] = file[key]
    features = {name: (found, parts["true"][name]) for name, found in parts["predicted"].items()}
    return ClipScores(
        name=about["name"],
        values=parts["values"],
        own=parts["own"],
        features=features,
        handled=tuple(about["handled"]),
    )


def features_of(
    files: list[Path], metric: Metric
) -> Iterator[tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]]:
    """The features of one clip after the other, predicted and true."""
    for path in files:
        with np.load(path) as file:
            yield file[f"predicted/{metric}"], file[f"true/{metric}"]
