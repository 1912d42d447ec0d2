"""The drawing of keypoints, against images drawn by the published code."""

import colorsys
import dataclasses

import cv2
import numpy as np
import pytest

from aa_jax.pose import Keypoints, draw_pose, draw_poses
from aa_jax.pose.draw import FOOT_COLOURS, HAND_EDGES, HAND_JOINT_COLOUR, JOINT_COLOURS, LIMBS, DrawStyle
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


@pytest.mark.parametrize("case", range(0, 24, 5))
def test_styles_that_change_nothing(golden, case):
    """Sizes relative to the drawing's own size, and full confidence, give the default drawing byte for byte."""
    if not (golden / "pose" / "draw.npz").exists():
        pytest.skip("no golden drawings here")
    with np.load(golden / "pose" / "draw.npz") as data:
        keypoints, scores, image = (data[f"{name}_{case:02d}"] for name in ("keypoints", "scores", "image"))
    size = {"height": image.shape[0], "width": image.shape[1]}
    same_size = DrawStyle(scale_to=min(image.shape[:2]))
    np.testing.assert_array_equal(draw_pose(keypoints, scores, **size, style=same_size), image)
    sure = np.where(scores > 0.3, 1.0, 0.0)
    plain, dimmed = (draw_pose(keypoints, sure, **size, style=DrawStyle(confidence=sees)) for sees in (False, True))
    np.testing.assert_array_equal(dimmed, plain)


def test_without_hands_only_they_go(person):
    points, scores = person
    points[LEFT_HAND] = points[LEFT_HAND] * 0.1 + 0.9
    points[RIGHT_HAND] = points[RIGHT_HAND] * 0.1 + (0.9, 0)
    points[:92] = points[:92] * 0.7
    plain = draw_pose(points, scores, height=256, width=256)
    handless = draw_pose(points, scores, height=256, width=256, style=DrawStyle(hands=False))
    assert plain[:, 220:].any() and not handless[:, 220:].any()
    np.testing.assert_array_equal(plain[:, :220], handless[:, :220])


def mimic_motion(points: np.ndarray, scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """MimicMotion's drawing by its rules, before it resizes and swaps the channels."""
    canvas = np.zeros((height, width, 3), np.uint8)
    places = points * (width, height)
    for limb, (a, b) in enumerate(LIMBS):
        if min(scores[a], scores[b]) >= 0.3:
            colour = [int(part * (scores[a] * scores[b])) for part in JOINT_COLOURS[limb]]
            (x, y), (dx, dy) = (places[a] + places[b]) / 2, places[a] - places[b]
            axes, angle = (int(np.hypot(dx, dy) / 2), 4), int(np.degrees(np.arctan2(dy, dx)))
            cv2.fillConvexPoly(canvas, cv2.ellipse2Poly((int(x), int(y)), axes, angle, 0, 360, 1), colour)
    canvas = (canvas * 0.6).astype(np.uint8)
    whole = places.astype(int).tolist()
    for joint, colour in enumerate(JOINT_COLOURS):
        if scores[joint] > 0.3:
            cv2.circle(canvas, whole[joint], 4, [int(part * scores[joint]) for part in colour], -1)
    for hand in (range(92, 113), range(113, 134)):
        for edge, (a, b) in enumerate(HAND_EDGES):
            weight = int(scores[hand[a]] * scores[hand[b]] * 255)
            hue = [part * weight for part in colorsys.hsv_to_rgb(edge / 20, 1, 1)]
            cv2.line(canvas, whole[hand[a]], whole[hand[b]], hue, 2)
        for point in hand:
            cv2.circle(canvas, whole[point], 4, (0, 0, int(scores[point] * 255)), -1)
    for point in range(24, 92):
        cv2.circle(canvas, whole[point], 3, [int(scores[point] * 255)] * 3, -1)
    return canvas


@pytest.mark.parametrize("highest", [1.0, 1.3])
def test_confidence_is_mimic_motions(highest):
    """To a level, for the fingers' colours are rounded differently; scores above 1 saturate."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        points, scores = rng.uniform(0.1, 0.9, (134, 2)), rng.uniform(0.01, highest, 134)
        drawn = draw_pose(points, scores, height=256, width=192, style=DrawStyle(confidence=True))
        expected = mimic_motion(points, scores, 256, 192)
        assert np.abs(drawn.astype(int) - expected).max() <= 1 and drawn.any()


def test_confidence_leaves_out_what_is_missing(person):
    points, _ = person
    assert not draw_pose(points, np.zeros(134), height=64, width=64, style=DrawStyle(confidence=True)).any()
    faint = draw_pose(points, np.full(134, 0.1), height=64, width=64, style=DrawStyle(confidence=True, feet=True))
    assert 0 < faint.max() <= 26


@pytest.mark.parametrize("part", [BODY, FACE, FEET, LEFT_HAND], ids=["body", "face", "feet", "hand"])
def test_scaled_drawings_look_alike_in_all_sizes(part):
    """What is drawn covers the same share of the image in every size; in pixels of its own it does not."""
    points, scores = np.random.default_rng(3).uniform(0.2, 0.8, (134, 2)), np.zeros(134)
    scores[part] = 1

    def share(short: int, style: DrawStyle) -> float:
        return float(draw_pose(points, scores, height=2 * short, width=short, style=style).any(-1).mean())

    fixed, scaled = DrawStyle(feet=True), DrawStyle(feet=True, scale_to=256)
    assert share(1024, scaled) == pytest.approx(share(256, scaled), rel=0.3)  # lines of 2 pixels cover 3
    assert share(1024, fixed) < 0.5 * share(256, fixed)
    assert share(256, scaled) == share(256, fixed)
    assert share(16, dataclasses.replace(scaled, scale_to=4096)) > 0  # never thinner than a pixel


@pytest.mark.parametrize("field", [{"scale_to": 0}, {"hand_joint_radius": 0}])
def test_bad_styles(field):
    with pytest.raises(ValueError, match="0 given, expected a positive number of pixels"):
        DrawStyle(**field)
