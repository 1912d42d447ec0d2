"""The model that comes with the package: it heeds the reference and the poses, and beats copying, on characters it has
not seen."""

import functools

import numpy as np
import pytest

from aa_jax.animator import Animator
from aa_jax.data.synthetic.source import SyntheticSource
from aa_jax.evaluation.conditions import conditions
from aa_jax.evaluation.protocols import PROTOCOLS
from aa_jax.metrics.image import psnr

CLIPS, FRAMES = 4, 8


@pytest.fixture(scope="module")
def footage():
    """Of each clip what goes in, the true frames, and where the character is in them."""
    source = SyntheticSource(split="identity", num_clips=CLIPS, num_frames=FRAMES, height=64, width=48)
    clips = [source[index] for index in range(CLIPS)]
    given = [conditions(clip, PROTOCOLS["characters-small"]) for clip in clips]
    return given, [(clip.frames(range(FRAMES)), clip.masks(range(FRAMES))) for clip in clips]


@pytest.fixture(scope="module")
def score(footage):
    """Mean PSNR of the character over the clips, with references and poses of other clips if asked for."""
    animator = Animator.from_pretrained("bundled")
    given, true = footage

    @functools.cache
    def mean(seed=0, reference=0, pose=0):
        found = []
        for index, (truth, masks) in enumerate(true):
            shown, driving = given[(index + reference) % CLIPS].reference, given[(index + pose) % CLIPS].pose
            found.append(psnr(animator(shown, driving, seed=seed), truth, masks).mean())
        return np.mean(found)

    return mean


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beats_the_reference_in_place_of_every_frame(footage, score, seed):
    given, true = footage
    copies = [
        psnr(np.broadcast_to(one.reference, truth.shape), truth, masks)
        for one, (truth, masks) in zip(given, true, strict=True)
    ]
    assert score(seed=seed) > np.mean(copies) + 1


def test_a_wrong_reference_gives_a_wrong_character(score):
    assert score(seed=0) > score(reference=1) + 1


def test_a_wrong_pose_gives_wrong_movement(score):
    assert score(seed=0) > score(pose=1) + 1
