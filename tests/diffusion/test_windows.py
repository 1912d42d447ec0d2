"""Window strategies: their promises for many lengths, and the published systems they stand for."""

import itertools
import json

import numpy as np
import pytest

from aa_jax.diffusion import Moore, Paper, Shifted, Triangular, Uniform, get_windows, moore_windows
from aa_jax.diffusion.windows import bit_reversed

STRATEGIES = (Uniform, Triangular, Shifted, Moore)
NUM_FRAMES = (1, 2, 3, 5, 7, 8, 9, 11, 12, 13, 16, 17, 20, 24, 25, 31, 40, 64, 100)


def plans():
    """Every strategy for many numbers of frames, window lengths and overlaps, 5 steps each."""
    for num_frames, length in itertools.product(NUM_FRAMES, (1, 2, 3, 7, 8, 24)):
        yield Paper(length=length), num_frames
        for overlap in {0, 1, length // 3, length // 2, length - 1}:
            if overlap < length:
                for strategy in STRATEGIES:
                    yield strategy(length=length, overlap=overlap), num_frames


def test_promises():
    """Indices in range, no frame twice in a window, every frame covered, weights that sum to one per frame and step."""
    for strategy, num_frames in plans():
        plan = strategy.plan(num_frames, 5)
        where = f"{strategy}, {num_frames} frames"
        assert plan.num_frames == num_frames, where
        assert plan.frames.dtype == np.int32 and plan.weights.dtype == np.float32, where
        assert plan.frames.shape == plan.weights.shape and plan.frames.shape[0] in (1, 5), where
        assert plan.frames.shape[2] == min(strategy.length, num_frames), where
        assert plan.frames.min() >= 0 and plan.frames.max() < num_frames, where
        assert plan.weights.min() >= 0, where
        for frames, weights in zip(plan.frames, plan.weights, strict=True):
            total = np.bincount(frames.ravel(), weights.ravel(), minlength=num_frames)
            np.testing.assert_allclose(total, 1, atol=1e-6, err_msg=where)
            assert all(len(set(window)) == len(window) for window in frames.tolist()), where


def test_open_ended_windows_are_consecutive_frames():
    for strategy, num_frames in plans():
        if not isinstance(strategy, Moore):
            frames = strategy.plan(num_frames, 5).frames
            assert np.all(np.diff(frames, axis=-1) == 1), strategy
            assert np.all(frames[:, 0, 0] == 0) and np.all(frames[:, -1, -1] == num_frames - 1), strategy


def test_a_short_video_is_one_window():
    for strategy in (Paper(), Uniform(), Triangular(), Shifted(), Moore()):
        for num_frames in (1, 5, 24):
            plan = strategy.plan(num_frames, 3)
            assert plan.frames.shape[1:] == (1, num_frames)
            assert np.all(plan.frames == np.arange(num_frames)) and np.all(plan.weights == 1)


def test_uniform():
    plan = Uniform(length=8, overlap=2).plan(17, 4)
    np.testing.assert_array_equal(plan.frames[0, :, 0], [0, 6, 9])
    weights = np.ones((3, 8))
    weights[0, 6:] = weights[1, :2] = weights[1, 3:] = weights[2, :5] = 1 / 2
    np.testing.assert_allclose(plan.weights[0], weights)


def test_triangular():
    plan = Triangular(length=4, overlap=2).plan(6, 4)
    np.testing.assert_array_equal(plan.frames[0], [[0, 1, 2, 3], [2, 3, 4, 5]])
    np.testing.assert_allclose(plan.weights[0], [[1, 1, 2 / 3, 1 / 3], [1 / 3, 2 / 3, 1, 1]], rtol=1e-6)


def test_paper_weights_are_the_earliest_window_outside_its_first_half():
    plan = Paper(length=4).plan(9, 4)
    np.testing.assert_array_equal(plan.frames[0, :, 0], [0, 2, 4, 5])
    np.testing.assert_array_equal(plan.weights[0], [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]])


