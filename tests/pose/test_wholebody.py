"""COCO-WholeBody arrays: orders, the neck, people, and malformed arrays."""

import numpy as np
import pytest

from aa_jax.pose.wholebody import coco_to_openpose, from_dwpose, from_rtmlib, openpose_to_coco, to_arrays
from tests.pose.clips import assert_same_clip, make_clip

SIZE = {"height": 720, "width": 1280}


@pytest.mark.parametrize("read", [from_dwpose, from_rtmlib])
@pytest.mark.parametrize("several", [False, True])
def test_round_trip(read, several):
    clip = make_clip(5)
    points, scores = to_arrays(clip)
    assert points.shape == (5, 134, 2) and points.max() > 100
    if several:
        points, scores = points[:, None], scores[:, None]
    assert_same_clip(read(points, scores, **SIZE), clip)


def test_round_trip_without_the_neck():
    """The neck comes back as the middle of the shoulders; its score as rtmlib's, or DWPose's."""
    clip = make_clip(5)
    points, scores = to_arrays(clip, layout="coco")
    assert points.shape == (5, 133, 2)
    assert_same_clip(from_rtmlib(points, scores, **SIZE), clip)
    loaded = from_dwpose(points, scores, **SIZE)
    assert_same_clip(loaded, clip, [0, *range(2, 134)])
    assert (loaded.scores[:, 1] == 1).all()


def test_names_of_the_body_in_both_orders():
    sides = ("left", "right")
    coco = ["nose", *(f"{side} {part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist") for side in sides)]
    coco += [f"{side} {part}" for part in ("hip", "knee", "ankle") for side in sides]
    openpose = ["nose", "neck"]
    openpose += [f"{side} {part}" for side in ("right", "left") for part in ("shoulder", "elbow", "wrist")]
    openpose += [f"{side} {part}" for side in ("right", "left") for part in ("hip", "knee", "ankle")]
    openpose += [f"{side} {part}" for part in ("eye", "ear") for side in ("right", "left")]
    points = np.stack([np.arange(133), np.arange(133)], axis=1).astype(float)
    ordered, _ = coco_to_openpose(points, np.ones(133), neck="dwpose")
    for place, name in enumerate(openpose):
        assert ordered[place, 0] == (5.5 if name == "neck" else coco.index(name)), name
    np.testing.assert_array_equal(ordered[18:, 0], np.arange(17, 133))


def test_orders_are_inverse():
    rng = np.random.default_rng(0)
    points, scores = rng.random((2, 3, 133, 2)), rng.random((2, 3, 133))
    there_and_back = openpose_to_coco(*coco_to_openpose(points, scores, neck="minimum"))
    np.testing.assert_array_equal(there_and_back[0], points)
    np.testing.assert_array_equal(there_and_back[1], scores)


@pytest.mark.parametrize(
    ("shoulders", "dwpose", "minimum"), [((0.8, 0.4), 1, 0.4), ((0.3, 0.9), 0, 0.3), ((0.1, 0.2), 0, 0.1)]
)
def test_score_of_the_neck(shoulders, dwpose, minimum):
    scores = np.full(133, 0.5)
    scores[5:7] = shoulders
    for neck, expected in (("dwpose", dwpose), ("minimum", minimum)):
        _, ordered = coco_to_openpose(np.zeros((133, 2)), scores, neck=neck)
        assert ordered[1] == expected


def test_people_come_and_go():
    """Nobody as None, as an empty array, or as an empty list; the same person whatever its place."""
    points, scores = to_arrays(make_clip(6))
    other = points + [400, 0]
    both = [np.stack([points[2], other[2]]), np.stack([other[3], points[3]])]
    weights = [np.stack([scores[2], scores[2] / 2]), np.stack([scores[3] / 2, scores[3]])]
    loaded = from_dwpose(
        [points[0], None, *both, np.zeros((0, 134, 2)), []],
        [scores[0], None, *weights, np.zeros((0, 134)), []],
        **SIZE,
        fps=30,
    )
    assert loaded.fps == 30 and (loaded.scores[:, 0] > 0).tolist() == [True, False, True, True, False, False]
    np.testing.assert_allclose(loaded.points[[0, 2, 3]] * (1280, 720), points[[0, 2, 3]], rtol=1e-5)


BAD = {
    "17 points": (np.zeros((2, 17, 2)), np.zeros((2, 17)), r"frame 0 has points of shape \(1, 17, 2\), expected \(n"),
    "three coordinates": (np.zeros((2, 134, 3)), np.zeros((2, 134)), r"shape \(1, 134, 3\)"),
    "scores": (np.zeros((2, 134, 2)), np.zeros((2, 133)), r"frame 0 has scores of shape \(1, 133\), expected"),
    "frames": (np.zeros((2, 134, 2)), np.zeros((3, 134)), "points of 2 frames and scores of 3 given"),
    "NaN": (np.full((2, 134, 2), np.nan), np.ones((2, 134)), "frame 0: .* NaN"),
    "strings": (np.full((2, 134, 2), "a"), np.ones((2, 134)), "frame 0 has points of <U1 .* real numbers"),
    "nobody": ([None, None], [None, None], "nobody was found in any of 2 frames"),
    "no frames": ([], [], "nobody was found in any of 0 frames"),
}


@pytest.mark.parametrize(("points", "scores", "message"), BAD.values(), ids=BAD)
def test_bad_arrays(points, scores, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_dwpose(points, scores, **SIZE)
    assert "\n" not in str(caught.value)


def test_bad_options():
    points, scores = to_arrays(make_clip(1))
    with pytest.raises(ValueError, match="width 0"):
        from_rtmlib(points, scores, height=720, width=0)
    with pytest.raises(ValueError, match="layout 'coco17' given"):
        to_arrays(make_clip(1), layout="coco17")
    with pytest.raises(ValueError, match="neck 'mean' given"):
        coco_to_openpose(np.zeros((133, 2)), np.zeros(133), neck="mean")
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 133, 2\)"):
        coco_to_openpose(np.zeros((134, 2)), np.zeros(134), neck="dwpose")
