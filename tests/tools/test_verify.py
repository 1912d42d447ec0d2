"""`--verify`: PyTorch's networks against the converted ones."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from aa_jax.models.config import MotionConfig, PoseGuiderConfig, UNetConfig
from aa_jax.weights import expected_tensors, load_network
from tests.golden_tools import channels_first, channels_last, load, read_json, relative_error
from tests.tools.files import arguments, save
from tools.convert_weights import convert
from tools.convert_weights.__main__ import main
from tools.convert_weights.detect import pose_guider_config
from tools.convert_weights.naming import from_torch, torch_key, torch_shape
from tools.convert_weights.verify import pose_guider_in_pytorch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")


def small_system(files: dict[str, Path], recipe: ModuleType, folder: Path, width: int, context: int) -> list[str]:
    """The converter's arguments for UNets of two levels, which compile in seconds, with the VAE and CLIP of `files`."""
    size = {"block_out_channels": (width, 64), "attention_levels": (True, False), "layers_per_block": 1}
    image = UNetConfig(**size, cross_attention_dim=context, norm_num_groups=8)
    configs = {
        "reference_unet": image,
        "denoising_unet": dataclasses.replace(image, motion=MotionConfig()),
        "pose_guider": PoseGuiderConfig(out_channels=width),
    }
    files = {name: files[name] for name in ("vae", "image_encoder")}
    for name, config in configs.items():
        shapes = {torch_key(key): torch_shape(key, leaf.shape) for key, leaf in expected_tensors(name, config).items()}
        files[name] = save(recipe.gen_state_dict(name, shapes), folder / f"{name}.pth")
    declared = {"block_out_channels": [width, 64], "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]}
    (folder / "unet.json").write_text(json.dumps({**declared, "layers_per_block": 1, "norm_num_groups": 8}))
    return [*arguments(files), "--unet-config", str(folder / "unet.json")]


def test_every_network_of_a_system(moore_files, recipe, tmp_path, capsys):
    model = tmp_path / "model"
    assert (
        main(
            [
                "moore",
                *small_system(moore_files, recipe, tmp_path, width=32, context=32),
                "--output",
                str(model),
                "--verify",
                "--json",
            ]
        )
        == 0
    )
    errors = json.loads((model / "conversion.json").read_text())["verify"]
    assert set(errors) == {"reference_unet", "denoising_unet", "pose_guider", "vae", "image_encoder"}
    assert all(0 < error < 1e-4 for error in errors.values()), errors
    printed = capsys.readouterr()
    assert printed.err.count("worst relative error") == 5 and json.loads(printed.out)["verify"] == errors


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
def test_pose_guiders_of_open(guider, moore_files, recipe, golden, tmp_path):
    """The published code's output, by our network with converted weights and by the one that `--verify` runs."""
    shapes = read_json(golden, "keys/open_pose_guiders.json")[guider]
    arrays = load(golden, "open/pose_guiders.npz")
    images, expected = arrays[f"{guider}|in"], arrays[f"{guider}|out"]
    state = recipe.gen_state_dict(guider, shapes)

    others = small_system(moore_files, recipe, tmp_path, width=320, context=64)
    save(state, tmp_path / "pose_guider.pth")
    assert main(["open", *others, "--output", str(tmp_path / "model")]) == 0
    ours = load_network(tmp_path / "model", "pose_guider")(channels_last(images))
    assert relative_error(channels_first(ours), expected) < 1e-4

    config = pose_guider_config("test", {key: tuple(shape) for key, shape in shapes.items()})
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    theirs = pose_guider_in_pytorch(config, tensors, torch.from_numpy(images))
    assert relative_error(theirs.numpy(), expected) < 1e-5


def test_restated_controlnet_pose_guider(recipe, golden):
    arrays = load(golden, "tiny/pose_guider.npz")
    shapes = read_json(golden, "tiny/weights/shapes.json")["pose_guider"]
    weights = recipe.gen_state_dict("pose_guider", shapes)
    config = pose_guider_config("test", {key: tuple(shape) for key, shape in shapes.items()})
    images = torch.from_numpy(arrays["input"][0].swapaxes(0, 1).copy())
    result = pose_guider_in_pytorch(config, {key: torch.from_numpy(value) for key, value in weights.items()}, images)
    assert relative_error(result.numpy(), arrays["output"][0].swapaxes(0, 1)) < 1e-5
