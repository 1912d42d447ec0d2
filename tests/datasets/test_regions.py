"""Weights of hands, face and body."""

import dataclasses
import json

import numpy as np
import pytest

from aa_jax.config import build
from aa_jax.data.cache import open_cache, write_cache
from aa_jax.data.regions import RegionWeights, region_weights
from aa_jax.data.sample import SampleConfig, choose_frames, fitted_keypoints, make_sample
from aa_jax.pose.flip import flip_keypoints
from aa_jax.pose.keypoints import BODY, FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, Keypoints
from tests.datasets.made_up import DrawnMadeUpClip, MadeUpClip

WEIGHTS = RegionWeights(hands=5, face=3, body=2)
# Corners, as x and y in pixels.
HAND_BOX = ((40, 16), (61, 37))
FACE_BOX = ((100, 20), (116, 50))
CONFIG = SampleConfig(height=96, width=64, num_frames=3, regions=WEIGHTS)


def person(*parts: str, height: int = 160, width: int = 128, frames: int = 1) -> Keypoints:
    """A hand and a face whose points fill their boxes, and a body apart from them that stands upright."""
    rng = np.random.default_rng(0)
    points, scores = np.full((frames, NUM_KEYPOINTS, 2), 1e9), np.zeros((frames, NUM_KEYPOINTS))
    for name, part, (low, high) in (("hand", LEFT_HAND, HAND_BOX), ("face", FACE, FACE_BOX)):
        if name in parts:
            points[:, part] = rng.uniform(low, high, points[:, part].shape)
            points[:, part.start], points[:, part.start + 1] = low, high
            scores[:, part] = 0.3
    if "body" in parts:
        places = {1: (64, 60), 2: (52, 60), 5: (76, 60), 8: (56, 108), 11: (72, 108), 9: (56, 140), 10: (56, 156)}
        for joint, place in places.items():
            points[:, joint], scores[:, joint] = place, 1
    return Keypoints(points=points / (width, height), scores=scores, height=height, width=width)


def box(low, high) -> np.ndarray:
    """The pixels that a box has a part of, with a quarter of its longer side around it."""
    margin = max(np.subtract(high, low)) / 4 + 0.5
    y, x = np.mgrid[:160, :128] + 0.5
    return (abs(x - (low[0] + high[0]) / 2) < (high[0] - low[0]) / 2 + margin) & (
        abs(y - (low[1] + high[1]) / 2) < (high[1] - low[1]) / 2 + margin
    )


def test_boxes_of_hand_and_face():
    weight = region_weights(person("hand", "face"), WEIGHTS, 1)[0]
    expected = np.ones((160, 128), np.float32)
    expected[box(*FACE_BOX)], expected[box(*HAND_BOX)] = 3, 5
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, expected)
    assert region_weights(person("hand", "face"), RegionWeights(hands=5), 1).max() == 5
    assert set(np.unique(region_weights(person("hand", "face"), RegionWeights(body=5), 1))) == {1}


def test_limbs_are_an_eighth_of_the_torso_wide():
    weight = region_weights(person("body"), WEIGHTS, 1)[0]
    # The torso is 48 pixels long; a shin stands at x = 56, from y = 140 to 156.
    assert weight[148, 53:59].min() == 2 and weight[148, :51].max() == weight[148, 62:].max() == 1
    assert (weight[148] == 2).sum() in (6, 7)
    assert weight[80, 58:71].min() == 2  # between neck and hips
    assert weight[:54].max() == 1 and weight[114:, 62:].max() == 1


def test_limbs_without_a_torso():
    """Their width is an eighth of the skeleton's height: here from y = 108 to 156."""
    keypoints = person("body")
    keypoints.scores[:, [1, 2, 5, 11]] = 0
    weight = region_weights(keypoints, WEIGHTS, 1)[0]
    assert (weight[148] == 2).sum() in (6, 7) and weight[:100].max() == 1


def test_nothing_where_no_point_is_seen():
    unseen = person("hand", "face", "body")
    unseen.scores[:] = 0.29
    assert (region_weights(unseen, WEIGHTS, 8) == 1).all()
    for part, others in (
        (BODY, ("hand", "face")),
        (FACE, ("hand", "body")),
        (LEFT_HAND, ("face", "body")),
    ):
        keypoints = person("hand", "face", "body")
        keypoints.scores[:, part] = 0
        np.testing.assert_array_equal(
            region_weights(keypoints, WEIGHTS, 8), region_weights(person(*others), WEIGHTS, 8)
        )


def test_the_largest_counts_where_regions_overlap():
    everywhere = person("hand", "face", "body")
    each = [region_weights(person(part), WEIGHTS, 1) for part in ("hand", "face", "body")]
    np.testing.assert_array_equal(region_weights(everywhere, WEIGHTS, 1), np.max(each, axis=0))
    both = person("hand", "body")
    both.points[:, LEFT_HAND] += (0.1, 0.3)  # onto the torso
    inside = region_weights(both, WEIGHTS, 1) == 5
    assert inside.sum() == (region_weights(person("hand"), WEIGHTS, 1) == 5).sum()
    body = region_weights(both, RegionWeights(hands=2, body=5), 1)
    np.testing.assert_array_equal(body == 5, region_weights(person("body"), WEIGHTS, 1) == 2)


