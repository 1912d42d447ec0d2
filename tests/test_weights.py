"""Model folders: what is saved is loaded, and nothing else is accepted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from aa_jax.atomic import new_folder
from aa_jax.config import ModelConfig
from aa_jax.models.config import CLIPVisionConfig, Policy, PoseGuiderConfig, VAEConfig
from aa_jax.network_tensors import network_tensors
from aa_jax.tensor_file import write_tensors
from aa_jax.weights import (
    build_network,
    expected_tensors,
    load_config,
    load_manifest,
    load_network,
    resolve,
    save_model,
    save_pretrained,
    verify_checksums,
)
from tests.small_models import IMAGE_ENCODER

CONFIG = ModelConfig(
    pose_guider=PoseGuiderConfig(architecture="paper", out_channels=4),
    vae=VAEConfig(block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1),
    image_encoder=IMAGE_ENCODER,
)


@pytest.fixture(scope="module")
def networks() -> dict[str, nnx.Module]:
    rng = np.random.default_rng(0)

    def random(name: str) -> nnx.Module:
        expected = expected_tensors(name, getattr(CONFIG, name))
        tensors = {key: rng.standard_normal(leaf.shape, np.float32) for key, leaf in expected.items()}
        return build_network(name, getattr(CONFIG, name), tensors)

    return {name: random(name) for name in CONFIG.networks}


@pytest.fixture(scope="module")
def saved(networks, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_model(folder, CONFIG, {name: network_tensors(network) for name, network in networks.items()})
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "model")


def test_saved_networks_are_loaded(saved, networks):
    assert load_config(saved) == CONFIG
    for name, network in networks.items():
        loaded = load_network(saved, name)
        assert type(loaded) is type(network)
        for (path, before), (same, after) in zip(
            nnx.to_flat_state(nnx.state(network)), nnx.to_flat_state(nnx.state(loaded)), strict=True
        ):
            assert path == same and type(before) is type(after)
            np.testing.assert_array_equal(before.get_value(), after.get_value())
    pixels = np.random.default_rng(0).standard_normal((1, 28, 28, 3), np.float32)
    loaded = load_network(saved, "image_encoder")
    np.testing.assert_array_equal(loaded(pixels), networks["image_encoder"](pixels))


def test_files_are_plain_safetensors_under_module_paths(saved, networks):
    tensors = load_file(saved / "vae.safetensors")
    kernel = networks["vae"].encoder.down_blocks[0].resnets[0].conv1.kernel
    np.testing.assert_array_equal(tensors["encoder.down_blocks.0.resnets.0.conv1.kernel"], kernel.get_value())
    facts = load_manifest(saved)["files"]["vae.safetensors"]
    assert facts["size"] == (saved / "vae.safetensors").stat().st_size and facts["tensors"] == len(tensors)
    assert facts["parameters"] == sum(value.size for value in tensors.values()) and facts["dtype"] == "float32"
    verify_checksums(saved)


def test_casting_spares_norms(saved):
    network = load_network(saved, "pose_guider", dtype="bfloat16", policy=Policy(dtype=jnp.bfloat16))
    conv, norm = network.conv_layers[0], network.conv_layers[1]
    assert conv.kernel.dtype == conv.bias.dtype == jnp.bfloat16
    assert norm.scale.dtype == norm.bias.dtype == norm.mean.dtype == norm.var.dtype == jnp.float32
    assert network(jnp.zeros((1, 16, 16, 3))).dtype == jnp.bfloat16


def test_half_precision_files_keep_their_dtype(networks, tmp_path):
    config = ModelConfig(pose_guider=CONFIG.pose_guider)
    tensors = {key: value.astype(jnp.bfloat16) for key, value in network_tensors(networks["pose_guider"]).items()}
    save_model(tmp_path / "model", config, {"pose_guider": tensors})
    assert load_network(tmp_path / "model", "pose_guider").final_proj.kernel.dtype == jnp.bfloat16
    wide = load_network(tmp_path / "model", "pose_guider", dtype=jnp.float32)
    assert {value.dtype for value in network_tensors(wide).values()} == {jnp.dtype("float32")}


def test_loaded_weights_outlive_their_file(folder):
    network = load_network(folder, "pose_guider")
    before = np.array(network.final_proj.kernel.get_value())
    path = folder / "pose_guider.safetensors"
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"\xff" * (path.stat().st_size - 5000))
    np.testing.assert_array_equal(network.final_proj.kernel.get_value(), before)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, but the manifest says"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, but the manifest says"),
        (lambda path: path.unlink(), "is missing from the model folder"),
    ],
)
def test_damaged_files(folder, damage, message):
    damage(folder / "vae.safetensors")
    for use in (lambda: load_network(folder, "vae"), lambda: verify_checksums(folder)):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            use()
        assert "vae.safetensors" in str(caught.value) and "\n" not in str(caught.value)


def test_changed_bytes_are_found(folder):
    path = folder / "vae.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"vae.safetensors has SHA-256 \w{12}\.\.\., but the manifest says"):
        verify_checksums(folder)


def test_keys_and_shapes_must_be_the_networks(networks):
    tensors = dict(network_tensors(networks["image_encoder"]))
    tensors["surplus"] = tensors.pop("visual_projection.kernel")
    tensors["vision_model.pre_layrnorm.bias"] = np.zeros(17, np.float32)
    with pytest.raises(ValueError) as caught:
        build_network("image_encoder", CONFIG.image_encoder, tensors, where="file")
    message = str(caught.value)
    assert message.startswith("file does not fit: 1 missing: visual_projection.kernel; 1 not expected: surplus; ")
    assert message.endswith("1 of another shape: vision_model.pre_layrnorm.bias (17,) instead of (16,)")


def test_file_of_another_network(folder, networks):
    """A whole file, known to the manifest, but of another configuration."""
    path = folder / "pose_guider.safetensors"
    facts = write_tensors(path, network_tensors(networks["image_encoder"]))
    manifest = load_manifest(folder)
    manifest["files"][path.name]["size"] = facts.size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        ValueError, match="pose_guider.safetensors does not fit: 51 missing: conv_layers.0.bias, .*not expected"
    ):
        load_network(folder, "pose_guider")


def test_networks_that_are_not_there(saved, tmp_path):
    with pytest.raises(
        ValueError, match=r"has no reference_unet \(family aa_jax\), only pose_guider, vae, image_encoder"
    ):
        load_network(saved, "reference_unet")
    with pytest.raises(ValueError, match="open_tensors"):
        load_network(saved, "motion_module")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_config(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="no valid JSON"):
        load_config(tmp_path)


def test_nothing_is_saved_over_or_by_halves(saved, networks, tmp_path):
    tensors = {name: network_tensors(network) for name, network in networks.items()}
    with pytest.raises(ValueError, match="not empty"):
        save_model(saved, CONFIG, tensors)
    with pytest.raises(
        ValueError, match="networks vae given, but the configuration has pose_guider, vae, image_encoder"
    ):
        save_model(tmp_path / "model", CONFIG, {"vae": tensors["vae"]})
    with pytest.raises(ValueError, match="vae to be saved does not fit"):
        save_model(tmp_path / "model", CONFIG, {**tensors, "vae": tensors["pose_guider"]})
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "model") as partial:
        (partial / "file").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", CONFIG, tensors)
    assert load_config(tmp_path / "model") == CONFIG


def test_what_is_in_memory_is_saved(saved, networks, tmp_path):
    """The same folder comes out, bit for bit, with a card."""
    states = {name: nnx.split(network)[1] for name, network in networks.items()}
    save_pretrained(tmp_path / "model", CONFIG, states, card="# Mine\n")
    assert (tmp_path / "model" / "README.md").read_text() == "# Mine\n"
    assert load_config(tmp_path / "model") == CONFIG
    assert load_manifest(tmp_path / "model") == load_manifest(saved)
    verify_checksums(tmp_path / "model")
    with pytest.raises(ValueError, match="not empty"):
        save_pretrained(tmp_path / "model", CONFIG, states)


def test_resolve(saved, tmp_path, monkeypatch):
    assert resolve(saved) == saved and resolve(str(saved)) == saved
    monkeypatch.setattr("aa_jax.weights.BUNDLED", saved)
    assert resolve("bundled") == saved
    (tmp_path / "bundled").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("bundled") == Path("bundled")
    for name in ("nothing", "a/b/c", "../model", "/a/b", "a/b@", "a@b/c", saved / "config.json"):
        with pytest.raises(FileNotFoundError, match="no model folder and no hub id"):
            resolve(name)
    import huggingface_hub

    asked = []

    def download(name: str, *, allow_patterns: list[str], **where: object) -> str:
        assert set(allow_patterns) == {"config.json", "manifest.json", "README.md", "*.safetensors"}
        asked.append((name, where))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("owner/some-model.v2") == resolve("owner/name@v1/a.b") == saved
    assert resolve("owner/name", revision="abc", cache_dir=tmp_path) == saved
    assert asked == [
        ("owner/some-model.v2", {"revision": None, "cache_dir": None}),
        ("owner/name", {"revision": "v1/a.b", "cache_dir": None}),
        ("owner/name", {"revision": "abc", "cache_dir": tmp_path}),
    ]
    with pytest.raises(ValueError, match="revision 'v1' given, but .* is a local folder"):
        resolve(saved, revision="v1")
    with pytest.raises(ValueError, match="revision 'v1' given, but owner/name@v2 names one too"):
        resolve("owner/name@v2", revision="v1")

    def fail(*_args: object, **_more: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(FileNotFoundError, match="could not be downloaded from the hub: no connection$"):
        resolve("owner/name")


def test_loading_needs_no_pytorch(saved):
    code = (
        "import sys; sys.modules['torch'] = None; from aa_jax.weights import load_network; "
        f"load_network({str(saved)!r}, 'pose_guider')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


def test_a_network_is_in_memory_once(tmp_path):
    """400 MB of float32 are loaded as float32 under a limit that two copies, or the file read whole, would break."""
    config = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=8)
    model = ModelConfig(image_encoder=config)
    expected = expected_tensors("image_encoder", config)
    size = sum(leaf.size * 4 for leaf in expected.values())
    zeros = {key: np.broadcast_to(np.float32(0), leaf.shape) for key, leaf in expected.items()}
    save_model(tmp_path / "model", model, {"image_encoder": zeros})
    code = f"""
import resource
from aa_jax.weights import load_network
import jax
jax.block_until_ready(jax.numpy.zeros(3))
def anonymous():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) * 1024
before = anonymous()
network = load_network({str(tmp_path / "model")!r}, "image_encoder")
print(anonymous() - before)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert 0.9 * size < int(run.stdout) < 1.25 * size
