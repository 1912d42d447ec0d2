"""Source files of every published system: their true keys, small widths, random weights by the golden recipe."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.tools.files import save, save_folder

CLIP_WIDTHS = {1024: 64, 4096: 128, 768: 32}
# The recipe's component of a key list; motion modules are part of the denoiser.
COMPONENTS = {"motion_module": "denoising_unet"}

StateDict = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def recipe(golden: Path) -> ModuleType:
    """The golden data's weight recipe."""
    if not (golden / "recipe.py").exists():
        pytest.skip("no golden data")
    spec = importlib.util.spec_from_file_location("recipe", golden / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def keys(golden: Path) -> Callable[[str], Mapping[str, tuple[int, ...]]]:
    """A published file's full key list, at its true size."""

    def read(name: str) -> Mapping[str, tuple[int, ...]]:
        if not (golden / "keys").is_dir():
            pytest.skip("no golden data")
        return {key: tuple(shape) for key, shape in json.loads((golden / "keys" / f"{name}.json").read_text()).items()}

    return read


@pytest.fixture(scope="session")
def small_shapes(golden: Path, keys: Callable) -> Callable[[str], Mapping[str, tuple[int, ...]]]:
    """A published file's full key list with the shapes of the tiny networks."""
    path = golden / "tiny" / "weights" / "shapes.json"
    if not path.exists():
        pytest.skip("no golden data")
    tiny = json.loads(path.read_text())
    known = {key: shape for name in ("denoising_unet", "motion_module", "vae") for key, shape in tiny[name].items()}
    deprecated = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

    def shrink(name: str) -> Mapping[str, tuple[int, ...]]:
        full = keys(name)
        if name.startswith("image_encoder"):
            return {key: tuple(CLIP_WIDTHS.get(size, size) for size in shape) for key, shape in full.items()}
        shapes = {}
        for key, shape in full.items():
            current = key
            for old, new in deprecated.items():
                current = current.replace(f".attentions.0.{old}.", f".attentions.0.{new}.")
            small = known[current]
            # The number of positions is what tells AnimateDiff's versions apart.
            shapes[key] = (1, shape[1], small[2]) if key.endswith(".pe") else tuple(small)
        return shapes

    return shrink


@pytest.fixture(scope="session")
def small_weights(recipe: ModuleType, small_shapes: Callable) -> Callable[[str, str], StateDict]:
    """Random weights of a component for a published key list."""

    def make(component: str, name: str) -> StateDict:
        shapes = small_shapes(name)
        return {key: recipe.gen_tensor(component, key, shape) for key, shape in shapes.items()}

    return make


@pytest.fixture(scope="session")
def configs(golden: Path) -> Path:
    """Folder of the tiny networks' config files."""
    return golden / "tiny" / "weights"


@pytest.fixture(scope="session")
def shared_files(tmp_path_factory: pytest.TempPathFactory, small_weights: Callable, configs: Path) -> dict[str, Path]:
    """The files that all Animate Anyone systems share the layout of; pose guiders are each system's own."""
    folder = tmp_path_factory.mktemp("files")
    clip_config = folder / "clip.json"
    declared = json.loads((configs / "image_encoder.config.json").read_text())
    clip_config.write_text(json.dumps({**declared, "num_hidden_layers": 24}))
    vae = small_weights("vae", "vae_sd_ft_mse_deprecated_names")
    clip = small_weights("image_encoder", "image_encoder_transformers_4_30")
    return {
        "reference_unet": save(small_weights("reference_unet", "moore_reference_unet"), folder / "reference_unet.pth"),
        "denoising_unet": save(
            small_weights("denoising_unet", "moore_denoising_unet_stage1_no_motion"), folder / "denoising_unet.pth"
        ),
        "motion_module": save(small_weights("denoising_unet", "moore_motion_module"), folder / "motion_module.pth"),
        "vae": save_folder(vae, folder / "vae", configs / "vae.config.json", "diffusion_pytorch_model.bin"),
        "image_encoder": save_folder(clip, folder / "image_encoder", clip_config, "pytorch_model.bin"),
    }


@pytest.fixture(scope="session")
def moore_files(shared_files: dict[str, Path], recipe: ModuleType, keys: Callable) -> dict[str, Path]:
    """Moore-AnimateAnyone's files."""
    shapes = {key: tuple(32 if size == 320 else size for size in shape) for key, shape in keys("pose_guider").items()}
    weights = recipe.gen_state_dict("pose_guider", shapes)
    return {**shared_files, "pose_guider": save(weights, shared_files["reference_unet"].parent / "pose_guider.pth")}


@pytest.fixture(scope="session")
def sizes(configs: Path) -> list[str]:
    """Arguments that tell the converter the tiny sizes."""
    return ["--unet-config", str(configs / "denoising_unet.config.json")]
