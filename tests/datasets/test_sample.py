"""Samples: which frames, what size, what is changed alike."""

import dataclasses

import numpy as np
import pytest

from aa_jax.data.colour import ColourJitter
from aa_jax.data.sample import SampleConfig, choose_frames, make_sample
from aa_jax.pose.draw import draw_poses
from aa_jax.pose.fit import fit_keypoints
from aa_jax.pose.flip import flip_keypoints
from tests.datasets.made_up import DrawnMadeUpClip, MadeUpClip

SAME = SampleConfig(height=12, width=8)


def rng(seed=0):
    return np.random.default_rng(seed)


def many(clip, config, count=400):
    generator = rng()
    return [choose_frames(clip, config, generator) for _ in range(count)]


def test_reference_and_target_come_from_the_whole_clip():
    chosen = many(MadeUpClip(0, 10), SAME, 2000)
    assert {reference for reference, _ in chosen} == {target for _, (target,) in chosen} == set(range(10))
    pairs = np.histogram2d([r for r, _ in chosen], [t for _, (t,) in chosen], bins=10)[0]
    assert pairs.min() > 4  # independent: 20 are expected of each pair


def test_margin():
    far = dataclasses.replace(SAME, margin=30)
    assert all(abs(reference - target) >= 30 for reference, (target,) in many(MadeUpClip(0, 70), far))
    # A clip that is too short for it gives any frame.
    assert {target for _, (target,) in many(MadeUpClip(0, 10), far)} == set(range(10))


def test_several_targets_of_a_reference():
    chosen = many(MadeUpClip(0, 10), dataclasses.replace(SAME, num_frames=4))
    assert all(len(set(targets)) == 4 for _, targets in chosen)
    assert all(len(targets) == 4 for _, targets in many(MadeUpClip(0, 3), dataclasses.replace(SAME, num_frames=4)))


@pytest.mark.parametrize(("length", "stride"), [(100, 4), (93, 4), (92, 3), (24, 1), (47, 2)])
def test_clips_have_the_asked_stride_or_as_much_as_fits(length, stride):
    config = dataclasses.replace(SAME, frames="clip", num_frames=24, stride=4)
    chosen = many(MadeUpClip(0, length), config)
    assert all(set(np.diff(targets)) == {stride} for _, targets in chosen)
    starts = {targets[0] for _, targets in chosen}
    assert min(starts) == 0 and max(targets[-1] for _, targets in chosen) == length - 1
    assert {reference for reference, _ in chosen} > {0, length - 1}


def test_a_clip_that_is_too_short():
    with pytest.raises(ValueError, match=r"clip 3 has 23 frames, but samples take 24: leave it out"):
        make_sample(MadeUpClip(3, 23), dataclasses.replace(SAME, frames="clip", num_frames=24), rng())


def test_shapes_and_contents():
    config = SampleConfig(height=24, width=16, frames="clip", num_frames=3, clip_size=14)
    sample = make_sample(MadeUpClip(7, 9), config, rng())
    assert {name: array.shape for name, array in sample.items()} == {
        "reference": (24, 16, 3),
        "whole_reference": (14, 14, 3),
        "target": (3, 24, 16, 3),
        "pose": (3, 24, 16, 3),
    }
    assert all(array.dtype == np.uint8 for array in sample.values())
    assert (sample["target"][..., 0] == 7).all() and sample["pose"].any()


@pytest.mark.parametrize("mode", ["crop", "letterbox"])
def test_poses_are_those_of_the_targets_at_their_size(mode):
    clip, config = MadeUpClip(1, 20), SampleConfig(height=48, width=64, num_frames=2, resize=mode)
    _, targets = choose_frames(clip, config, rng(3))
    sample = make_sample(clip, config, rng(3))
    fitted = fit_keypoints(clip.keypoints, 48, 64, mode)
    drawn = draw_poses(fitted, height=48, width=64, style=config.style)
    np.testing.assert_array_equal(sample["pose"], drawn[targets])


def test_a_flip_mirrors_everything():
    config = SampleConfig(height=96, width=64)
    plain = make_sample(MadeUpClip(1, 20), config, rng(1))
    mirrored = make_sample(MadeUpClip(1, 20), dataclasses.replace(config, flip=1.0), rng(1))
    for name in ("reference", "whole_reference", "target"):
        np.testing.assert_array_equal(mirrored[name], plain[name][..., ::-1, :])
        assert (mirrored[name] != plain[name]).any()
    keypoints = flip_keypoints(MadeUpClip(1, 20).keypoints)
    _, (target,) = choose_frames(MadeUpClip(1, 20), config, rng(1))
    drawn = draw_poses(keypoints, height=96, width=64, style=config.style)
    np.testing.assert_array_equal(mirrored["pose"], drawn[[target]])
    assert (mirrored["pose"] != plain["pose"]).any()


def test_drawn_poses():
    clip, config = DrawnMadeUpClip(MadeUpClip(1, 20)), dataclasses.replace(SAME, num_frames=3)
    sample = make_sample(clip, config, rng())
    np.testing.assert_array_equal(sample["pose"], 3 * sample["target"])
    with pytest.raises(ValueError, match="clip 1 has drawn poses, which cannot be mirrored"):
        make_sample(clip, dataclasses.replace(config, flip=1.0), rng())


def test_colours_change_alike():
    jitter = ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
    clip, config = MadeUpClip(200, 20), dataclasses.replace(SAME, frames="clip", num_frames=20, colour=jitter)
    plain = make_sample(clip, dataclasses.replace(config, colour=ColourJitter()), rng(1))
    changed = make_sample(clip, config, rng(1))
    assert (changed["target"] != plain["target"]).any()
    np.testing.assert_array_equal(changed["pose"], plain["pose"])
    # The reference is one of the targets: it is changed as that frame is.
    frame = int(plain["reference"][0, 0, 1])
    np.testing.assert_array_equal(plain["reference"], plain["target"][frame])
    np.testing.assert_array_equal(changed["reference"], changed["target"][frame])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, "height is 0"),
        ({"frames": "pair"}, "frames is 'pair', expected one of"),
        ({"resize": "stretch"}, "resize is 'stretch'"),
        ({"margin": -1}, "margin is -1"),
        ({"flip": 1.5}, "flip is 1.5, expected a probability"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SAME, **change)
