"""The examples that come with the page."""

import numpy as np
import pytest
from PIL import Image

from aa_jax.data.synthetic.source import HELD_OUT
from aa_jax.pose.files import load_keypoints
from aa_jax.web import examples


def test_they_are_whole():
    for name in examples.CHARACTERS:
        with Image.open(examples.picture(name)) as picture:
            assert picture.size == (examples.WIDTH, examples.HEIGHT)
        assert len(load_keypoints(examples.keypoints(name), height=examples.HEIGHT, width=examples.WIDTH)) == 1
    for name in examples.MOTIONS:
        motion = load_keypoints(examples.keypoints(name))
        assert len(motion) == examples.FRAMES and motion.fps == 12
        assert np.ptp(motion.points, axis=0).max() > 0.1  # it moves
    files = {path.stem for path in examples.FOLDER.iterdir()}
    assert files == {*examples.CHARACTERS, *examples.MOTIONS}


def test_characters_are_held_out_and_motions_are_others_s():
    characters, motions = examples.character_clips(), examples.motion_clips()
    assert all(clip.identity >= HELD_OUT for clip in characters.values())
    shown, driving = ({clip.identity for clip in characters.values()}, {clip.driver for clip in motions.values()})
    assert len(shown) == len(characters) and all(driver >= HELD_OUT for driver in driving) and not shown & driving


@pytest.mark.full
def test_they_are_what_the_synthetic_characters_give(tmp_path):
    examples.write(tmp_path)
    for path in examples.FOLDER.iterdir():
        if path.suffix == ".png":
            with Image.open(path) as old, Image.open(tmp_path / path.name) as new:
                assert np.abs(np.asarray(old).astype(int) - np.asarray(new)).mean() < 0.5
        else:
            old, new = load_keypoints(path), load_keypoints(tmp_path / path.name)
            assert np.abs(old.points - new.points).max() < 1e-3 and np.array_equal(old.scores, new.scores)
