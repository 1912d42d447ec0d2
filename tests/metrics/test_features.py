"""Preprocessing against Pillow and PyTorch as the published pipelines call them, and windows against slicing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from aa_jax.metrics.features import frame_features, window_features
from aa_jax.metrics.weights import MetricNetwork
from tests.metrics.oracles import pillow_bicubic

SIZES = {"i3d": 224, "resnet3d": 112}
# Of 255, for pixels of float32.
TOLERANCE = 2e-4


def network(kind: str, apply) -> MetricNetwork:
    return MetricNetwork(kind=kind, apply=apply, sha256="", sources={})


def pixels(kind: str) -> MetricNetwork:
    """A network whose features are all that it is given."""
    return network(kind, lambda x: x.reshape(len(x), -1))


def clip(frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def torch_bilinear(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """In float64: in float32 PyTorch's places are off by up to 1e-4 of a pixel, in frames of a thousand."""
    first = torch.from_numpy(frames).movedim(-1, 1).double()
    return F.interpolate(first, size, mode="bilinear", align_corners=False).movedim(1, -1).numpy()


@pytest.mark.parametrize(("height", "width"), [(299, 299), (300, 200), (97, 411), (640, 333)])
def test_frames_as_pytorch_fid_resizes_them(height, width):
    frames = clip(2, height, width)
    got = frame_features(pixels("inception"), frames)
    np.testing.assert_allclose(got, torch_bilinear(frames, (299, 299)).reshape(2, -1), atol=TOLERANCE)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(("height", "width"), [(256, 256), (301, 200), (64, 415), (112, 224)])
def test_windows_as_disco_resizes_them(kind, height, width):
    frames = clip(16, height, width)
    got = window_features(pixels(kind), frames).reshape(16, SIZES[kind], SIZES[kind], 3)
    expected = pillow_bicubic(frames[5], SIZES[kind])
    np.testing.assert_allclose(got[5], expected, atol=TOLERANCE)


def test_bicubic_overshoot_is_kept():
    frames = np.zeros((16, 112, 112, 3), np.uint8)
    frames[:, :, 56:] = 255
    got = window_features(pixels("i3d"), frames)
    assert got.min() < -5 and got.max() > 260


@pytest.mark.parametrize(
    ("height", "width", "resized", "top", "left"),
    [
        (300, 201, (335, 224), 55, 0),
        (201, 300, (224, 335), 0, 55),
        (448, 448, (224, 224), 0, 0),
        (100, 640, (224, 1434), 0, 605),
    ],
)
def test_windows_cropped_as_videogpt_does(height, width, resized, top, left):
    frames = clip(16, height, width)
    got = window_features(pixels("i3d"), frames, resize="bilinear_crop").reshape(16, 224, 224, 3)
    expected = torch_bilinear(frames[:1], resized)[0, top : top + 224, left : left + 224]
    np.testing.assert_allclose(got[0], expected, atol=TOLERANCE)


@pytest.mark.parametrize("stride", [1, 3, 16, 20])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_windows_are_all_and_in_order(stride, batch_size):
    """Each feature is its window's grey levels, which number the frames."""
    frames = np.broadcast_to(np.arange(45, dtype=np.uint8)[:, None, None, None], (45, 8, 8, 3))
    got = window_features(
        network("resnet3d", lambda x: x.mean((2, 3, 4))), frames, stride=stride, batch_size=batch_size
    )
    expected = [range(start, start + 16) for start in range(0, 45 - 15, stride)]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_memory_is_that_of_a_batch():
    """A clip of 2,000 frames, whose windows would take 19 GB."""
    alive = []

    def apply(x):
        alive.append(sum(array.nbytes for array in jax.live_arrays()))
        return jnp.zeros((len(x), 1))

    window_features(network("resnet3d", apply), clip(2000, 4, 4), stride=16, batch_size=2)
    assert len(alive) == 63
    assert max(alive[1:]) < alive[0] + 2 * 16 * 112 * 112 * 3 * 4


def test_frames_in_batches():
    sizes = []

    def apply(x):
        sizes.append(len(x))
        return x.mean((1, 2))

    frames = clip(9, 20, 30)
    got = frame_features(network("inception", apply), frames, batch_size=4)
    assert sizes == [4, 4, 1]
    np.testing.assert_allclose(got, torch_bilinear(frames, (299, 299)).mean((1, 2)), atol=TOLERANCE)


def test_refusals():
    i3d = pixels("i3d")
    with pytest.raises(ValueError, match="clip of 15 frames given, expected 16 or more"):
        window_features(i3d, clip(15, 8, 8))
    with pytest.raises(ValueError, match="stride 0 given"):
        window_features(i3d, clip(16, 8, 8), stride=0)
    with pytest.raises(ValueError, match="resize 'crop' given, expected one of bicubic_stretch, bilinear_crop"):
        window_features(i3d, clip(16, 8, 8), resize="crop")
    with pytest.raises(ValueError, match="kind i3d given, expected inception"):
        frame_features(i3d, clip(1, 8, 8))
    with pytest.raises(ValueError, match="kind inception given, expected i3d or resnet3d"):
        window_features(pixels("inception"), clip(16, 8, 8))
    with pytest.raises(ValueError, match=r"shape \(8, 8, 3\) and dtype uint8 given, expected uint8 \(t, h, w, 3\)"):
        window_features(i3d, clip(1, 8, 8)[0])
