"""What the tests with golden data share: the weights' recipe, layouts, errors, and a recorder of intermediate
results."""

import contextlib
import functools
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

TINY_FILES = {
    "reference-unet": "reference_unet",
    "denoising-unet": "denoising_unet",
    "motion-module": "motion_module",
    "pose-guider": "pose_guider",
}


def load(golden: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file; the test is skipped where only a part of the golden data is there."""
    if not (golden / name).is_file():
        pytest.skip(f"golden file {name} is not here")
    with np.load(golden / name) as file:
        return dict(file)


def read_json(golden: Path, name: str) -> dict:
    if not (golden / name).is_file():
        pytest.skip(f"golden file {name} is not here")
    return json.loads((golden / name).read_text())


@functools.cache
def recipe(golden: Path):
    """The module that makes the weights behind the golden data."""
    spec = importlib.util.spec_from_file_location("golden_recipe", golden / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def relative_error(ours, theirs) -> float:
    """Norm of the difference over the norm of the truth, after a check that shapes agree and all is finite."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{ours.shape} instead of {theirs.shape}"
    assert np.isfinite(ours).all()
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def channels_last(x: np.ndarray) -> np.ndarray:
    """PyTorch's (b, c, ...) as (b, ..., c)."""
    return np.moveaxis(x, 1, -1)


def channels_first(x) -> np.ndarray:
    """(b, ..., c) as PyTorch's (b, c, ...)."""
    return np.moveaxis(np.asarray(x), -1, 1)


def thin(x: np.ndarray) -> np.ndarray:
    """The golden data's `_slice` of an array: about eight places along every axis."""
    return x[tuple(slice(None, None, max(1, size // 8)) for size in x.shape)]


def recorded(network: nnx.Module, call: Callable, *args) -> tuple[object, dict[str, jax.Array]]:
    """`call(*args)`, and the result of every module of `network` on the way, by its path.

    Of a module that returns a tuple, the first item is kept.
    """
    modules = [(path, module) for path, module in nnx.iter_modules(network)]
    names = {id(module): ".".join(map(str, path)) for path, module in modules}
    found = {}

    def spy(original):
        def call_and_keep(module, *args, **options):
            out = original(module, *args, **options)
            if id(module) in names:
                found[names[id(module)]] = out[0] if isinstance(out, tuple) else out
            return out

        return call_and_keep

    with contextlib.ExitStack() as patches:
        for cls in {type(module) for _, module in modules}:
            if "__call__" in dir(cls):
                patches.enter_context(mock.patch.object(cls, "__call__", spy(cls.__call__)))
        return call(*args), found


def write_tiny_moore_files(golden: Path, folder: Path) -> list[str]:
    """The tiny networks as files in Moore-AnimateAnyone's layout; the converter's arguments for them."""
    shapes = json.loads((golden / "tiny/weights/shapes.json").read_text())
    component = json.loads((golden / "tiny/weights/recipe.config.json").read_text())["components"]
    arguments = ["moore"]
    for flag, name in TINY_FILES.items():
        state = recipe(golden).gen_state_dict(component.get(f"{name}.safetensors", name), shapes[name])
        save_file(state, folder / f"{name}.safetensors")
        arguments += [f"--{flag}", str(folder / f"{name}.safetensors")]
    for flag, name, file in (
        ("vae", "vae", "diffusion_pytorch_model.safetensors"),
        ("image-encoder", "image_encoder", "model.safetensors"),
    ):
        (folder / name).mkdir()
        save_file(recipe(golden).gen_state_dict(name, shapes[name]), folder / name / file)
        config = (golden / f"tiny/weights/{name}.config.json").read_text()
        (folder / name / "config.json").write_text(config)
        arguments += [f"--{flag}", str(folder / name)]
    arguments += ["--unet-config", str(golden / "tiny/weights/denoising_unet.config.json")]
    return [*arguments, "--motion-config", str(golden / "tiny/weights/inference_v2.config.json")]
