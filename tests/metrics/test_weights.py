"""Reading metric networks: what is missing, of another kind, or damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from aa_jax.metrics.weights import (
    MissingWeightsError,
    expected_tensors,
    load_metric_network,
    metadata_of,
)
from aa_jax.tensor_file import read_metadata, write_tensors

FILE = "lpips_alex.safetensors"
SOURCES = {"weights": {"file": "alex.pth", "sha256": "12"}, "backbone": {"file": "alexnet.pth", "sha256": "34"}}


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    expected = expected_tensors("lpips-alex")
    return {key: rng.standard_normal(leaf.shape, dtype=np.float32) for key, leaf in expected.items()}


@pytest.fixture
def folder(tensors, tmp_path) -> Path:
    write_tensors(tmp_path / FILE, tensors, metadata_of("lpips-alex", tensors, SOURCES))
    return tmp_path


def test_a_network_knows_what_it_is_made_of(folder):
    network = load_metric_network(folder, "lpips-alex")
    assert network.kind == "lpips-alex" and network.sources == SOURCES
    assert network.sha256 == read_metadata(folder / FILE)["sha256"] and len(network.sha256) == 64


def test_checksum_is_of_names_and_values(tensors):
    def checksum(tensors):
        return metadata_of("lpips-alex", tensors, SOURCES)["sha256"]

    assert checksum(tensors) == checksum(dict(reversed(tensors.items())))
    assert checksum(tensors) != checksum({**tensors, "lin0.kernel": tensors["lin0.kernel"] + 1})
    swapped = {**tensors, "lin3.kernel": tensors["lin4.kernel"], "lin4.kernel": tensors["lin3.kernel"]}
    assert checksum(tensors) != checksum(swapped)


def test_missing_file_is_told_from_missing_folder(tmp_path):
    with pytest.raises(MissingWeightsError, match="needs resnet3d.safetensors: .* --kind resnet3d") as error:
        load_metric_network(tmp_path, "resnet3d")
    assert error.value.file == "resnet3d.safetensors"
    with pytest.raises(FileNotFoundError, match="none is no folder") as error:
        load_metric_network(tmp_path / "none", "resnet3d")
    assert not isinstance(error.value, MissingWeightsError)


def test_unknown_kind(tmp_path):
    with pytest.raises(ValueError, match="'vgg' asked for, expected one of lpips-alex, lpips-vgg, inception"):
        load_metric_network(tmp_path, "vgg")


def test_another_kind(folder):
    shutil.move(folder / FILE, folder / "lpips_vgg.safetensors")
    with pytest.raises(ValueError, match="is of kind lpips-alex, format 1, expected lpips-vgg, format 1"):
        load_metric_network(folder, "lpips-vgg")


def test_other_files_and_formats(folder, tensors):
    write_tensors(folder / FILE, tensors)
    with pytest.raises(ValueError, match="is of kind None"):
        load_metric_network(folder, "lpips-alex")
    write_tensors(folder / FILE, tensors, {**metadata_of("lpips-alex", tensors, SOURCES), "format": "2"})
    with pytest.raises(ValueError, match="format 2, expected lpips-alex, format 1"):
        load_metric_network(folder, "lpips-alex")


@pytest.mark.parametrize("length", [0, 100, 1_000_000, -1])
def test_cut_short(folder, length):
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:length])
    with pytest.raises(ValueError, match=FILE) as error:
        load_metric_network(folder, "lpips-alex")
    assert "\n" not in str(error.value)


def test_a_wrong_bit(folder):
    data = bytearray((folder / FILE).read_bytes())
    data[-1000] ^= 1
    (folder / FILE).write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        load_metric_network(folder, "lpips-alex")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lin0.kernel": None}, "lin0.kernel"),
        ({"extra": np.zeros(1, np.float32)}, "extra"),
        ({"lin1.kernel": np.zeros((1, 1, 3, 1), np.float32)}, "lin1.kernel"),
    ],
)
def test_another_network_under_the_same_name(tmp_path, tensors, change, named):
    changed = {key: tensor for key, tensor in {**tensors, **change}.items() if tensor is not None}
    write_tensors(tmp_path / FILE, changed, metadata_of("lpips-alex", changed, SOURCES))
    with pytest.raises(ValueError, match=f"{FILE}, as lpips-alex, does not fit: 1 .*: {named}"):
        load_metric_network(tmp_path, "lpips-alex")
