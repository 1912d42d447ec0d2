"""Mistakes of the user: one line that says what is wrong, exit code 2, nothing under the output's name."""

import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.full_disk import largest_file
from tests.tools.files import arguments, load, save
from tools.convert_weights.__main__ import main


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run the converter, which must refuse; its one line."""

    def run(family: str, files: Mapping[str, Path], *more: str) -> str:
        capsys.readouterr()
        output = tmp_path / "model"
        try:
            code = main([family, *arguments(files), "--output", str(output), *more])
        except SystemExit as error:
            code = error.code
        message = capsys.readouterr().err
        assert code == 2 and message.count("\n") == 1 and "Traceback" not in message, message
        assert not output.exists() and not list(tmp_path.glob("*.partial"))
        return message

    return run


class Dangerous:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("ran",)


def test_file_with_code_is_not_opened(refused, moore_files, sizes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv_in.weight": torch.zeros(1), "extra": Dangerous()}, tmp_path / "bad.pth")
    assert "mkdir" in refused("moore", {**moore_files, "pose_guider": tmp_path / "bad.pth"}, *sizes)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Dangerous(), protocol=2))
    refused("moore", {**moore_files, "pose_guider": tmp_path / "plain.pth"}, *sizes)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_pytorch_file(legacy, share, refused, moore_files, sizes, tmp_path):
    weights = {key: value.numpy() for key, value in load(moore_files["pose_guider"]).items()}
    path = save(weights, tmp_path / "short.pth", legacy=legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    message = refused("moore", {**moore_files, "pose_guider": path}, *sizes)
    assert "short.pth" in message and "download it again" in message


@pytest.mark.parametrize("length", [0, 7, 1000, -1])
def test_truncated_safetensors(length, refused, moore_files, sizes, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "short.safetensors"
    save_file(load(moore_files["pose_guider"]), path)
    path.write_bytes(path.read_bytes()[:length])
    assert "short.safetensors" in refused("moore", {**moore_files, "pose_guider": path}, *sizes)


@pytest.mark.parametrize(
    ("role", "given", "looks_like"),
    [
        ("reference_unet", "pose_guider", "a pose guider"),
        ("reference_unet", "denoising_unet", "a Stable Diffusion UNet"),
        ("denoising_unet", "motion_module", "a motion module (AnimateDiff v2)"),
        ("denoising_unet", "reference_unet", "a reference UNet"),
        ("motion_module", "denoising_unet", "a Stable Diffusion UNet"),
        ("pose_guider", "vae", "an autoencoder (VAE)"),
        ("vae", "image_encoder", "a CLIP image encoder"),
        ("image_encoder", "pose_guider", "a pose guider"),
    ],
)
def test_wrong_network(role, given, looks_like, refused, moore_files, sizes):
    message = refused("moore", {**moore_files, role: moore_files[given]}, *sizes)
    assert f"--{role.replace('_', '-')} " in message and f"this looks like {looks_like} (" in message


def test_pose_guider_of_another_system(refused, moore_files, recipe, golden, sizes, tmp_path):
    shapes = json.loads((golden / "keys" / "open_pose_guiders.json").read_text())["open_pose_guider"]
    path = save(recipe.gen_state_dict("open_pose_guider", shapes), tmp_path / "pose_guider.pth")
    message = refused("moore", {**moore_files, "pose_guider": path}, *sizes)
    assert "this looks like a pose guider of Open-AnimateAnyone, which moore does not have" in message
    assert "which open does not have" in refused("open", moore_files, *sizes)


def test_missing_motion_module(refused, moore_files, sizes):
    files = {role: path for role, path in moore_files.items() if role != "motion_module"}
    message = refused("moore", files, *sizes)
    assert "--motion-module" in message and "--image-only" in message
    assert "leave it out" in refused("moore", moore_files, "--image-only", *sizes)


def test_keys_and_shapes_that_do_not_fit(refused, moore_files, sizes, tmp_path):
    weights = {key: value.numpy() for key, value in load(moore_files["reference_unet"]).items()}
    moved = {key: value for key, value in weights.items() if ".norm1." not in key}
    moved |= {f"surplus.{number}": np.zeros(3, np.float32) for number in range(20)}
    moved["conv_in.bias"] = np.zeros(33, np.float32)
    message = refused("moore", {**moore_files, "reference_unet": save(moved, tmp_path / "r.pth")}, *sizes)
    assert (
        "20 not known: surplus.0, surplus.1" in message and "surplus.7, ..." in message and "surplus.8" not in message
    )
    assert f"{len(weights) + 20 - len(moved)} missing: down_blocks.0." in message
    assert "1 of another shape: conv_in.bias (33,) instead of (32,)" in message


def test_two_motion_modules_that_differ(refused, moore_files, sizes, tmp_path):
    motion = {key: value.numpy() for key, value in load(moore_files["motion_module"]).items()}
    image = {key: value.numpy() for key, value in load(moore_files["denoising_unet"]).items()}
    changed = {key: value + np.float32(1) for key, value in motion.items()}
    message = refused(
        "moore", {**moore_files, "denoising_unet": save({**image, **changed}, tmp_path / "d.pth")}, *sizes
    )
    assert "with different values" in message


def test_sizes_that_shapes_do_not_tell(refused, moore_files, configs, tmp_path):
    assert "--unet-config" in refused("moore", moore_files)
    declared = json.loads((configs / "denoising_unet.config.json").read_text())

    def config(**changes: object) -> list[str]:
        (tmp_path / "config.json").write_text(json.dumps({**declared, **changes}))
        return ["--unet-config", str(tmp_path / "config.json")]

    assert "layers_per_block 3, but the weights have 2" in refused("moore", moore_files, *config(layers_per_block=3))
    assert "use_linear_projection True" in refused("moore", moore_files, *config(use_linear_projection=True))
    assert "attention_head_dim is [5, 10]" in refused("moore", moore_files, *config(attention_head_dim=[5, 10]))
    (tmp_path / "config.json").write_text("{")
    assert "no valid JSON" in refused("moore", moore_files, "--unet-config", str(tmp_path / "config.json"))


def test_motion_config_that_does_not_fit(refused, moore_files, sizes, configs, tmp_path):
    declared = json.loads((configs / "inference_v2.config.json").read_text())

    def config(section: str, **changes: object) -> list[str]:
        (tmp_path / "motion.json").write_text(json.dumps({**declared, section: {**declared[section], **changes}}))
        return [*sizes, "--motion-config", str(tmp_path / "motion.json")]

    run = lambda *more: refused("moore", moore_files, *more)  # noqa: E731
    assert "motion_module_mid_block False" in run(*config("unet_additional_kwargs", motion_module_mid_block=False))
    kwargs = {"temporal_position_encoding_max_len": 24}
    assert "max_len 24, but the weights have 32" in run(*config("unet_additional_kwargs", motion_module_kwargs=kwargs))
    assert "beta_schedule is 'cubic'" in run(*config("noise_scheduler_kwargs", beta_schedule="cubic"))
    assert "unknown field sigma" in run(*config("noise_scheduler_kwargs", sigma=1))
    assert "clip_sample" in run(*config("noise_scheduler_kwargs", clip_sample=True))


def test_networks_of_different_sizes(refused, moore_files, recipe, keys, sizes, tmp_path):
    guider = recipe.gen_state_dict("pose_guider", keys("pose_guider"))
    path = save(guider, tmp_path / "pose_guider.pth")
    message = refused("moore", {**moore_files, "pose_guider": path}, *sizes)
    assert "pose_guider gives 320 channels, but denoising_unet takes 32" in message


def test_files_that_are_not_weights(refused, moore_files, sizes, tmp_path):
    run = lambda path: refused("moore", {**moore_files, "pose_guider": path}, *sizes)  # noqa: E731
    assert "no such file or folder" in run(tmp_path / "nothing.pth")
    (tmp_path / "weights.onnx").touch()
    assert ".onnx" in run(tmp_path / "weights.onnx")
    (tmp_path / "empty").mkdir()
    assert "the folder has none of" in run(tmp_path / "empty")
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "no.pth")
    assert "entries epoch, optimizer" in run(tmp_path / "no.pth")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    assert "a list" in run(tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("not a pickle at all")
    assert "damaged" in run(tmp_path / "text.pth")


def test_stable_diffusion_arguments(refused, moore_files, tmp_path):
    assert "nothing to convert" in refused("sd", {})
    both = {"checkpoint": moore_files["denoising_unet"], "unet": moore_files["denoising_unet"]}
    assert "leave out --unet" in refused("sd", both)
    message = refused("sd", {"checkpoint": moore_files["pose_guider"]})
    assert "this looks like a pose guider" in message
    assert "--vae" in refused("moore", {"pose_guider": moore_files["pose_guider"]})


def test_sharded_folder_with_a_part_missing(refused, tmp_path):
    index = {"weight_map": {"conv_in.weight": "a-00001-of-00002.bin"}}
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "diffusion_pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "a-00001-of-00002.bin, which" in refused("sd", {"unet": tmp_path / "unet"})


def test_output_that_is_there(moore_files, sizes, tmp_path, capsys):
    output = tmp_path / "model"
    output.mkdir()
    (output / "mine").write_text("kept")
    assert main(["moore", *arguments(moore_files), "--output", str(output), *sizes]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["mine"]


def test_output_that_cannot_be_made(moore_files, sizes, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["moore", *arguments(moore_files), "--output", str(tmp_path / "file" / "model"), *sizes]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "file" in message


def test_disk_full(refused, moore_files, sizes):
    with largest_file(5_000_000):
        assert "File too large" in refused("moore", moore_files, *sizes)


def test_verification_without_the_libraries(refused, moore_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    message = refused("sd", {"image_encoder": moore_files["image_encoder"]}, "--verify")
    assert "--verify needs diffusers" in message


def test_pytorch_files_without_pytorch(refused, moore_files, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "needs torch" in refused("sd", {"image_encoder": moore_files["image_encoder"]})


def test_export_of_what_is_not_there(moore_files, sizes, tmp_path, capsys):
    model = tmp_path / "model"
    assert main(["sd", "--image-encoder", str(moore_files["image_encoder"]), "--output", str(model)]) == 0

    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["export", *arguments, "--output", str(tmp_path / "back")]) == 2
        assert not (tmp_path / "back").exists()
        return capsys.readouterr().err

    assert "no reference_unet and no denoising_unet" in refused("--model", str(model), "--to", "moore")
    assert "does not exist" in refused("--model", str(tmp_path / "nothing"), "--to", "sd")
    path = model / "image_encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "the manifest says" in refused("--model", str(model), "--to", "sd")