@pytest.mark.parametrize("downscale", [4, 8, 16])
def test_latents_get_the_mean_of_their_pixels(downscale):
    keypoints = person("hand", "face", "body")
    pixels = region_weights(keypoints, WEIGHTS, 1)
    mean = pixels.reshape(1, 160 // downscale, downscale, 128 // downscale, downscale).mean((2, 4))
    np.testing.assert_allclose(region_weights(keypoints, WEIGHTS, downscale), mean, rtol=1e-6)


def test_motion():
    """Every frame has the weights of its own pose, at its own places, and mirrored they are the mirrored pose's."""
    rng, keypoints = np.random.default_rng(0), person("hand", "face", "body", height=256, width=192, frames=4)
    keypoints.points[:, RIGHT_HAND] = rng.uniform(0.7, 0.8, (21, 2))
    keypoints.scores[:, RIGHT_HAND] = 1
    for part in (BODY, LEFT_HAND, RIGHT_HAND, FACE):
        shape = keypoints.points[:, part].shape
        keypoints.points[:, part] += rng.normal(0, 0.03, (4, 1, 2)) + rng.normal(0, 0.01, shape)
    weight, pixels = region_weights(keypoints, WEIGHTS, 8), region_weights(keypoints, WEIGHTS, 1)
    assert weight.shape == (4, 32, 24) and (weight[0] != weight[1]).any()
    for frame in range(4):
        chosen = [array[frame : frame + 1] for array in (keypoints.points, keypoints.scores)]
        alone = dataclasses.replace(keypoints, points=chosen[0], scores=chosen[1])
        np.testing.assert_array_equal(region_weights(alone, WEIGHTS, 8)[0], weight[frame])
    for part, least in ((LEFT_HAND, 5), (RIGHT_HAND, 5), (FACE, 3), (BODY, 2)):
        frames, joints = np.nonzero(keypoints.scores[:, part] >= 0.3)
        x, y = (keypoints.points[:, part][frames, joints] * (192, 256)).astype(int).T
        assert len(x) and pixels[frames, y, x].min() >= least
    mirrored = region_weights(flip_keypoints(keypoints), WEIGHTS, 8)
    difference = abs(mirrored - weight[..., ::-1])  # OpenCV's limbs are a pixel wider on one side
    assert difference.max() < 0.25 and 10 * difference.mean() < abs(mirrored - weight).mean()


def test_samples_without_weights_by_default():
    config = dataclasses.replace(CONFIG, regions=RegionWeights(hands=1, face=1, body=1))
    assert "weight" not in make_sample(MadeUpClip(1, 20), config, np.random.default_rng(0))


@pytest.mark.parametrize(("flip", "resize"), [(0.0, "crop"), (1.0, "crop"), (0.0, "letterbox")])
def test_samples_have_the_weights_of_their_targets(flip, resize):
    clip, config = MadeUpClip(1, 20, height=50), dataclasses.replace(CONFIG, flip=flip, resize=resize)
    sample = make_sample(clip, config, np.random.default_rng(2))
    _, targets = choose_frames(clip, config, np.random.default_rng(2))
    keypoints = fitted_keypoints(clip, targets, config, flip=bool(flip))
    assert sample["weight"].shape == (3, 12, 8) and sample["weight"].dtype == np.float32
    np.testing.assert_array_equal(sample["weight"], region_weights(keypoints, WEIGHTS, 8))
    plain = make_sample(clip, dataclasses.replace(config, regions=RegionWeights()), np.random.default_rng(2))
    assert sorted(sample) == sorted([*plain, "weight"])
    for name, array in plain.items():
        np.testing.assert_array_equal(sample[name], array)


def test_cached_samples(tmp_path):
    source = [MadeUpClip(0, 5)]
    write_cache(tmp_path, source, CONFIG, lambda frames, whole: {"moments": frames}, made_with="a")
    cached = open_cache(tmp_path, source, CONFIG, made_with="a")
    sample, plain = (make_sample(clip, CONFIG, np.random.default_rng(0)) for clip in (cached[0], source[0]))
    assert sorted(sample) == ["pose", "reference_moments", "target_moments", "weight"]
    np.testing.assert_array_equal(sample["weight"], plain["weight"])


def test_drawn_poses_have_no_regions():
    with pytest.raises(ValueError, match="clip 1 has drawn poses, which have no regions: set their weights to 1"):
        make_sample(DrawnMadeUpClip(MadeUpClip(1, 20)), CONFIG, np.random.default_rng(0))


def test_from_json():
    data = json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    assert build(SampleConfig, data, "sample") == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_downscale": 0}, "latent_downscale is 0, expected 1 or more"),
        ({"height": 100}, r"height is 100, expected a multiple of latent_downscale \(8\)"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
    dataclasses.replace(CONFIG, regions=RegionWeights(), height=100)


@pytest.mark.parametrize("weight", [0, -1.0, float("inf"), float("nan")])
def test_bad_weights(weight):
    with pytest.raises(ValueError, match="RegionWeights.face is .*, expected a positive number"):
        RegionWeights(face=weight)
