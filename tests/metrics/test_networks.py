"""Every network against an independent definition in PyTorch, from a published file's layout to its output."""

import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from aa_jax.metrics.features import frame_features, window_features
from aa_jax.metrics.weights import MetricNetwork, file_name, load_metric_network
from tests.metrics import oracles
from tools.convert_weights.__main__ import main

TOLERANCE = 1e-4


def converted(folder: Path, kind: str, weights: Mapping, backbone: Mapping | None = None) -> MetricNetwork:
    """Published files of these tensors, converted and loaded."""
    torch.save(weights, folder / "weights.pth")
    arguments = ["metrics", "--kind", kind, "--weights", str(folder / "weights.pth")]
    if backbone is not None:
        torch.save(backbone, folder / "backbone.pth")
        arguments += ["--backbone", str(folder / "backbone.pth")]
    assert main([*arguments, "--output", str(folder / file_name(kind))]) == 0
    return load_metric_network(folder, kind)


def clip(*shape: int, seed: int = 0) -> np.ndarray:
    """Pixels (b, ..., 3) in [0, 255] that differ along every axis: noise upon gradients of colour."""
    rng = np.random.default_rng(seed)
    steepness = [60, 40, 20][: len(shape) - 2]
    places = np.moveaxis(np.indices(shape[1:-1]), 0, -1) / np.array(shape[1:-1])
    gradient = (places @ steepness)[..., None] * np.array([1.0, 0.5, 0.1])
    return (gradient + rng.uniform(0, 135, shape)).astype(np.float32)


