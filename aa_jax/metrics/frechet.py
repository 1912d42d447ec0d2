"""The Fréchet distance of two sets of features (FID, FID-VID, FVD), with its confidence interval and its warnings.

Features go through once for the distance and once more for the interval; what is kept of them are statistics in
float64, whose size does not grow with the number of clips.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import scipy.linalg
import scipy.special
from jaxtyping import Float

from aa_jax.metrics.interval import CONFIDENCE, Interval

# Features of one clip: of its predicted and of its true frames or windows.
ClipFeatures = tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]
MAX_GROUPS = 20
ENOUGH_PER_DIMENSION = 5
ENOUGH_CLIPS = 10


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Of a set of features: all that the distance needs.

    Attributes:
      count: number of features.
      mean: (d,).
      scatter: (d, d), the sum of `(x - mean) (x - mean)^T`.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "Statistics":
        """Of features at hand, one or more."""
        features = np.asarray(features, np.float64)
        mean = features.mean(axis=0)
        centred = features - mean
        return cls(count=len(features), mean=mean, scatter=centred.T @ centred)

    def __add__(self, other: "Statistics") -> "Statistics":
        """Of both sets together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        step = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter += np.outer(step * (self.count * other.count / count), step)
        return Statistics(count=count, mean=self.mean + step * (other.count / count), scatter=scatter)

    def __sub__(self, part: "Statistics") -> "Statistics":
        """Of what is left without a part of the set: `(a + b) - b` is `a`, but for rounding."""
        count = self.count - part.count
        mean = self.mean + (self.mean - part.mean) * (part.count / count)
        step = part.mean - mean
        scatter = self.scatter - part.scatter
        scatter -= np.outer(step * (count * part.count / self.count), step)
        return Statistics(count=count, mean=mean, scatter=scatter)

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The unbiased one, divided by count - 1."""
        return self.scatter / (self.count - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrechetDistance:
    """A distance, and how far to trust it.

    Attributes:
      value: the distance, 0 or more. It is biased upwards, the more the fewer samples there are: distances of different
        numbers of samples do not compare, and that of equal distributions is not 0.
      interval: of 95 %, None with less than 3 clips. It says how much the value varies from one set of as many clips to
        another, and nothing of the bias: the distance of infinitely many samples is often below it.
      predicted_samples, true_samples: how many features. Those of overlapping windows tell less than as many others.
      clips: that they are of.
      dimensions: of a feature.
      warning: why the value is not to be trusted as it stands; empty if nothing is known against it.
    """

    value: float
    interval: Interval | None
    predicted_samples: int
    true_samples: int
    clips: int
    dimensions: int
    warning: str


def frechet_distance(clips: Callable[[], Iterable[ClipFeatures]]) -> FrechetDistance:
    """The Fréchet distance of predicted and true features of clips, which may be too many to be held at once.

    The interval is that of a delete-a-group jackknife: up to 20 groups of neighbouring clips are left out in turn
    (groups of two sizes: Busing et al. 1999), with Student's t. Clips are the unit, for the features of a clip resemble
    one another. In simulations of 5 to 100 clips it held the expected value in 91 to 100 % of cases.

    Args:
      clips: gives the features of one clip after the other, the same each time that it is called: twice.

    Raises:
      ValueError: less than two samples; features of a clip that are missing, not finite or of another dimension; other
        clips the second time.
    """
    total = _accumulate(clips())
    predicted, true = total.predicted, total.true
    samples, dimensions = min(predicted.count, true.count), len(true.mean)
    if samples < 2:
        raise ValueError("one sample given, expected two or more: it has no covariance")
    value = distance(predicted, true)
    return FrechetDistance(
        value=value,
        interval=_jackknife(clips(), total, value) if total.clips >= 3 else None,
        predicted_samples=predicted.count,
        true_samples=true.count,
        clips=total.clips,
        dimensions=dimensions,
        warning=_warning(samples, dimensions, total.clips),
    )


def distance(first: Statistics, second: Statistics) -> float:
    """The squared 2-Wasserstein distance of the normal distributions with these statistics (Dowson and Landau 1982),
    `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`.

    Covariances may be singular, and rounding does not make the result negative.
    """
    # With S1 = A A^T, the eigenvalues of S1 S2 are those of A^T S2 A, which is symmetric and no larger than S1's rank:
    # no square root of a matrix that is not, no complex numbers.
    factor = _factor(first.covariance)
    eigenvalues = scipy.linalg.eigvalsh(factor.T @ second.covariance @ factor)
    root = np.sum(np.sqrt(np.maximum(eigenvalues, 0)))
    step = first.mean - second.mean
    return float(max(step @ step + np.trace(first.covariance) + np.trace(second.covariance) - 2 * root, 0))


def _factor(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d r"]:
    """A with `A A^T` the covariance, by Cholesky with pivots, many times as fast as by eigenvectors."""
    triangle, order, rank, _ = scipy.linalg.lapack.dpstrf(covariance, lower=1)
    factor = np.empty((len(covariance), rank))
    factor[order - 1] = np.tril(triangle)[:, :rank]
    return factor


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Total:
    """Of some clips."""

    predicted: Statistics
    true: Statistics
    clips: int


def _accumulate(clips: Iterable[ClipFeatures]) -> _Total:
    total = None
    for batch in _batches(clips):
        predicted, true = (Statistics.of(np.concatenate(features)) for features in zip(*batch, strict=True))
        if total is None:
            total = _Total(predicted=predicted, true=true, clips=len(batch))
        else:
            total = _Total(
                predicted=total.predicted + predicted, true=total.true + true, clips=total.clips + len(batch)
            )
    if total is None:
        raise ValueError("no clips given, expected one or more")
    return total


def _batches(clips: Iterable[ClipFeatures]) -> Iterator[list[ClipFeatures]]:
    """Clips that have as many features as dimensions: fewer (d, d) matrices to add up, in as much memory."""
    batch: list[ClipFeatures] = []
    dimensions = 0
    for number, clip in enumerate(clips):
        for features in clip:
            dimensions = dimensions or features.shape[-1]
            finite = int(np.isfinite(features).sum())
            if features.ndim != 2 or features.shape[1] != dimensions or not 0 < features.size == finite:
                raise ValueError(
                    f"clip {number}: features of shape {features.shape} given, {finite} of {features.size} finite, "
                    f"expected finite (n, {dimensions}) with n of 1 or more"
                )
        batch.append(clip)
        if sum(len(predicted) for predicted, _ in batch) >= dimensions:
            yield batch
            batch = []
    if batch:
        yield batch


def _jackknife(clips: Iterable[ClipFeatures], total: _Total, value: float) -> Interval:
    groups = min(total.clips, MAX_GROUPS)
    left, sizes = [], []
    for _, members in itertools.groupby(enumerate(clips), key=lambda clip: clip[0] * groups // total.clips):
        part = _accumulate(features for _, features in members)
        left.append(distance(total.predicted - part.predicted, total.true - part.true))
        sizes.append(part.clips)
    if sum(sizes) != total.clips:
        raise ValueError(
            f"{total.clips} clips given the first time and {sum(sizes)} the second, expected the same: give a function "
            "that starts anew each time"
        )
    # With groups of one size this is (groups - 1) / groups times the sum of squared deviations of `left`.
    h = total.clips / np.array(sizes)
    pseudo = h * value - (h - 1) * np.array(left)
    estimate = groups * value - np.sum((1 - 1 / h) * left)
    error = np.sqrt(np.mean((pseudo - estimate) ** 2 / (h - 1)))
    half = scipy.special.stdtrit(groups - 1, (1 + CONFIDENCE) / 2) * error
    return Interval(low=float(max(value - half, 0)), high=float(value + half))


def _warning(samples: int, dimensions: int, clips: int) -> str:
    reasons = []
    if samples <= dimensions:
        reasons.append(f"{samples} samples of {dimensions} dimensions: covariance singular, strong upward bias")
    elif samples < ENOUGH_PER_DIMENSION * dimensions:
        reasons.append(
            f"{samples} samples of {dimensions} dimensions, less than {ENOUGH_PER_DIMENSION} each: upward bias"
        )
    if clips < ENOUGH_CLIPS:
        reasons.append(f"{clips} clips, less than {ENOUGH_CLIPS}: uncertain interval")
    return "; ".join(reasons)
