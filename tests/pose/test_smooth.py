"""Smoothing and filling: against SciPy, against the filter's own definition, and by its properties."""

import dataclasses
import math

import numpy as np
import pytest

from aa_jax.pose import Keypoints
from aa_jax.pose.smooth import fill_gaps, one_euro, savitzky_golay
from tests.pose.clips import hide, make_clip


def make_noise(frames: int = 40, **fields) -> Keypoints:
    """Every point of every frame anywhere."""
    rng = np.random.default_rng(0)
    points, scores = rng.random((frames, 134, 2)), rng.uniform(0.4, 1, (frames, 134))
    return Keypoints(points=points, scores=scores, height=600, width=400, fps=25, **fields)


def polynomial(frames: int, degree: int) -> Keypoints:
    times = np.linspace(-1, 1, frames)
    weights = np.random.default_rng(0).normal(0, 0.2, (degree + 1, 134, 2))
    points = 0.5 + np.einsum("tn,npc->tpc", times[:, None] ** np.arange(degree + 1), weights)
    return Keypoints(points=points, scores=np.ones((frames, 134)), height=600, width=400, fps=25)


FILTERS = {
    "savitzky_golay": savitzky_golay,
    "one_euro": one_euro,
    "one_euro, slow": lambda keypoints: one_euro(keypoints, beta=0),
    "fill_gaps": lambda keypoints: fill_gaps(keypoints, max_gap=3),
}
SMOOTHERS = {name: function for name, function in FILTERS.items() if name != "fill_gaps"}


@pytest.mark.parametrize(("window", "order"), [(5, 2), (7, 2), (9, 3), (11, 0), (3, 1), (5, 4), (1, 0), (31, 5)])
@pytest.mark.parametrize("frames", [31, 40])
def test_savitzky_golay_is_scipys(window, order, frames):
    signal = pytest.importorskip("scipy.signal")
    clip = make_noise(frames)
    expected = signal.savgol_filter(clip.points.astype(np.float64), window, order, axis=0, mode="interp")
    np.testing.assert_allclose(savitzky_golay(clip, window=window, order=order).points, expected, atol=2e-7)


def test_savitzky_golay_smooths_each_run_alone_as_scipy_does():
    signal = pytest.importorskip("scipy.signal")
    clip = hide(make_noise(40), 15, 3)
    smooth = savitzky_golay(clip, window=7, order=2)
    for run in (slice(0, 15), slice(16, 40)):
        expected = signal.savgol_filter(clip.points[run, 3].astype(np.float64), 7, 2, axis=0)
        np.testing.assert_allclose(smooth.points[run, 3], expected, atol=2e-7)


@pytest.mark.parametrize("length", range(1, 9))
def test_runs_shorter_than_the_window(length):
    """Their window is their own length, odd; what is too short for the order stays."""
    signal = pytest.importorskip("scipy.signal")
    clip = make_noise(length)
    window = min(7, length if length % 2 else length - 1)
    expected = clip.points if window <= 2 else signal.savgol_filter(clip.points.astype("f8"), window, 2, axis=0)
    np.testing.assert_allclose(savitzky_golay(clip, window=7, order=2).points, expected, atol=2e-7)


@pytest.mark.parametrize("order", range(5))
def test_savitzky_golay_keeps_polynomials(order):
    clip = polynomial(30, order)
    np.testing.assert_allclose(savitzky_golay(clip, window=9, order=order).points, clip.points, atol=1e-6)
    if order:
        assert np.abs(savitzky_golay(clip, window=9, order=order - 1).points - clip.points).max() > 1e-4


def test_savitzky_golay_is_the_same_backwards():
    clip = make_noise()
    backwards = dataclasses.replace(clip, points=clip.points[::-1], scores=clip.scores[::-1])
    np.testing.assert_allclose(savitzky_golay(backwards).points[::-1], savitzky_golay(clip).points, atol=2e-7)


