"""The public object beyond the recorded runs: no new compilation where none is due, reduced precision, long video,
other poses."""

import dataclasses
import json

import numpy as np
import pytest

from aa_jax.animator import Animator
from aa_jax.diffusion.samplers import DDIM
from aa_jax.pose import Keypoints
from aa_jax.pose.openpose import save_openpose
from aa_jax.pose.retarget import retarget
from aa_jax.preprocess import retarget_pose
from aa_jax.video import Video
from tests.golden_tools import recipe, relative_error


@pytest.fixture(scope="module")
def scene(golden):
    make = recipe(golden).gen_image
    return make("animator reference", 64, 64), np.stack([make(f"animator pose {i}", 64, 64) for i in range(5)])


OPTIONS = {"height": 64, "width": 64, "num_inference_steps": 2, "window_length": 4, "output_type": "np"}


def test_seed_and_guidance_do_not_compile_again(animator, scene):
    first = animator(*scene, **OPTIONS, seed=1, guidance_scale=2.0)
    count = animator.programs.compiled
    second = animator(*scene, **OPTIONS, seed=2, guidance_scale=2.0)
    third = animator(*scene, **OPTIONS, seed=1, guidance_scale=5.0)
    assert animator.programs.compiled == count
    assert relative_error(first, animator(*scene, **OPTIONS, seed=1, guidance_scale=2.0)) == 0
    assert relative_error(second, first) > 1e-2 and relative_error(third, first) > 1e-2


def test_progress_and_forms_of_a_pose(animator, scene):
    """Frames, a video and a path-like file are one; progress comes once per step, and a new listener compiles
    nothing."""
    reference, frames = scene
    steps = []
    plain = animator(reference, frames, **OPTIONS, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(0, 2), (1, 2), (2, 2)]
    count = animator.programs.compiled
    again = animator(
        reference, Video(frames=frames, fps=8.0), **OPTIONS, progress=lambda done, total: steps.append(done)
    )
    assert animator.programs.compiled == count and steps[3:] == [0, 1, 2]
    assert np.array_equal(plain, again)


def test_window_batches_and_frame_batches_change_nothing(animator, scene):
    whole = animator(*scene, **OPTIONS)
    parts = animator(*scene, **OPTIONS, window_batch=1, frame_batch=2)
    assert relative_error(parts, whole) < 1e-5


def test_keypoints_of_another_aspect(animator, scene):
    points = np.random.default_rng(0).random((2, 134, 2))
    pose = Keypoints(points=points, scores=np.ones((2, 134)), height=128, width=64)
    with pytest.raises(ValueError, match="pose is 64x128"):
        animator(scene[0], pose, **OPTIONS)
    fitted = animator(scene[0], pose, **OPTIONS, resize="letterbox")
    assert fitted.shape == (2, 64, 64, 3)


def test_retargeting_is_that_of_the_keypoints(animator, scene):
    """By hand and by argument the same."""
    rng = np.random.default_rng(0)
    pose = Keypoints(points=rng.random((5, 134, 2)), scores=np.ones((5, 134)), height=128, width=64)
    person = Keypoints(points=pose.points[:1] * (0.3, 0.6), scores=np.ones((1, 134)), height=64, width=64)
    by_hand = animator(scene[0], retarget(pose, person, method="affine"), **OPTIONS)
    given = animator(scene[0], pose, **OPTIONS, retarget="affine", reference_pose=person)
    assert np.array_equal(by_hand, given)


def test_the_references_pose_may_be_json_that_does_not_tell_its_size(tmp_path, scene):
    points = np.random.default_rng(0).random((2, 134, 2))
    pose = Keypoints(points=points, scores=np.ones((2, 134)), height=128, width=64)
    person = Keypoints(points=points[:1] * (0.3, 0.6), scores=np.ones((1, 134)), height=64, width=64)
    save_openpose(tmp_path / "person", person)
    (file,) = (tmp_path / "person").iterdir()
    document = {key: value for key, value in json.loads(file.read_text()).items() if not key.startswith("canvas")}
    file.write_text(json.dumps(document))
    result = retarget_pose(pose, scene[0], "affine", tmp_path / "person")
    np.testing.assert_allclose(result.points, retarget(pose, person, method="affine").points, atol=1e-4)


def test_output_types_and_latents(animator, scene):
    noise = np.random.default_rng(0).standard_normal((5, 8, 8, 4)).astype(np.float32)
    video = animator(*scene, **OPTIONS, latents=noise)
    pixels = animator(*scene, **OPTIONS | {"output_type": "uint8"}, latents=noise)
    assert pixels.dtype == np.uint8 and np.abs(pixels / 255 - video).max() <= 0.5 / 255 + 1e-6
    latents = animator(*scene, **OPTIONS | {"output_type": "latent"}, latents=noise)
    assert latents.shape == (5, 8, 8, 4)
    with pytest.raises(ValueError, match="latents have shape"):
        animator(*scene, **OPTIONS, latents=noise[:3])


def test_a_stochastic_sampler_follows_the_seed(animator, scene):
    run = lambda seed: animator(*scene, **OPTIONS | {"output_type": "latent"}, sampler=DDIM(eta=1.0), seed=seed)  # noqa: E731
    assert np.array_equal(run(1), run(1)) and not np.array_equal(run(1), run(2))


def test_bfloat16_is_near_float32(animator, moore_folder, scene):
    exact = animator(*scene, **OPTIONS)
    half = Animator.from_pretrained(moore_folder, dtype="bfloat16")
    assert {str(leaf.dtype) for leaf in half.leaves()} == {"bfloat16", "float32"}
    error = relative_error(half(*scene, **OPTIONS), exact)
    assert 0 < error < 0.1


def test_models_without_a_network(animator):
    config = dataclasses.replace(animator.config, vae=None)
    with pytest.raises(ValueError, match="has no vae, which animating takes"):
        Animator(config, {})
