"""LPIPS of clips: what the network is given, batch by batch, and what is refused."""

import numpy as np
import pytest

from aa_jax.metrics.lpips import lpips
from aa_jax.metrics.weights import MetricNetwork


def network(apply=None, kind: str = "lpips-vgg") -> MetricNetwork:
    """By default the mean of the first image less twice the second's largest value."""
    return MetricNetwork(
        kind=kind,
        apply=apply or (lambda one, other: one.mean((1, 2, 3)) - 2 * other.max((1, 2, 3))),
        sha256="",
        sources={},
    )


def clips(frames: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, 256, (2, frames, 5, 4, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("options", "scale", "shift"),
    [({}, 127.5, 1.0), ({"pixel_range": "signed"}, 127.5, 1.0), ({"pixel_range": "unit"}, 255, 0.0)],
)
@pytest.mark.parametrize("frames", [1, 4, 7])
def test_pixel_ranges_in_batches(options, scale, shift, frames):
    one, other = clips(frames)
    expected = (one / scale - shift).mean((1, 2, 3)) - 2 * (other / scale - shift).max((1, 2, 3))
    got = lpips(network(), one, other, batch_size=3, **options)
    assert got.shape == (frames,) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_never_more_than_a_batch_at_a_time():
    sizes = []

    def apply(one, other):
        sizes.append(len(one))
        return one.mean((1, 2, 3))

    lpips(network(apply), *clips(8), batch_size=3)
    assert sizes == [3, 3, 1, 1]


def test_refusals():
    one, other = clips(3)
    with pytest.raises(ValueError, match="kind inception given, expected lpips-alex or lpips-vgg"):
        lpips(network(kind="inception"), one, other)
    with pytest.raises(ValueError, match="pixel_range 'disco' given, expected one of signed, unit"):
        lpips(network(), one, other, pixel_range="disco")
    with pytest.raises(ValueError, match=r"clips of shapes \(3, 5, 4, 3\) and \(2, 5, 4, 3\) given"):
        lpips(network(), one, other[:2])
    with pytest.raises(ValueError, match=r"others of shape \(3, 5, 4, 3\) and dtype float64 given, expected uint8"):
        lpips(network(), one, other / 255)
    with pytest.raises(ValueError, match="batch_size 0 given"):
        lpips(network(), one, other, batch_size=0)