def definition(values: np.ndarray, rate: float, min_cutoff: float, beta: float, d_cutoff: float) -> list[float]:
    """Algorithm 1 of the paper, for one number at a time."""

    def alpha(cutoff: float) -> float:
        return 1 / (1 + 1 / (2 * math.pi * cutoff) * rate)

    filtered, speed = [float(values[0])], 0.0
    for value in values[1:].tolist():
        speed = alpha(d_cutoff) * (value - filtered[-1]) * rate + (1 - alpha(d_cutoff)) * speed
        weight = alpha(min_cutoff + beta * abs(speed))
        filtered.append(weight * value + (1 - weight) * filtered[-1])
    return filtered


@pytest.mark.parametrize("parameters", [(1.0, 0.0, 1.0), (1.0, 10.0, 1.0), (0.3, 0.7, 2.0)])
def test_one_euro_is_its_definition(parameters):
    clip = make_noise(20)
    smooth = one_euro(clip, **dict(zip(("min_cutoff", "beta", "d_cutoff"), parameters, strict=True)))
    for point in (0, 17, 133):
        for axis, unit in ((0, 400 / 600), (1, 1.0)):  # lengths are in image heights
            expected = definition(clip.points[:, point, axis].astype("f8") * unit, 25, *parameters)
            np.testing.assert_allclose(smooth.points[:, point, axis] * unit, expected, atol=2e-7)


def test_one_euro_is_causal_and_begins_anew_after_a_gap():
    clip = hide(make_noise(30), 12, slice(None))
    first = dataclasses.replace(clip, points=clip.points[:20], scores=clip.scores[:20])
    np.testing.assert_array_equal(one_euro(first).points, one_euro(clip).points[:20])
    rest = dataclasses.replace(clip, points=clip.points[13:], scores=clip.scores[13:])
    np.testing.assert_array_equal(one_euro(rest).points, one_euro(clip).points[13:])


def test_one_euro_stays_between_what_it_has_seen():
    clip = make_noise(50)
    smooth = one_euro(clip).points
    assert (smooth <= np.maximum.accumulate(clip.points) + 1e-6).all()
    assert (smooth >= np.minimum.accumulate(clip.points) - 1e-6).all()


def test_beta_lags_less():
    ramp = polynomial(60, 1)
    slow, fast = (np.abs(one_euro(ramp, beta=beta).points - ramp.points)[-1].mean() for beta in (0.0, 50.0))
    assert fast < slow / 3


def test_jitter_is_reduced():
    """Savitzky-Golay: of a moving person. One-Euro: at rest, and in motion it is hardly farther off than the jitter."""
    moving = make_clip(80, fps=30)
    resting = dataclasses.replace(moving, points=np.broadcast_to(moving.points[:1], moving.points.shape))

    def error(clean: Keypoints, smoother) -> float:
        noise = np.random.default_rng(0).normal(0, 0.003, clean.points.shape)
        noisy = dataclasses.replace(clean, points=clean.points + noise)
        return float((smoother(noisy).points - clean.points).std() / noise.std())

    assert error(moving, savitzky_golay) < 0.7 and error(resting, savitzky_golay) < 0.7
    assert error(resting, one_euro) < 0.7 and error(moving, one_euro) < 1.3
    assert error(resting, FILTERS["one_euro, slow"]) < 0.4


@pytest.mark.parametrize("function", FILTERS.values(), ids=FILTERS)
def test_properties_of_all(function):
    """A still person stays, places and sizes follow the input's, hidden points stay, and the input is left alone."""
    clip = make_noise(20)
    clip = hide(clip, slice(5, 11), 4)
    still = dataclasses.replace(clip, points=np.broadcast_to(clip.points[:1], clip.points.shape))
    np.testing.assert_allclose(function(still).points, still.points, atol=1e-6)

    before = clip.points.copy(), clip.scores.copy()
    result = function(clip)
    np.testing.assert_array_equal(before[0], clip.points)
    np.testing.assert_array_equal(before[1], clip.scores)
    np.testing.assert_array_equal(result.points[5:11, 4], clip.points[5:11, 4])
    np.testing.assert_array_equal(result.scores, clip.scores)
    assert (result.height, result.width, result.fps) == (600, 400, 25)

    moved = dataclasses.replace(clip, points=clip.points + np.array([0.3, -0.2]))
    np.testing.assert_allclose(function(moved).points, result.points + np.array([0.3, -0.2]), atol=1e-5)


