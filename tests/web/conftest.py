"""A small model of random weights, and what visitors upload."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from aa_jax.animator import Animator
from aa_jax.config import InferenceConfig
from aa_jax.pose import Keypoints, save_keypoints
from aa_jax.video import write_video
from aa_jax.web import job
from tests.small_models import SMALL_STACK, write_small_stack
from tests.web.server import LIMITS


@pytest.fixture(scope="session")
def web_model(tmp_path_factory):
    """Its folder; frames of 64x48, which is the aspect of the examples."""
    inference = InferenceConfig(num_inference_steps=2, height=64, width=48, window_length=4)
    return write_small_stack(
        tmp_path_factory.mktemp("web") / "model", dataclasses.replace(SMALL_STACK, inference=inference)
    )


@pytest.fixture(scope="session")
def small_animator(web_model):
    return Animator.from_pretrained(web_model)


@pytest.fixture(scope="session")
def limits():
    return LIMITS


@pytest.fixture(scope="session")
def uploads(tmp_path_factory):
    """A folder of good files: an image, a drawn pose as video and images, and keypoints."""
    folder = tmp_path_factory.mktemp("uploads")
    rng = np.random.default_rng(0)
    patches = Image.fromarray(rng.integers(0, 256, (4, 3, 3), np.uint8))  # that a video keeps
    patches.resize((96, 128), Image.Resampling.BILINEAR).save(folder / "person.png")
    frames = rng.integers(0, 256, (8, 64, 48, 3), np.uint8)
    write_video(folder / "drawn.mp4", frames, 10)
    write_video(folder / "frames", frames, 10)
    points = rng.random((8, 134, 2))
    save_keypoints(
        folder / "dance.npz", Keypoints(points=points, scores=np.ones((8, 134)), height=64, width=48, fps=10)
    )
    own = Keypoints(points=points[:1], scores=np.ones((1, 134)), height=128, width=96)
    save_keypoints(folder / "person.npz", own)
    return folder


@pytest.fixture(scope="session")
def request_of(uploads):
    """A good request, some fields of which may be others."""

    def make(**changes):
        usual = job.Request(
            reference=uploads / "person.png", pose=[uploads / "drawn.mp4"], height=64, width=48, frames=3, steps=2,
            guidance_scale=2.0,
        )  # fmt: skip
        return dataclasses.replace(usual, **changes)

    return make
