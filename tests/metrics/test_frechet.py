"""The Fréchet distance against SciPy's matrix square root, closed forms, and its interval against simulation."""

import functools
import tracemalloc

import numpy as np
import pytest
import scipy.linalg

from aa_jax.metrics.frechet import FrechetDistance, Statistics, distance, frechet_distance


def with_square_root(a, b):
    """As the metric's published implementations compute it."""
    first, second = (np.atleast_2d(np.cov(side, rowvar=False)) for side in (a, b))
    root = scipy.linalg.sqrtm(first @ second)
    step = a.mean(axis=0) - b.mean(axis=0)
    return step @ step + np.trace(first) + np.trace(second) - 2 * np.trace(root).real


def features(n, d, seed, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((d, d)) / np.sqrt(d) + np.eye(d)
    return scale * rng.standard_normal((n, d)) @ mixing + shift


def of_moments(covariance):
    return Statistics(count=2, mean=np.zeros(len(covariance)), scatter=covariance)


def assert_same(a, b):
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(a.scatter, b.scatter, rtol=1e-10, atol=1e-9)


def test_statistics_add_and_subtract():
    """Far from the origin too, where sums of squares would lose digits."""
    a, b = features(70, 5, 0, shift=1e3), features(31, 5, 1, shift=1e3 + 7)
    whole = Statistics.of(np.concatenate([a, b]))
    np.testing.assert_allclose(whole.covariance, np.cov(np.concatenate([a, b]), rowvar=False), rtol=1e-9)
    assert_same(Statistics.of(a) + Statistics.of(b), whole)
    assert_same(whole - Statistics.of(b), Statistics.of(a))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 8), (500, 400, 64), (60, 60, 1)])
def test_equals_the_square_root(n, m, d):
    a, b = features(n, d, 0), features(m, d, 1, scale=1.3, shift=0.2)
    expected = with_square_root(a, b)
    np.testing.assert_allclose(distance(Statistics.of(a), Statistics.of(b)), expected, rtol=1e-9)
    np.testing.assert_allclose(distance(Statistics.of(b), Statistics.of(a)), expected, rtol=1e-9)


