"""Temporal metrics against NumPy and SciPy in float64."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from aa_jax.metrics.temporal import (
    flicker,
    second_difference,
    visible_both_ways,
    visible_uncrowded,
    warping_error,
)

HEIGHT, WIDTH = 24, 32
SHAPE = (HEIGHT, WIDTH)


def random_clip(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE, 3), dtype=np.uint8)


def random_flow(count, scale, seed=1):
    return (scale * np.random.default_rng(seed).standard_normal((count, *SHAPE, 2))).astype(np.float32)


def look_up(image, flow):
    """(h, w, c) along (h, w, 2)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    places = [y + flow[..., 1], x + flow[..., 0]]
    return np.stack(
        [map_coordinates(channel, places, order=1, mode="nearest") for channel in image.T.swapaxes(1, 2)], -1
    )


def test_flicker_is_vbenchs():
    clip = random_clip(11)
    means = [
        np.mean(np.abs(after.astype(np.float32) - before)) for before, after in zip(clip[:-1], clip[1:], strict=True)
    ]
    np.testing.assert_allclose(flicker(clip), (255 - np.mean(means)) / 255, rtol=1e-6)
    assert flicker(np.repeat(clip[:1], 3, axis=0)) == 1
    black_and_white = np.zeros_like(clip)
    black_and_white[1::2] = 255
    assert flicker(black_and_white) == 0


def test_second_difference():
    predicted, true = random_clip(11), random_clip(11, seed=1) // 2
    energies = [np.mean((c[2:] - 2 * c[1:-1] + c[:-2]) ** 2) for c in (predicted.astype(float), true.astype(float))]
    np.testing.assert_allclose(second_difference(predicted, true), energies[0] / energies[1], rtol=1e-6)
    assert second_difference(true, true) == 1


def test_second_difference_of_even_motion():
    """Brightening by the same step from frame to frame is not uneven."""
    even = np.broadcast_to(np.arange(5, dtype=np.uint8)[:, None, None, None] * 10, (5, *SHAPE, 3))
    assert second_difference(random_clip(5), even) == np.inf
    assert second_difference(even, random_clip(5)) == 0
    assert np.isnan(second_difference(even, even))


def test_warping_error_is_scipys():
    clip, flow = random_clip(10), random_flow(9, scale=3.0)
    visible = np.random.default_rng(2).random(flow.shape[:3]) < 0.7
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    errors = []
    for first, second, f, v in zip(clip[:-1] / 255, clip[1:] / 255, flow.astype(np.float64), visible, strict=True):
        inside = (
            (x + f[..., 0] >= 0) & (x + f[..., 0] <= WIDTH - 1) & (y + f[..., 1] >= 0) & (y + f[..., 1] <= HEIGHT - 1)
        )
        errors.append(((look_up(second, f) - first) ** 2)[v & inside].mean())
    np.testing.assert_allclose(warping_error(clip, flow, visible), np.mean(errors), rtol=1e-5)


def test_warping_error_of_a_moving_picture_is_zero():
    """What leaves the image, and what enters it, does not count."""
    large = np.random.default_rng(0).integers(0, 256, (HEIGHT + 20, WIDTH + 20, 3), dtype=np.uint8)
    clip = np.stack([large[10 - 2 * t : 10 - 2 * t + HEIGHT, 3 * t : 3 * t + WIDTH] for t in range(4)])
    flow = np.broadcast_to(np.float32([-3, 2]), (3, *SHAPE, 2))
    visible = np.ones(flow.shape[:3], bool)
    assert warping_error(clip, flow, visible) < 1e-12
    assert warping_error(clip, -flow, visible) > 0.1


def test_pairs_without_a_visible_pixel_do_not_count():
    clip, flow = random_clip(3), np.zeros((2, *SHAPE, 2), np.float32)
    visible = np.ones(flow.shape[:3], bool)
    visible[1] = False
    np.testing.assert_allclose(warping_error(clip, flow, visible), warping_error(clip[:2], flow[:1], visible[:1]))
    assert np.isnan(warping_error(clip, flow, 0 * visible > 0))
    flow[0, 3, 4] = np.nan
    visible[0, 3, 4] = False
    expected = warping_error(clip[:2], np.nan_to_num(flow[:1]), visible[:1])
    np.testing.assert_allclose(warping_error(clip[:2], flow[:1], visible[:1]), expected)