def test_shifted_seams_move():
    """No frame but those at the ends is at the start of a window in all steps, and steps share their shape."""
    plan = Shifted(length=8, overlap=2).plan(40, 6)
    starts = plan.frames[:, :, 0]
    np.testing.assert_array_equal(starts[0], Uniform(length=8, overlap=2).plan(40, 6).frames[0, :, 0].tolist() + [32])
    assert np.all(plan.weights[0, -1] == 0)
    inner = [set(row[(row > 0) & (row < 32)]) for row in starts]
    assert not set.intersection(*inner)
    assert np.all(np.diff(starts, axis=1) <= 6)


def test_bit_reversed():
    assert [bit_reversed(step) for step in range(8)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]


def test_golden_context_windows(golden):
    path = golden / "tiny" / "context_windows.json"
    if not path.is_file():
        pytest.skip("context_windows.json is not there")
    rows = json.loads(path.read_text())
    assert len(rows) == 40
    for row in rows:
        windows = moore_windows(
            row["num_frames"],
            length=row["context_size"],
            overlap=row["context_overlap"],
            stride=row["context_stride"],
            step=row["step"],
        )
        assert windows == row["windows"]
        if row["step"] == 0 and row["context_stride"] == 1:
            plan = Moore(length=row["context_size"], overlap=row["context_overlap"]).plan(row["num_frames"], 7)
            assert plan.frames.tolist() == [row["windows"]]


@pytest.mark.parametrize(
    ("num_frames", "starts"),
    [(25, [0, 20]), (40, [0, 20]), (44, [0, 20, 40]), (64, [0, 20, 40, 60]), (100, [0, 20, 40, 60, 80])],
)
def test_moore_starts(num_frames, starts):
    plan = Moore().plan(num_frames, 30)
    assert plan.frames[0, :, 0].tolist() == starts
    assert plan.frames[0, -1, -1] == (starts[-1] + 23) % num_frames < starts[-1]  # It wraps.


def test_moore_starts_of_later_steps():
    starts = [[window[0] for window in moore_windows(64, length=24, overlap=4, step=step)] for step in range(4)]
    assert starts == [[0, 20, 40, 60], [32, 52, 8, 28], [16, 36, 56, 12], [48, 4, 24, 44]]


def test_moore_open_ended():
    windows = moore_windows(44, length=24, overlap=4, closed_loop=False)
    assert [(window[0], window[-1]) for window in windows] == [(0, 23), (20, 43)]


def test_moore_weights_are_a_mean_by_count():
    plan = Moore(length=8, overlap=4).plan(13, 3)
    count = np.bincount(plan.frames.ravel(), minlength=13)
    np.testing.assert_allclose(plan.weights, 1 / count[plan.frames])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("paper", {}, Paper(length=24)),
        ("paper", {"length": 16, "overlap": 8}, Paper(length=16)),
        ("uniform", {}, Uniform(length=24, overlap=4)),
        ("triangular", {}, Triangular(length=24, overlap=12)),
        ("shifted", {"length": 16, "overlap": 3}, Shifted(length=16, overlap=3)),
        ("moore", {}, Moore(length=24, overlap=4)),
        ("moore", {"length": 1}, Moore(length=1, overlap=0)),
    ],
)
def test_names(name, options, expected):
    assert get_windows(name, **options) == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("even", {}, "windows is 'even', expected one of paper, uniform, triangular, shifted, moore"),
        ("paper", {"overlap": 4}, r"overlap is 4, but windows 'paper' overlap by half their length \(12 of 24\)"),
        (
            "uniform",
            {"length": 8, "overlap": 8},
            r"Uniform.overlap is 8, expected 0 to 7 \(below the length 8\)",
        ),
        ("moore", {"overlap": -1}, "Moore.overlap is -1, expected 0 to 23"),
        ("shifted", {"length": 0}, "Shifted.length is 0, expected 1 frame or more"),
        ("paper", {"length": 0}, "Paper.length is 0, expected 1 frame or more"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        get_windows(name, **options)


@pytest.mark.parametrize(
    "strategy", [Paper(), Uniform(), Triangular(), Shifted(), Moore()], ids=lambda s: type(s).__name__
)
def test_no_frames(strategy):
    with pytest.raises(ValueError, match="num_frames is 0, expected 1 or more"):
        strategy.plan(0, 4)
