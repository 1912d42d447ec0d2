"""From the clips' files to one table: means with intervals, Fréchet distances, and what they rest on."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aa_jax.evaluation.protocols import Metric, Protocol
from aa_jax.evaluation.score import features_of, read
from aa_jax.evaluation.suite import INFO, Suite
from aa_jax.metrics.frechet import ClipFeatures, frechet_distance
from aa_jax.metrics.interval import Interval, mean_interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
      value: of all clips together.
      interval: of 95 %, over clips; None where there are too few.
      own: the same number of the true frames in place of the predicted ones.
      clips: that have this number.
      samples: frames or windows behind it.
      warning: why not to trust it; empty where nothing is known against it.
    """

    value: float
    interval: Interval | None
    own: float | None = None
    clips: int
    samples: int
    warning: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """All that was found.

    Attributes:
      estimates: by metric, in the protocol's order.
      unavailable: metrics that could not be had, and why.
      clips: by clip, the means of its values.
      handled: lines about what was dealt with as the protocol says.
      problems: lines about clips that were left out.
      card: everything that the numbers depend on.
    """

    estimates: Mapping[Metric, Estimate]
    unavailable: Mapping[Metric, str]
    clips: Mapping[str, Mapping[Metric, float]]
    handled: tuple[str, ...]
    problems: tuple[str, ...]
    card: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            "estimates": {name: dataclasses.asdict(each) for name, each in self.estimates.items()},
            "unavailable": dict(self.unavailable),
            "clips": {name: dict(values) for name, values in self.clips.items()},
            "handled": self.handled,
            "problems": self.problems,
            "card": dict(self.card),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Results":
        """What `to_dict` gave, by way of JSON, where None stands for what is no number."""

        def estimate(fields: Mapping[str, Any]) -> Estimate:
            interval = fields["interval"] and Interval(*fields["interval"])
            value = math.nan if fields["value"] is None else fields["value"]
            return Estimate(**{**fields, "value": value, "interval": interval})

        return cls(
            estimates={name: estimate(fields) for name, fields in stored["estimates"].items()},
            unavailable=stored["unavailable"],
            clips={
                name: {metric: math.nan if value is None else value for metric, value in values.items()}
                for name, values in stored["clips"].items()
            },
            handled=tuple(stored["handled"]),
            problems=tuple(stored["problems"]),
            card=stored["card"],
        )


def gather(
    files: list[Path],
    protocol: Protocol,
    suite: Suite,
    *,
    handled: tuple[str, ...],
    problems: tuple[str, ...],
    card: Mapping[str, Any],
) -> Results:
    """Put the clips' files together; their features are read one clip at a time."""
    names: list[str] = []
    values: dict[Metric, list[np.ndarray]] = {metric: [] for metric in suite.values}
    own: dict[Metric, list[np.ndarray]] = {metric: [] for metric in suite.values if INFO[metric].own}
    lines = list(handled)
    for path in files:
        scores = read(path)
        names.append(scores.name)
        lines += scores.handled
        for kept, found in ((values, scores.values), (own, scores.own)):
            for metric in kept:
                each = np.asarray(found[metric], np.float64)
                kept[metric].append(each[~np.isnan(each)])
    estimates: dict[Metric, Estimate] = {}
    for metric in protocol.metrics:
        if metric in values:
            estimates[metric] = _mean(values[metric], own.get(metric), protocol)
        elif metric in suite.features:
            estimates[metric] = _frechet(functools.partial(features_of, files, metric))
    clips = {
        name: {metric: float(each[row].mean()) for metric, each in values.items() if each[row].size}
        for row, name in enumerate(names)
    }
    return Results(
        estimates=estimates,
        unavailable=suite.unavailable,
        clips=clips,
        handled=tuple(lines),
        problems=problems,
        card=card,
    )


def _mean(values: list[np.ndarray], own: list[np.ndarray] | None, protocol: Protocol) -> Estimate:
    infinite = sum(int(np.isinf(each).sum()) for each in values)
    some = [finite for each in values if (finite := each[np.isfinite(each)]).size]
    if not some:
        return _nothing("no clip has this number")
    sums, weights = _per_clip(some, protocol)
    value = float(sums.sum() / weights.sum())
    # Each clip's part in the weighted mean: their plain mean is that mean. Of equal weights, these are the clips' own.
    interval = mean_interval(value + (sums - value * weights) / weights.mean())
    return Estimate(
        value=value,
        interval=interval,
        own=None if own is None else _overall([each for each in own if each.size], protocol),
        clips=len(some),
        samples=sum(each.size for each in some),
        warning="; ".join(
            [
                *(["one clip tells nothing of others"] if not interval else []),
                *([f"{infinite} infinite values are left out"] if infinite else []),
            ]
        ),
    )


def _nothing(why: str) -> Estimate:
    return Estimate(value=float("nan"), interval=None, clips=0, samples=0, warning=why)


def _per_clip(values: list[np.ndarray], protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Sums and weights of clips: their mean over all is the sums' sum over the weights'."""
    if protocol.average == "frames":
        return np.array([each.sum() for each in values]), np.array([float(each.size) for each in values])
    return np.array([each.mean() for each in values]), np.ones(len(values))


def _overall(values: list[np.ndarray], protocol: Protocol) -> float | None:
    if not values:
        return None
    sums, counts = _per_clip(values, protocol)
    return float(sums.sum() / counts.sum())


def _frechet(clips: Callable[[], Iterable[ClipFeatures]]) -> Estimate:
    try:
        found = frechet_distance(clips)
    except ValueError as error:  # less than two windows in all
        return _nothing(str(error))
    return Estimate(
        value=found.value,
        interval=found.interval,
        clips=found.clips,
        samples=found.predicted_samples,
        warning=found.warning,
    )