def test_uncrowded_pixels_are_numpys():
    flow = random_flow(2, scale=2.0)
    for found, f in zip(visible_uncrowded(flow), flow.astype(np.float64), strict=True):
        received = np.zeros((HEIGHT + 40, WIDTH + 40))
        y, x = np.mgrid[20 : HEIGHT + 20, 20 : WIDTH + 20]
        row, column = y + f[..., 1], x + f[..., 0]
        for i, weight_i in ((0, 1 - row % 1), (1, row % 1)):
            for j, weight_j in ((0, 1 - column % 1), (1, column % 1)):
                at = (np.floor(row).astype(int) + i, np.floor(column).astype(int) + j)
                np.add.at(received, at, weight_i * weight_j)
        there = look_up(received[20:-20, 20:-20, None], f)[..., 0]
        clear = np.abs(there - 1.5) > 1e-4
        np.testing.assert_array_equal(found[clear], (there <= 1.5)[clear])
        assert 0.1 < found.mean() < 0.9


def test_what_a_moving_square_hides_is_crowded():
    flow = np.zeros((1, *SHAPE, 2), np.float32)
    flow[0, 8:16, 8:16] = 4, 0
    expected = np.ones(SHAPE, bool)
    # The background in front of it, and the part of the square that moves there.
    expected[8:16, 16:20] = False
    expected[8:16, 12:16] = False
    np.testing.assert_array_equal(visible_uncrowded(flow)[0], expected)


def test_visible_both_ways_is_the_formula():
    smooth = np.stack(np.meshgrid(np.linspace(-1, 2, WIDTH), np.linspace(-2, 1, HEIGHT)), axis=-1)
    flow = (smooth + random_flow(3, scale=0.02)).astype(np.float32)
    backward = (-smooth + random_flow(3, scale=0.5, seed=2)).astype(np.float32)
    for found, w, v in zip(visible_both_ways(flow, backward), flow.astype(float), backward.astype(float), strict=True):
        back = look_up(v, w)
        squared = (w**2).sum(-1)
        left = ((w + back) ** 2).sum(-1) - 0.01 * (squared + (back**2).sum(-1)) - 0.5
        down, right = np.zeros_like(w), np.zeros_like(w)
        down[:-1], right[:, :-1] = w[1:] - w[:-1], w[:, 1:] - w[:, :-1]
        slope = (down**2 + right**2).sum(-1) - 0.01 * squared - 0.002
        clear = (np.abs(left) > 1e-5) & (np.abs(slope) > 1e-5)
        np.testing.assert_array_equal(found[clear], ((left <= 0) & (slope <= 0))[clear])
        for reason in (left, slope):
            assert 0.02 < (reason > 0).mean() < 0.8


CLIP = np.zeros((3, 8, 8, 3), np.uint8)
FLOW = np.zeros((2, 8, 8, 2), np.float32)
VISIBLE = np.ones((2, 8, 8), bool)


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        (flicker, (CLIP[:1],), r"frames uint8 \(1, 8, 8, 3\) given, expected uint8 \(t, h, w, 3\) of 2 frames or more"),
        (flicker, (CLIP / 255,), "frames float64"),
        (second_difference, (CLIP[:2], CLIP[:2]), "of 3 frames or more"),
        (second_difference, (CLIP, CLIP[:, :4]), "expected one shape"),
        (warping_error, (CLIP, FLOW[:1], VISIBLE), r"flow \(1, 8, 8, 2\) and visible bool \(2, 8, 8\) given"),
        (
            warping_error,
            (CLIP, FLOW, 1.0 * VISIBLE),
            r"visible float64 .* expected \(2, 8, 8, 2\) and bool \(2, 8, 8\)",
        ),
        (visible_uncrowded, (FLOW[0],), r"flow \(8, 8, 2\) given, expected \(n, h, w, 2\)"),
        (visible_both_ways, (FLOW, FLOW[:1]), "expected one shape"),
    ],
)
def test_wrong_input(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments)