@pytest.mark.parametrize("function", SMOOTHERS.values(), ids=SMOOTHERS)
def test_hidden_points_have_no_influence(function):
    clip = hide(make_noise(20), slice(5, 8), slice(None))
    other = clip.points.copy()
    other[5:8] = 9
    changed = function(dataclasses.replace(clip, points=other)).points
    np.testing.assert_array_equal(np.delete(changed, [5, 6, 7], 0), np.delete(function(clip).points, [5, 6, 7], 0))


def test_gaps_of_a_straight_way_are_filled_exactly():
    clip = polynomial(20, 1)
    for start, length in ((4, 1), (8, 3), (14, 2)):
        holed = hide(clip, slice(start, start + length), slice(None))
        points = holed.points.copy()
        points[start : start + length] = 0
        filled = fill_gaps(dataclasses.replace(holed, points=points), max_gap=3)
        np.testing.assert_allclose(filled.points, clip.points, atol=1e-6)
        np.testing.assert_array_equal(filled.scores, clip.scores)


def test_long_gaps_and_ends_stay():
    clip = make_noise(20)
    for frames in (slice(8, 12), slice(0, 2), slice(18, 20)):
        holed = hide(clip, frames, slice(None))
        filled = fill_gaps(holed, max_gap=3)
        np.testing.assert_array_equal(filled.scores, holed.scores)
        np.testing.assert_array_equal(filled.points, holed.points)
    assert fill_gaps(hide(clip, slice(8, 12), slice(None)), max_gap=4).scores.all()
    nothing = hide(clip, slice(None), slice(None))
    np.testing.assert_array_equal(fill_gaps(nothing, max_gap=3).scores, nothing.scores)


def test_filled_points_are_visible_and_the_others_untouched():
    clip = make_noise(30)
    scores = np.where(np.random.default_rng(0).random((30, 134)) < 0.3, 0.1, clip.scores)
    holed = dataclasses.replace(clip, scores=scores)
    filled = fill_gaps(holed, max_gap=2)
    seen = scores >= 0.3
    np.testing.assert_array_equal(filled.points[seen], holed.points[seen])
    np.testing.assert_array_equal(filled.scores[seen], holed.scores[seen])
    changed = (filled.scores != holed.scores) & ~seen
    assert changed.any() and (filled.scores[changed] >= 0.3).all()


BAD = {
    "max_gap": (lambda clip: fill_gaps(clip, max_gap=0), "max_gap 0 given"),
    "half a frame": (lambda clip: fill_gaps(clip, max_gap=1.5), "max_gap 1.5 given"),
    "even window": (lambda clip: savitzky_golay(clip, window=6), "window 6 given, expected an odd"),
    "no window": (lambda clip: savitzky_golay(clip, window=-1), "window -1 given"),
    "order": (lambda clip: savitzky_golay(clip, window=5, order=5), "order 5 given, expected .* from 0 to 4"),
    "min_cutoff": (lambda clip: one_euro(clip, min_cutoff=0), "min_cutoff 0 given"),
    "d_cutoff": (lambda clip: one_euro(clip, d_cutoff=float("nan")), "d_cutoff nan given"),
    "beta": (lambda clip: one_euro(clip, beta=-1), "beta -1 given"),
    "fps": (lambda clip: one_euro(dataclasses.replace(clip, fps=None)), "without fps given"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_noise(5))
