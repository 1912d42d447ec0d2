"""A small system with other latents than Stable Diffusion's, of a quarter of the image's size and 12 channels: saved,
loaded and animated as any other."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from aa_jax import animate
from aa_jax.animator import Animator
from aa_jax.pose import Keypoints, save_keypoints
from aa_jax.video import read_video
from aa_jax.weights import load_config
from tests.golden_tools import relative_error
from tests.small_models import SMALL_STACK, write_small_stack

HEIGHT, WIDTH = 64, 48
SIZE = {"height": HEIGHT, "width": WIDTH}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_stack(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="module")
def animator(folder):
    return Animator.from_pretrained(folder)


@pytest.fixture(scope="module")
def reference():
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def pose():
    points = np.random.default_rng(2).random((3, 134, 2))
    return Keypoints(points=points, scores=np.ones((3, 134)), height=HEIGHT, width=WIDTH, fps=10)


def test_the_folder_says_the_downscale(folder):
    config = load_config(folder)
    assert config == SMALL_STACK
    assert config.downscale == config.vae.downscale == config.pose_guider.downscale == 4


def test_latents_are_a_quarter_of_the_video(animator, reference, pose):
    """The noise counts place by place: latents in, latents out, and their video."""
    noise = np.random.default_rng(3).standard_normal((3, 16, 12, 12)).astype(np.float32)
    latents = animator(reference, pose, **SIZE, latents=noise, output_type="latent")
    assert latents.shape == noise.shape
    assert relative_error(animator(reference, pose, **SIZE, latents=noise[::-1], output_type="latent"), latents) > 1e-2
    video = animator(reference, pose, **SIZE, latents=noise, output_type="np")
    assert video.shape == (3, HEIGHT, WIDTH, 3) and video.std() > 1e-2
    np.testing.assert_allclose(animator.decode(latents), video, atol=1e-6)


def test_reference_and_pose_reach_the_result(animator, reference, pose):
    options = {**SIZE, "output_type": "latent"}
    latents = animator(reference, pose, **options)
    still = dataclasses.replace(pose, points=np.repeat(pose.points[:1], 3, axis=0))
    assert relative_error(animator(255 - reference, pose, **options), latents) > 1e-4
    assert relative_error(animator(reference, still, **options), latents) > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 62}, "height is 62, expected a positive multiple of 4, such as 64"),
        ({"width": 50}, "width is 50, expected a positive multiple of 4, such as 48"),
        ({"height": 0}, "height is 0, expected a positive multiple of 4, such as 4"),
        ({"latents": np.zeros((3, 8, 6, 4))}, r"latents have shape \(3, 8, 6, 4\), expected \(3, 16, 12, 12\)"),
    ],
)
def test_sizes_that_cannot_be(animator, reference, pose, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        animator(reference, pose, **SIZE | options)
    assert "\n" not in str(caught.value)


def test_sizes_that_cannot_be_the_models_own(animator):
    assert animator.with_inference(height=60).config.inference.height == 60
    with pytest.raises(ValueError, match="height is 62, expected a positive multiple of 4"):
        animator.with_inference(height=62)


@pytest.fixture
def arguments(folder, reference, pose, tmp_path):
    Image.fromarray(reference).save(tmp_path / "reference.png")
    save_keypoints(tmp_path / "pose.npz", pose)
    given = {"model": folder, "reference": tmp_path / "reference.png", "pose": tmp_path / "pose.npz"}
    return [f"--{name}={value}" for name, value in {**given, "output": tmp_path / "out.mp4"}.items()]


def test_the_command_takes_the_size_from_the_model(arguments, tmp_path):
    assert animate.main([*arguments, "--resize", "crop", "--quiet"]) == 0
    frames = read_video(tmp_path / "out.mp4").frames
    assert frames.shape == (3, 52, 44, 3) and frames.std() > 1


def test_the_command_refuses_sizes_before_weights_are_read(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("aa_jax.animate.Animator", None)
    assert animate.main([*arguments, "--height", "62"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "height is 62, expected a positive multiple of 4" in line
    assert not (tmp_path / "out.mp4").exists()