@pytest.mark.parametrize("smallest", [1e-2, 1e-8, 1e-14, 0.0])
def test_commuting_covariances(smallest):
    """The closed form, from well-conditioned to singular."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.standard_normal((100, 100)))
    first = np.geomspace(1, smallest or 1e-3, 100)
    if smallest == 0:
        first[60:] = 0
    second = first * rng.uniform(0.5, 2, 100)
    a, b = ((axes * values) @ axes.T for values in (first, second))
    expected = np.sum((np.sqrt(first) - np.sqrt(second)) ** 2)
    np.testing.assert_allclose(distance(of_moments(a), of_moments(b)), expected, rtol=1e-7)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 50), (20, 30), (41, 200)])
def test_fewer_samples_than_dimensions(n, m):
    """The nuclear norm of the product of the centred features, which needs no covariance at all."""
    a, b = features(n, 40, 0), features(m, 40, 1, shift=0.1)
    x, y = ((f - f.mean(axis=0)) / np.sqrt(len(f) - 1) for f in (a, b))
    step = a.mean(axis=0) - b.mean(axis=0)
    expected = step @ step + np.sum(x**2) + np.sum(y**2) - 2 * np.linalg.norm(x @ y.T, "nuc")
    np.testing.assert_allclose(distance(Statistics.of(a), Statistics.of(b)), expected, rtol=1e-9)


@pytest.mark.parametrize("n", [2, 10, 64, 65, 1000])
def test_identical_sets(n):
    statistics = Statistics.of(features(n, 64, 0))
    assert 0 <= distance(statistics, statistics) < 1e-9 * np.trace(statistics.covariance)


def test_features_without_variance():
    assert distance(of_moments(np.zeros((3, 3))), of_moments(np.diag([1.0, 2.0, 3.0]))) == 6
    assert distance(of_moments(np.zeros((3, 3))), of_moments(np.zeros((3, 3)))) == 0


def make_clips(count, d, per_clip, seed=0, shift=0.5):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 2 * per_clip, count) if per_clip > 1 else [1] * count
    clips = []
    for size in sizes:
        own, others = rng.standard_normal((2, 1, d))
        # Those of one clip resemble one another.
        true = own + rng.standard_normal((size, d))
        clips.append((1.2 * (others + rng.standard_normal((size, d))) + shift, true))
    return clips


def stacked(clips):
    return [np.concatenate(side) for side in zip(*clips, strict=True)]


def test_streamed_is_the_whole():
    clips = make_clips(23, 6, 5)
    predicted, true = stacked(clips)
    result = frechet_distance(lambda: iter(clips))
    np.testing.assert_allclose(result.value, with_square_root(predicted, true), rtol=1e-9)
    assert (result.predicted_samples, result.true_samples, result.clips) == (len(predicted), len(true), 23)
    assert result.dimensions == 6 and result.warning == ""


@pytest.mark.parametrize("count", [7, 40])
def test_interval_is_the_jackknifes(count):
    clips = make_clips(count, 4, 5)
    groups = min(count, 20)
    size = count // groups
    left = [with_square_root(*stacked(clips[: g * size] + clips[(g + 1) * size :])) for g in range(groups)]
    error = np.sqrt((groups - 1) / groups * np.sum((np.array(left) - np.mean(left)) ** 2))
    result = frechet_distance(lambda: clips)
    quantile = {7: 2.446912, 20: 2.093024}[groups]
    np.testing.assert_allclose(result.interval.high, result.value + quantile * error, rtol=1e-6)
    np.testing.assert_allclose(result.interval.low, max(result.value - quantile * error, 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "d", "per_clip"), [(20, 4, 4), (33, 4, 4), (8, 24, 2)], ids=["groups of 1", "of 1 and 2", "n < d"]
)
def test_interval_covers_the_expected_value(count, d, per_clip):
    results = [frechet_distance(functools.partial(make_clips, count, d, per_clip, seed)) for seed in range(150)]
    expected = np.mean([result.value for result in results])
    covered = np.mean([result.interval.low <= expected <= result.interval.high for result in results])
    assert covered >= 0.88, covered
    widths = np.array([np.diff(result.interval)[0] for result in results])
    # An interval of any width would cover.
    assert 3 < np.mean(widths) / np.std([result.value for result in results]) < 6.5


def test_bias_of_few_samples():
    """Equal distributions: far from 0 where a warning is given, and much less where none is."""
    few, some, enough = (frechet_distance(functools.partial(equal_clips, count)) for count in (4, 15, 400))
    assert few.value > 3 * some.value > 20 * enough.value > 0
    assert few.warning == (
        "16 samples of 16 dimensions: covariance singular, strong upward bias; "
        "4 clips, less than 10: uncertain interval"
    )
    assert some.warning == "60 samples of 16 dimensions, less than 5 each: upward bias"
    assert enough.warning == ""


def equal_clips(count):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((4, 16)), rng.standard_normal((4, 16))) for _ in range(count)]


@pytest.mark.parametrize(("clips", "has_interval"), [(1, False), (2, False), (3, True)])
def test_no_interval_of_one_or_two_clips(clips, has_interval):
    result = frechet_distance(lambda: equal_clips(clips))
    assert isinstance(result, FrechetDistance) and (result.interval is not None) == has_interval


def test_one_sample_a_clip():
    result = frechet_distance(lambda: make_clips(3, 5, 1))
    assert result.predicted_samples == 3 and np.isfinite(result.interval).all()


def test_memory_does_not_grow_with_clips():
    d = 96

    def peak(count):
        def clips():
            rng = np.random.default_rng(0)
            for _ in range(count):
                yield rng.standard_normal((8, d)), rng.standard_normal((8, d))

        tracemalloc.start()
        frechet_distance(clips)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(120) < 1.2 * peak(40) < 20 * 8 * d**2


GOOD = np.zeros((3, 4))


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "no clips given"),
        ([(GOOD[:1], GOOD[:1])], "one sample given, expected two or more"),
        ([(GOOD, GOOD), (GOOD[:0], GOOD)], r"clip 1: features of shape \(0, 4\) given, .* expected finite \(n, 4\)"),
        ([(GOOD, GOOD), (GOOD, GOOD[:, :3])], r"clip 1: features of shape \(3, 3\) given"),
        ([(GOOD + np.nan, GOOD)], r"clip 0: features of shape \(3, 4\) given, 0 of 12 finite"),
        ([(GOOD[0], GOOD)], r"clip 0: features of shape \(4,\) given"),
    ],
)
def test_wrong_features(clips, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(lambda: clips)


def test_clips_must_be_given_twice():
    clips = iter(equal_clips(5))
    with pytest.raises(ValueError, match="5 clips given the first time and 0 the second"):
        frechet_distance(lambda: clips)
