"""`--verify`: PyTorch's networks against the converted ones."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from aa_jax.models.config import MotionConfig, PoseGuiderConfig, UNetConfig
from aa_jax.weights import expected_tensors
from tests.tools.files import arguments, save
from tools.convert_weights import convert
from tools.convert_weights.__main__ import main
from tools.convert_weights.detect import pose_guider_config
from tools.convert_weights.naming import from_torch, torch_key, torch_shape
from tools.convert_weights.verify import pose_guider_in_pytorch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")


def test_every_network_of_a_system(moore_files, recipe, tmp_path, capsys):
    """UNets of two levels, which compile in seconds."""
    size = {"block_out_channels": (32, 64), "attention_levels": (True, False), "layers_per_block": 1}
    image = UNetConfig(**size, cross_attention_dim=32, norm_num_groups=8)
    configs = {
        "reference_unet": image,
        "denoising_unet": dataclasses.replace(image, motion=MotionConfig()),
        "pose_guider": PoseGuiderConfig(out_channels=32),
    }
    files = {name: moore_files[name] for name in ("vae", "image_encoder")}
    for name, config in configs.items():
        shapes = {torch_key(key): torch_shape(key, leaf.shape) for key, leaf in expected_tensors(name, config).items()}
        files[name] = save(recipe.gen_state_dict(name, shapes), tmp_path / f"{name}.pth")
    declared = {"block_out_channels": [32, 64], "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]}
    (tmp_path / "unet.json").write_text(json.dumps({**declared, "layers_per_block": 1, "norm_num_groups": 8}))
    model = tmp_path / "model"
    more = ["--output", str(model), "--unet-config", str(tmp_path / "unet.json"), "--verify"]
    assert main(["moore", *arguments(files), *more]) == 0
    errors = json.loads((model / "conversion.json").read_text())["verify"]
    assert set(errors) == {"reference_unet", "denoising_unet", "pose_guider", "vae", "image_encoder"}
    assert all(0 < error < 1e-4 for error in errors.values()), errors
    assert capsys.readouterr().out.count("worst relative error") == 5


def test_a_wrong_layout_is_found(moore_files, tmp_path, capsys, monkeypatch):
    """Square matrices that are not transposed have the right shape and the wrong values."""

    def careless(key: str, array: np.ndarray) -> np.ndarray:
        return array if array.ndim == 2 and len(set(array.shape)) == 1 else from_torch(key, array)

    monkeypatch.setattr(convert, "from_torch", careless)
    files = {"image_encoder": moore_files["image_encoder"]}
    assert main(["sd", *arguments(files), "--output", str(tmp_path / "model"), "--verify"]) == 2
    assert "verification failed, relative error above 0.001: image_encoder" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("guider", ["open_pose_guider", "open_hack_pose_guider"])
def test_restated_pose_guiders(guider, recipe, golden):
    """The restatement in PyTorch that the converter compares with, against the published code's output."""
    path = golden / "open" / "pose_guiders.npz"
    if not path.exists():
        pytest.skip("no golden data")
    shapes = json.loads((golden / "keys" / "open_pose_guiders.json").read_text())[guider]
    state = {key: torch.from_numpy(np.array(value)) for key, value in recipe.gen_state_dict(guider, shapes).items()}
    config = pose_guider_config("test", {key: tuple(shape) for key, shape in shapes.items()})
    arrays = np.load(path)
    result = pose_guider_in_pytorch(config, state, torch.from_numpy(arrays[f"{guider}|in"]))
    np.testing.assert_allclose(result.numpy(), arrays[f"{guider}|out"], atol=1e-5)


def test_restated_controlnet_pose_guider(recipe, golden):
    path = golden / "tiny" / "pose_guider.npz"
    if not path.exists():
        pytest.skip("no golden data")
    shapes = json.loads((golden / "tiny" / "weights" / "shapes.json").read_text())["pose_guider"]
    weights = recipe.gen_state_dict("pose_guider", shapes)
    config = pose_guider_config("test", {key: tuple(shape) for key, shape in shapes.items()})
    arrays = np.load(path)
    images = torch.from_numpy(arrays["input"][0].swapaxes(0, 1).copy())
    result = pose_guider_in_pytorch(config, {key: torch.from_numpy(value) for key, value in weights.items()}, images)
    np.testing.assert_allclose(result.numpy(), arrays["output"][0].swapaxes(0, 1), atol=1e-5)
