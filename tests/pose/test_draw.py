"""The drawing of keypoints, against images drawn by the published code."""

import numpy as np
import pytest

from aa_jax.pose import Keypoints, draw_pose, draw_poses
from aa_jax.pose.draw import FOOT_COLOURS, HAND_JOINT_COLOUR, DrawStyle
from aa_jax.pose.keypoints import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND


@pytest.fixture
def person() -> tuple[np.ndarray, np.ndarray]:
    """Points spread over the image, all visible."""
    points = np.random.default_rng(0).uniform(0.1, 0.9, (134, 2)).astype(np.float32)
    return points, np.ones(134, np.float32)


@pytest.mark.parametrize("case", range(24))
def test_same_bytes_as_published_drawing(golden, case):
    if not (golden / "pose" / "draw.npz").exists():
        pytest.skip("no golden drawings here")
    with np.load(golden / "pose" / "draw.npz") as data:
        keypoints, scores, image = (data[f"{name}_{case:02d}"] for name in ("keypoints", "scores", "image"))
    drawn = draw_pose(keypoints, scores, height=image.shape[0], width=image.shape[1])
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, image)


def test_body_is_drawn_above_and_the_rest_from_the_threshold_on(person):
    points, _ = person

    def drawn(part: slice, score: float) -> bool:
        scores = np.zeros(134)
        scores[part] = score
        return bool(draw_pose(points, scores, height=64, width=48).any())

    assert [drawn(BODY, score) for score in (0.29, 0.3, 0.31)] == [False, False, True]
    for part in (FACE, LEFT_HAND, RIGHT_HAND):
        assert [drawn(part, score) for score in (0.29, 0.3, 0.31)] == [False, True, True]
    assert not drawn(FEET, 1.0)


def test_hand_and_face_points_of_row_or_column_zero_are_left_out():
    points, scores = np.zeros((134, 2)), np.zeros(134)
    scores[FACE] = 1
    points[FACE] = 0.015, 0.5  # pixel column 0 of 64
    assert not draw_pose(points, scores, height=64, width=64).any()
    points[FACE] = 0.016, 0.5  # pixel column 1
    assert draw_pose(points, scores, height=64, width=64).any()


def test_clip_is_its_frames(person):
    points, scores = person
    clip = Keypoints(points=np.stack([points, points[::-1]]), scores=np.stack([scores, scores]), height=10, width=10)
    frames = draw_poses(clip, height=48, width=64)
    assert frames.shape == (2, 48, 64, 3)
    for frame, one in zip(frames, clip.points, strict=True):
        np.testing.assert_array_equal(frame, draw_pose(one, scores, height=48, width=64))


def test_points_far_outside_are_clipped(person):
    points, scores = person
    assert draw_pose(points * 30 - 15, scores, height=64, width=64).shape == (64, 64, 3)


def test_bad_input_is_named(person):
    points, scores = person
    with pytest.raises(ValueError, match=r"\(17, 2\).*expected"):
        draw_pose(points[:17], scores[:17], height=64, width=64)
    with pytest.raises(ValueError, match="one person in one frame"):
        draw_pose(points[None], scores[None], height=64, width=64)
    with pytest.raises(ValueError, match="NaN"):
        draw_pose(np.where(np.arange(134)[:, None] == 3, np.nan, points), scores, height=64, width=64)
    with pytest.raises(ValueError, match="normalised"):
        draw_pose(points * 512, scores, height=512, width=512)
    with pytest.raises(ValueError, match="0x64"):
        draw_pose(points, scores, height=0, width=64)


def test_styles_of_other_systems(golden):
    """Without a face the face's pixels go; feet add theirs; smaller hand joints leave less blue. All else stays."""
    points = np.random.default_rng(0).random((134, 2)) * 0.2
    points[FEET] += 0.7
    points[FACE] = points[FACE] * [0.5, 0.5] + [0.8, 0.1]
    size = {"height": 512, "width": 512}
    plain = draw_pose(points, np.ones(134), **size)
    faceless = draw_pose(points, np.ones(134), **size, style=DrawStyle(face=False))
    assert plain[:, 400:].any() and not faceless[:, 400:].any()
    assert np.array_equal(plain[:, :400], faceless[:, :400])
    footed = draw_pose(points, np.ones(134), **size, style=DrawStyle(feet=True))
    x, y = (points[18] * 512).astype(int)
    assert not plain[350:, 350:].any() and tuple(footed[y, x]) in FOOT_COLOURS
    assert np.array_equal(plain[:350], footed[:350])
    small = draw_pose(points, np.ones(134), **size, style=DrawStyle(hand_joint_radius=2))
    blue = lambda image: (image == HAND_JOINT_COLOUR).all(-1).sum()  # noqa: E731
    assert 0 < blue(small) < blue(plain)
