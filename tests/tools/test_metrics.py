"""Published metric networks to files of this library: exact, and strict about what they are made of."""

import hashlib
import json
import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from aa_jax.tensor_file import read_metadata, read_tensors
from tests.metrics import oracles
from tests.tools.files import save
from tools.convert_weights.__main__ import main

StateDict = dict[str, np.ndarray]
NAME = "lpips_alex.safetensors"


def numpy_weights(module: torch.nn.Module) -> StateDict:
    return {key: tensor.numpy() for key, tensor in oracles.randomise(module, 0).state_dict().items()}


@pytest.fixture(scope="module")
def heads() -> StateDict:
    return numpy_weights(oracles.Heads((64, 192, 384, 256, 256)))


@pytest.fixture(scope="module")
def tower() -> StateDict:
    return numpy_weights(oracles.alexnet())


@pytest.fixture
def command(heads, tower, tmp_path) -> Callable[..., list[str]]:
    """The arguments that convert LPIPS, some of them changed, or left out by None."""

    def arguments(**changes: object) -> list[str]:
        given = {
            "kind": "lpips-alex",
            "weights": tmp_path / "alex.pth",
            "backbone": tmp_path / "alexnet.pth",
            "output": tmp_path / "metrics" / NAME,
            **changes,
        }
        return ["metrics", *(part for name, value in given.items() if value for part in (f"--{name}", str(value)))]

    save(heads, tmp_path / "alex.pth")
    save(tower, tmp_path / "alexnet.pth")
    return arguments


@pytest.fixture
def refused(command, tmp_path, capsys) -> Callable[..., str]:
    """Run the converter, which must refuse and leave nothing; its one line."""

    def run(**changes: object) -> str:
        capsys.readouterr()
        assert main(command(**changes)) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and "Traceback" not in message, message
        assert not (tmp_path / "metrics").exists()
        return message

    return run


def test_values_and_axes(command, heads, tower, tmp_path, capsys):
    assert main(command()) == 0
    assert "lpips-alex: 15 tensors, 2,470,848 values" in capsys.readouterr().out
    tensors = read_tensors(tmp_path / "metrics" / NAME)
    kernel = np.asarray(tensors["net.features.3.kernel"])
    assert kernel.shape == (5, 5, 64, 192) and kernel.dtype == np.float32
    assert kernel[1, 4, 7, 100] == tower["features.3.weight"][100, 7, 1, 4]
    np.testing.assert_array_equal(kernel, np.einsum("oihw->hwio", tower["features.3.weight"]))
    np.testing.assert_array_equal(np.asarray(tensors["net.features.10.bias"]), tower["features.10.bias"])
    np.testing.assert_array_equal(
        np.asarray(tensors["lin4.kernel"])[0, 0, :, 0], heads["lin4.model.1.weight"][0, :, 0, 0]
    )


def test_metadata(command, tmp_path):
    assert main(command()) == 0
    metadata = read_metadata(tmp_path / "metrics" / NAME)
    assert (metadata["kind"], metadata["format"]) == ("lpips-alex", "1")
    assert json.loads(metadata["sources"]) == {
        role: {"file": name, "sha256": hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}
        for role, name in (("weights", "alex.pth"), ("backbone", "alexnet.pth"))
    }


def test_half_precision_prefixes_and_counters(command, heads, tower, tmp_path):
    assert main(command()) == 0
    expected = (tmp_path / "metrics" / NAME).read_bytes()
    rounded = {key: value.astype(np.float16) for key, value in heads.items()}
    parallel = {f"module.{key}": torch.from_numpy(value) for key, value in rounded.items()}
    parallel["module.bn.num_batches_tracked"] = torch.tensor(7)
    torch.save({"state_dict": parallel, "epoch": 3, "arch": "x"}, tmp_path / "parallel.pth")
    assert main(command(weights=tmp_path / "parallel.pth")) == 0
    got = read_tensors(tmp_path / "metrics" / NAME)
    assert (tmp_path / "metrics" / NAME).read_bytes() != expected  # replaced
    np.testing.assert_array_equal(
        np.asarray(got["lin0.kernel"])[0, 0, :, 0], rounded["lin0.model.1.weight"][0, :, 0, 0].astype(np.float32)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.0.weight": None, "features.6.bias": None}, "2 missing: features.0.weight, features.6.bias"),
        ({"features.12.weight": np.zeros(3, np.float32)}, "1 not expected: features.12.weight"),
        (
            {"features.0.weight": np.zeros((64, 3, 11, 7), np.float32)},
            "1 of another shape: features.0.weight (64, 3, 11, 7) instead of (64, 3, 11, 11)",
        ),
    ],
)
def test_keys_and_shapes_that_do_not_fit(refused, tower, change, message, tmp_path):
    changed = {key: value for key, value in {**tower, **change}.items() if value is not None}
    path = save(changed, tmp_path / "other.pth")
    assert f"--backbone {path}, as lpips-alex, does not fit: {message}" in refused(backbone=path)


def test_another_network(refused, tmp_path):
    message = refused(kind="inception", backbone=None, output=tmp_path / "metrics" / "inception.safetensors")
    assert "alex.pth, as inception, does not fit: 470 missing: Conv2d_1a_3x3." in message
    assert "5 not expected: lin0.model.1.weight" in message


def test_backbone_goes_with_lpips(refused, tmp_path):
    assert "lpips-alex needs --backbone" in refused(backbone=None)
    message = refused(kind="i3d", output=tmp_path / "metrics" / "i3d.safetensors")
    assert "i3d has no backbone: leave out --backbone" in message


def test_files_that_cannot_be_read(refused, tmp_path):
    assert "--weights nowhere.pth: no such file" in refused(weights="nowhere.pth")
    (tmp_path / "short.pth").write_bytes((tmp_path / "alex.pth").read_bytes()[:5000])
    assert "short.pth: the file is cut short" in refused(weights=tmp_path / "short.pth")

    class Dangerous:
        def __reduce__(self) -> tuple:
            return os.mkdir, ("ran",)

    torch.save({"lin0.model.1.weight": torch.zeros(1), "extra": Dangerous()}, tmp_path / "code.pth")
    assert "holds Python objects" in refused(weights=tmp_path / "code.pth")


def test_output_has_the_name_that_metrics_look_for(refused, tmp_path):
    assert f"in a file named {NAME}" in refused(output=tmp_path / "metrics" / "alex.safetensors")


def test_failure_leaves_an_existing_file_as_it_was(command, tmp_path, monkeypatch):
    output = tmp_path / "metrics" / NAME
    output.parent.mkdir()
    output.write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tools.convert_weights.metrics.write_tensors", full)
    assert main(command()) == 2
    assert output.read_bytes() == b"before" and list(output.parent.iterdir()) == [output]


def test_help_names_the_published_files(capsys):
    with pytest.raises(SystemExit):
        main(["metrics", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in ("resnet-50-kinetics.pth", "i3d_pretrained_400.pt", "vgg16-397923af.pth"):
        assert name in text


def test_unknown_kind(command, capsys):
    with pytest.raises(SystemExit) as error:
        main(command(kind="vgg"))
    assert error.value.code == 2 and capsys.readouterr().err.count("\n") == 1
