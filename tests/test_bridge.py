"""The page on other programs, run from its first marked block to its last: a model becomes PyTorch's and comes back."""

import dataclasses
import warnings

import numpy as np
import pytest
from PIL import Image

from aa_jax.__main__ import main
from aa_jax.config import InferenceConfig
from aa_jax.models.config import MotionConfig, PoseGuiderConfig, UNetConfig, VAEConfig
from aa_jax.pose import Keypoints, save_keypoints
from aa_jax.tensor_file import read_tensors
from aa_jax.weights import open_tensors
from tests.pages import ROOT, blocks
from tests.small_models import SMALL_STACK, write_small_stack

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
STORY = [block for block in blocks(ROOT / "docs" / "bridge.md") if block.run]
# What the layout's files tell of temporal layers and pose guider is Moore's; all else may be small.
IMAGE = UNetConfig(
    block_out_channels=(32, 64),
    attention_levels=(True, False),
    layers_per_block=1,
    cross_attention_dim=8,
    num_attention_heads=2,
    norm_num_groups=8,
)
CONFIG = dataclasses.replace(
    SMALL_STACK,
    denoising_unet=dataclasses.replace(IMAGE, motion=MotionConfig()),
    reference_unet=IMAGE,
    pose_guider=PoseGuiderConfig(block_out_channels=(8, 8, 8, 16), out_channels=32),
    vae=VAEConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4),
    inference=InferenceConfig(num_inference_steps=1, guidance_scale=1.0, height=32, width=24),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The folder in which the page's commands were run, and the names that its Python has made."""
    folder = tmp_path_factory.mktemp("bridge")
    write_small_stack(folder / "model", CONFIG)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (80, 60, 3), np.uint8)).save(folder / "person.png")
    points = rng.uniform(0.1, 0.9, (2, 134, 2))
    pose = Keypoints(points=points, scores=np.ones((2, 134)), height=80, width=60, fps=12.0)
    save_keypoints(folder / "dance.npz", pose)
    names = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers' own
        patch.chdir(folder)
        for block in STORY:
            if block.language == "python":
                exec(block.text, names)
            else:
                assert [main(words[1:]) for words in block.commands()] == [0] * len(block.commands())
    return folder, names


def test_all_of_it_is_run():
    assert [block.language for block in STORY] == ["sh", "python", "python", "python", "sh"]


def test_the_files_are_named(told):
    folder, _ = told
    page = (ROOT / "docs" / "bridge.md").read_text()
    assert all(f"| `{path.name}{'/' * path.is_dir()}` |" in page for path in (folder / "published").iterdir())


def test_frames_are_the_same_there(told):
    _, names = told
    expected = names["animator"].decode(names["latents"])
    assert names["frames"].shape == expected.shape == (2, 32, 24, 3) and expected.std() > 0.05
    np.testing.assert_allclose(names["frames"], expected, atol=1e-5)


def test_the_unets_are_whole(told):
    """The video UNet has the image UNet's weights, and the reference's file lacks the layers that the page names."""
    folder, names = told
    image, video = names["unet"].state_dict(), names["video_unet"].state_dict()
    assert all((video[key] == value).all() for key, value in image.items()) and len(video) > len(image)
    file = read_tensors(folder / "published" / "reference_unet.safetensors")
    lacking = set(names["reference_unet"].state_dict()) - set(file)
    assert {key.rpartition(".")[0] for key in lacking} == {"conv_norm_out", "conv_out"}


def test_what_comes_back_is_what_went(told):
    folder, _ = told
    for network in CONFIG.networks:
        before, after = (open_tensors(folder / name, network) for name in ("model", "again"))
        assert set(before) == set(after)
        for key, tensor in before.items():
            np.testing.assert_array_equal(after[key].read(), tensor.read(), err_msg=f"{network} {key}")