def channels_first(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 1)))


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest value."""
    assert got.shape == expected.shape and got.dtype == np.float32
    error = float(np.abs(got - expected).max() / np.abs(expected).max())
    print(f"relative error {error:.1e}")
    return error


def assert_windows_equal(network: MetricNetwork, size: int, oracle: Callable) -> None:
    """At the true size, from frames, resized as DisCo does."""
    frames = clip(1, 16, 141, 90, 3).astype(np.uint8)[0]
    squares = np.stack([oracles.pillow_bicubic(frame, size) for frame in frames])
    with torch.no_grad():
        expected = oracle(channels_first(squares[None])).numpy()
    assert relative_error(window_features(network, frames), expected) < TOLERANCE


def assert_equal(network: MetricNetwork, pixels: np.ndarray, oracle: Callable) -> None:
    with torch.no_grad():
        expected = oracle(channels_first(pixels)).numpy()
    assert relative_error(np.asarray(network.apply(pixels)), expected) < TOLERANCE


def assert_tells_axes_apart(network: MetricNetwork, pixels: np.ndarray) -> None:
    """Rows for columns, the first axis backwards, or blue for red change the features by far more than the tolerance,
    so that this would find a wrong axis."""
    features = np.asarray(network.apply(pixels))
    for other in (pixels.swapaxes(-3, -2), pixels[:, ::-1], pixels[..., ::-1]):
        assert relative_error(np.asarray(network.apply(other)), features) > 20 * TOLERANCE


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> tuple[MetricNetwork, torch.nn.Module]:
    oracle = oracles.randomise(oracles.Inception(), 1)
    return converted(tmp_path_factory.mktemp("inception"), "inception", oracle.state_dict()), oracle


def test_inception(inception):
    network, oracle = inception
    pixels = clip(2, 110, 110, 3)
    assert_equal(network, pixels, lambda x: oracle(x / 255, 110))
    assert_tells_axes_apart(network, pixels)


def test_frame_features(inception):
    """At the true size, with its resizing."""
    network, oracle = inception
    frames = clip(1, 201, 333, 3).astype(np.uint8)
    with torch.no_grad():
        expected = oracle(channels_first(frames) / 255)
    assert relative_error(frame_features(network, frames), expected.numpy()) < TOLERANCE


@pytest.fixture(scope="module")
def i3d(tmp_path_factory) -> tuple[MetricNetwork, torch.nn.Module]:
    oracle = oracles.randomise(oracles.I3D(), 2)
    return converted(tmp_path_factory.mktemp("i3d"), "i3d", oracle.state_dict()), oracle


@pytest.mark.parametrize("shape", [(16, 96, 64), (11, 47, 47)])
def test_i3d(i3d, shape):
    """Even and odd lengths, for which "SAME" pads differently."""
    network, oracle = i3d
    assert_equal(network, clip(1, *shape, 3), lambda x: oracle(x / 127.5 - 1))


@pytest.mark.full
def test_i3d_windows(i3d):
    network, oracle = i3d
    assert_windows_equal(network, 224, lambda x: oracle(x / 127.5 - 1))


def test_i3d_tells_axes_apart(i3d):
    assert_tells_axes_apart(i3d[0], clip(1, 11, 47, 47, 3))


@pytest.fixture(scope="module")
def resnet3d(tmp_path_factory) -> tuple[MetricNetwork, torch.nn.Module]:
    oracle = oracles.randomise(oracles.ResNet3D(), 3)
    weights = {f"module.{key}": tensor for key, tensor in oracle.state_dict().items()}
    published = {"epoch": 200, "arch": "resnet-50", "state_dict": weights, "optimizer": {"state": {}}}
    return converted(tmp_path_factory.mktemp("resnet3d"), "resnet3d", published), oracle


def less_mean(pixels: torch.Tensor) -> torch.Tensor:
    return pixels - torch.tensor([114.7748, 107.7354, 99.4750])[:, None, None, None]


def test_resnet3d(resnet3d):
    network, oracle = resnet3d
    assert_equal(network, clip(1, 13, 35, 35, 3), lambda x: oracle(less_mean(x)))


def test_resnet3d_windows(resnet3d):
    network, oracle = resnet3d
    assert_windows_equal(network, 112, lambda x: oracle(less_mean(x)))


def test_resnet3d_tells_axes_apart(resnet3d):
    assert_tells_axes_apart(resnet3d[0], clip(1, 13, 35, 35, 3))


@pytest.fixture(scope="module", params=["alex", "vgg"])
def lpips(request, tmp_path_factory) -> tuple[MetricNetwork, oracles.Features, oracles.Heads]:
    tower = oracles.randomise({"alex": oracles.alexnet, "vgg": oracles.vgg16}[request.param](), 4)
    widths = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}[request.param]
    heads = oracles.randomise(oracles.Heads(widths), 5)
    for head in heads.children():
        head.model[1].weight.data.abs_()
    folder = tmp_path_factory.mktemp(request.param)
    network = converted(folder, f"lpips-{request.param}", heads.state_dict(), tower.state_dict())
    return network, tower, heads


def test_lpips(lpips):
    network, tower, heads = lpips
    one, other = (clip(3, 67, 98, 3, seed=seed) / 127.5 - 1 for seed in (1, 2))
    with torch.no_grad():
        expected = oracles.lpips_distance(tower, heads, channels_first(one), channels_first(other))
    assert relative_error(np.asarray(network.apply(one, other)), expected.numpy()) < TOLERANCE
    assert not np.asarray(network.apply(one, one)).any()


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_lpips_package(name, tmp_path, monkeypatch):
    """The published package with its published heads, over our definition of torchvision's towers, which is all that it
    takes from there."""
    models = types.ModuleType("torchvision.models")
    models.alexnet, models.vgg16 = oracles.alexnet, oracles.vgg16
    torchvision = types.ModuleType("torchvision")
    torchvision.models = models
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    package = pytest.importorskip("lpips")

    published = package.LPIPS(net=name, pnet_rand=True, verbose=False)
    tower = oracles.randomise({"alex": oracles.alexnet, "vgg": oracles.vgg16}[name](), 6)
    for number, layer in enumerate(tower.features):
        for part in published.net.children():
            if str(number) in dict(part.named_children()):
                part.get_submodule(str(number)).load_state_dict(layer.state_dict())
    heads = torch.load(
        Path(package.__file__).parent / "weights" / "v0.1" / f"{name}.pth", map_location="cpu", weights_only=True
    )
    network = converted(tmp_path, f"lpips-{name}", heads, tower.state_dict())
    one, other = (clip(2, 65, 90, 3, seed=seed) / 127.5 - 1 for seed in (3, 4))
    with torch.no_grad():
        expected = published(channels_first(one), channels_first(other)).flatten()
    assert relative_error(np.asarray(network.apply(one, other)), expected.numpy()) < TOLERANCE
