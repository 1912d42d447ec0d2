"""Bootstrap intervals against SciPy's and against simulation."""

import numpy as np
import pytest
import scipy.stats

from aa_jax.metrics.interval import Interval, difference_interval, mean_interval


def skewed(n, seed=0):
    return np.random.default_rng(seed).gamma(1.5, size=n)


@pytest.mark.parametrize("scores", [skewed(8), skewed(200), np.exp(2 * skewed(12))], ids=["few", "many", "skewed"])
def test_is_scipys_bca(scores):
    expected = scipy.stats.bootstrap((scores,), np.mean, method="BCa", n_resamples=20_000, rng=1).confidence_interval
    found = mean_interval(scores, seed=2, resamples=20_000)
    np.testing.assert_allclose(found, expected, atol=0.02 * (expected.high - expected.low))


@pytest.mark.parametrize(("n", "least"), [(10, 0.86), (60, 0.91)])
@pytest.mark.parametrize("draw", [np.random.Generator.standard_normal, np.random.Generator.standard_exponential])
def test_coverage(n, least, draw):
    rng = np.random.default_rng(0)
    mean = 0.0 if draw is np.random.Generator.standard_normal else 1.0
    least -= 0.04 * mean * (n == 10)
    intervals = [mean_interval(draw(rng, n), seed=seed, resamples=250) for seed in range(300)]
    covered = np.mean([low <= mean <= high for low, high in intervals])
    assert least <= covered <= 0.97, covered


def test_paired_difference_sees_what_clips_have_in_common():
    rng = np.random.default_rng(0)
    hardness = 10 * rng.standard_normal(30)
    scores, others = hardness + 0.5 + 0.3 * rng.standard_normal(30), hardness + 0.3 * rng.standard_normal(30)
    low, high = difference_interval(scores, others)
    assert 0 < low < 0.5 < high < 1
    assert mean_interval(scores).low < mean_interval(others).high
    np.testing.assert_allclose(difference_interval(others, scores), (-high, -low), atol=0.03)
    assert difference_interval(scores, others) == mean_interval(scores - others)


def test_seeded():
    scores = skewed(20)
    assert mean_interval(scores) == mean_interval(list(scores)) == mean_interval(scores, seed=0)
    assert mean_interval(scores) != mean_interval(scores, seed=1)


def test_the_interval_moves_and_scales_with_the_scores():
    scores = skewed(20)
    np.testing.assert_allclose(mean_interval(1000 + 3 * scores), 1000 + 3 * np.array(mean_interval(scores)))


def test_equal_scores_and_single_clips():
    assert mean_interval(np.full(5, 0.25)) == Interval(0.25, 0.25)
    assert mean_interval(np.array([0.25])) is None


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], r"scores of shape \(0,\), 0 of 0 finite, given"),
        ([1.0, np.nan, 2.0], "2 of 3 finite"),
        (np.ones((3, 2)), r"scores of shape \(3, 2\)"),
    ],
)
def test_wrong_scores(scores, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(scores)


def test_scores_of_different_clips():
    with pytest.raises(ValueError, match=r"scores of shapes \(3,\) and \(2,\) given"):
        difference_interval(np.ones(3), np.ones(2))
