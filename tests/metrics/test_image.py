"""Frame metrics against scikit-image, OpenCV and NumPy in float64."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from aa_jax.metrics import image
from aa_jax.metrics.image import l1, l1_disco, psnr, psnr_uint8_overflow, ssim, ssim_gaussian, to_gray

HEIGHT, WIDTH = 40, 56


def as_frame(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def picture(rng, height=HEIGHT, width=WIDTH):
    """Smooth, with all brightnesses."""
    blurred = cv2.GaussianBlur(rng.random((height, width, 3)), (0, 0), 3)
    return as_frame(255 * (blurred - blurred.min()) / np.ptp(blurred))


@pytest.fixture(scope="module")
def clips():
    """Predicted and true frames, from nearly identical to unrelated, and flat ones."""
    rng = np.random.default_rng(0)
    true = picture(rng)
    noise = rng.standard_normal(true.shape)
    white, black = np.full_like(true, 255), np.zeros_like(true)
    almost = white.copy()
    almost[20, 20] = 254
    halves = np.where(np.arange(WIDTH)[:, None] < WIDTH // 2, white, black)
    pairs = [
        *((as_frame(true + scale * noise), true) for scale in (0.3, 1, 4, 16, 64)),
        (true, true), (picture(rng), true), (255 - true, true), (true[::-1], true), (true, white), (almost, white),
        (white - 1, white), (black, white), (255 - halves, halves), (np.maximum(halves, 1), halves),
    ]  # fmt: skip
    predicted, true = (np.stack(frames) for frames in zip(*pairs, strict=True))
    return predicted, true


def gray(frame):
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def disco_ssim(predicted, true):
    return structural_similarity(gray(predicted), gray(true))


def wang_ssim(predicted, true):
    return structural_similarity(
        predicted, true, gaussian_weights=True, use_sample_covariance=False, data_range=255, channel_axis=-1
    )


@pytest.mark.parametrize(("metric", "reference"), [(ssim, disco_ssim), (ssim_gaussian, wang_ssim)])
def test_ssim_is_scikit_images(clips, metric, reference):
    found = metric(*clips)
    expected = np.array([reference(predicted, true) for predicted, true in zip(*clips, strict=True)])
    assert found.shape == (len(expected),) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[5] == 1


@pytest.mark.parametrize(("metric", "reference"), [(ssim, disco_ssim), (ssim_gaussian, wang_ssim)])
def test_ssim_of_bright_flat_images(metric, reference):
    """Variances below 1 at a brightness of 250: as differences of squares in float32 they would be off by a percent."""
    predicted, true = np.random.default_rng(5).integers(249, 252, (2, 4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    lacking = 1 - np.array([reference(*pair) for pair in zip(predicted, true, strict=True)])
    np.testing.assert_allclose(1 - metric(predicted, true).astype(np.float64), lacking, rtol=1e-4)


def test_gray_is_opencvs_for_all_colours():
    levels = np.arange(256, dtype=np.uint8)
    to_gray_on_device = jax.jit(to_gray)
    for red in range(0, 256, 16):
        colours = np.stack(np.meshgrid(levels[red : red + 16], levels, levels, indexing="ij"), axis=-1)
        colours = colours.reshape(1024, 1024, 3)
        np.testing.assert_array_equal(to_gray_on_device(colours), gray(colours))


def test_psnr(clips):
    predicted, true = clips
    errors = ((predicted.astype(np.float64) - true) ** 2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        expected = np.where(errors == 0, 100, 10 * np.log10(255**2 / errors))
    np.testing.assert_allclose(psnr(predicted, true), expected, rtol=1e-6, atol=1e-5)
    assert psnr(predicted, true)[5] == 100


def test_psnr_of_masked_pixels(clips):
    predicted, true = clips
    mask = np.random.default_rng(1).random(true.shape[:3]) < 0.3
    mask[4] = False
    found = psnr(predicted, true, mask)
    for index in (0, 2, 6, 12):
        error = (predicted[index][mask[index]].astype(np.float64) - true[index][mask[index]]) ** 2
        np.testing.assert_allclose(found[index], 10 * np.log10(255**2 / error.mean()), rtol=1e-6, atol=1e-5)
    assert np.isnan(found[4]) and np.isfinite(np.delete(found, 4)).all()
    np.testing.assert_allclose(psnr(predicted, true, np.ones_like(mask)), psnr(predicted, true))


def test_overflow_is_numpys(clips):
    predicted, true = clips
    for found, a, b in zip(psnr_uint8_overflow(predicted, true), predicted, true, strict=True):
        error = np.mean((a - b) ** 2)
        np.testing.assert_allclose(found, 100 if error == 0 else 10 * np.log10(255**2 / error), rtol=1e-6)
    sixteen = np.full((1, 8, 8, 3), 16, np.uint8)
    assert psnr_uint8_overflow(sixteen, 0 * sixteen) == 100


@pytest.mark.parametrize(
    ("expected", "with_overflow"),
    [(47.4, 47.4), (36.1, 36.1), (30.1, 31.2), (26.5, 29.7), (24.1, 29.1), (20.6, 28.5), (18.2, 28.2), (15.1, 28.0),
     (10.9, 28.0)],
)  # fmt: skip
def test_what_the_overflow_makes_of_noise(expected, with_overflow):
    rng = np.random.default_rng(2)
    true = rng.integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    noise = rng.standard_normal(true.shape)
    low, high = 0.1, 300.0
    for _ in range(20):
        middle = (low + high) / 2
        predicted = as_frame(true + middle * noise)
        low, high = (middle, high) if psnr(predicted, true)[0] > expected else (low, middle)
    assert abs(psnr(predicted, true)[0] - expected) < 0.05
    assert abs(psnr_uint8_overflow(predicted, true)[0] - with_overflow) < 0.15


def test_what_the_overflow_makes_of_unrelated_images():
    predicted, true = np.random.default_rng(3).integers(0, 256, (2, 1, 128, 128, 3), dtype=np.uint8)
    assert abs(psnr(predicted, true)[0] - 7.7) < 0.1 and abs(psnr_uint8_overflow(predicted, true)[0] - 27.9) < 0.1


def test_l1(clips):
    predicted, true = clips
    difference = np.abs(predicted.astype(np.float64) - true)
    np.testing.assert_allclose(l1(predicted, true), difference.mean(axis=(1, 2, 3)) / 255, rtol=1e-6)
    as_disco = [(frame / (HEIGHT * WIDTH)).mean() for frame in difference]
    np.testing.assert_allclose(l1_disco(predicted, true), as_disco, rtol=1e-6)


def test_sums_of_large_frames_are_not_rounded():
    """In float32 a sum of 2^24 does not change any more when 1 is added."""
    values = jnp.ones((4100, 4100, 1), jnp.int32).at[0].set(2**18)
    expected = (4100 * 2**18 + 4099 * 4100) / 4100**2
    np.testing.assert_allclose(image.exact_mean(values), expected, rtol=1e-6)


@pytest.mark.parametrize("metric", [psnr, psnr_uint8_overflow, l1, l1_disco, ssim, ssim_gaussian])
def test_arrays_of_both_kinds_and_each_frame_for_itself(clips, metric):
    predicted, true = (frames[:9] for frames in clips)
    whole = metric(predicted, true)
    np.testing.assert_array_equal(metric(jnp.asarray(predicted), jnp.asarray(true)), whole)
    for index in (0, 8):
        one = slice(index, index + 1)
        np.testing.assert_array_equal(metric(predicted[one], true[one]), whole[one])


def test_one_program_for_clips_of_all_lengths():
    traces = []

    def of_frame(frame):
        traces.append(frame)
        return jnp.max(frame)

    for length in (1, 7, 8, 9, 40):
        frames = np.arange(length * 4, dtype=np.uint8).reshape(length, 2, 2)
        np.testing.assert_array_equal(image.each_frame(of_frame, frames), frames.max(axis=(1, 2)))
    assert len(traces) == 1


FRAMES = np.zeros((2, 12, 12, 3), np.uint8)


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        (psnr, (FRAMES, FRAMES[:1]), r"predicted frames uint8 \(2, 12, 12, 3\) and true frames uint8 \(1, 12, 12, 3\)"),
        (l1, (FRAMES.astype(np.float32), FRAMES), "predicted frames float32 .* expected uint8"),
        (ssim, (FRAMES[0], FRAMES[0]), r"expected uint8 \(t, h, w, 3\) of one shape"),
        (l1_disco, (FRAMES[:0], FRAMES[:0]), "expected a frame or more"),
        (l1_disco, (FRAMES[0, 0], FRAMES[0, 0]), "expected uint8"),
        (ssim, (FRAMES[:, :6], FRAMES[:, :6]), "7x7 pixels or more"),
        (ssim_gaussian, (FRAMES[:, :, :10], FRAMES[:, :, :10]), "11x11 pixels or more"),
        (psnr, (FRAMES, FRAMES, FRAMES[..., 0]), r"mask uint8 \(2, 12, 12\) given .* expected bool \(2, 12, 12\)"),
        (psnr, (FRAMES, FRAMES, FRAMES > 0), r"mask bool \(2, 12, 12, 3\) given"),
    ],
)
def test_wrong_input(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments)
