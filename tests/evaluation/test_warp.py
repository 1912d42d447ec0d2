"""Parts of a reference moved to other keypoints."""

import dataclasses

import cv2
import numpy as np
import pytest

from aa_jax.data.synthetic import SyntheticSource
from aa_jax.evaluation.body import HEAD, PARTS, TORSO, bodies
from aa_jax.evaluation.conditions import conditions
from aa_jax.evaluation.protocols import PROTOCOLS
from aa_jax.evaluation.warp import motion, take_apart, warp
from aa_jax.pose.keypoints import NUM_KEYPOINTS, VISIBLE, Keypoints

HEIGHT, WIDTH = 64, 48
SIZE = np.array([WIDTH, HEIGHT], np.float32)


def psnr(frames, truth, masks):
    errors = ((frames.astype(float) - truth) ** 2).mean(axis=-1)
    return np.mean(
        [10 * np.log10(255**2 / max(error[mask].mean(), 1e-9)) for error, mask in zip(errors, masks, strict=True)]
    )


@pytest.fixture(scope="module")
def clips():
    """Two of each split: what is given, the truth, and where the character is, there and in the reference."""
    found = []
    for split in ("identity", "both"):
        source = SyntheticSource(split=split, num_clips=2, num_frames=16, height=HEIGHT, width=WIDTH)
        for clip in (source[0], source[1]):
            given = conditions(clip, PROTOCOLS["characters-small"])
            found.append((given, clip.frames(range(16)), clip.masks(range(16)), clip.reference.masks([8])))
    return found


def moved(pose, scale, shift):
    """Keypoints times `scale`, about the image's corner, and shifted by pixels."""
    return dataclasses.replace(pose, points=pose.points * scale + np.float32(shift) / SIZE)


def hidden(pose, points):
    scores = pose.scores.copy()
    scores[:, points] = 0
    return dataclasses.replace(pose, scores=scores)


def test_the_same_keypoints_give_the_reference(clips):
    for given, _, _, mask in clips:
        frames = warp(given.reference, given.reference_pose, given.reference_pose)
        assert frames.shape == (1, HEIGHT, WIDTH, 3) and frames.dtype == np.uint8
        assert psnr(frames, given.reference[None], mask) > 30


def test_beats_the_reference_as_every_frame(clips):
    for given, truth, masks, _ in clips:
        frames = warp(given.reference, given.reference_pose, given.pose)
        copies = np.broadcast_to(given.reference, truth.shape)
        assert psnr(frames, truth, masks) > psnr(copies, truth, masks) + 1
        assert psnr(frames, truth, ~masks) > psnr(copies, truth, ~masks) + 1


@pytest.mark.parametrize(("scale", "shift"), [(1, (5, -3)), (0.6, (9.5, 20)), (1.4, (-12, -20))])
def test_parts_follow_all_keypoints_exactly(clips, scale, shift):
    for given, *_ in clips:
        (shown,) = bodies(given.reference_pose, HEIGHT, WIDTH)
        (body,) = bodies(moved(given.reference_pose, scale, shift), HEIGHT, WIDTH)
        assert {TORSO, HEAD} < set(shown.bones)
        for part in shown.bones:
            expected = [[scale, 0, shift[0]], [0, scale, shift[1]]]
            np.testing.assert_allclose(motion(part, shown, body, scale), expected, atol=1e-3)


def test_a_shifted_body_is_the_shifted_picture(clips):
    given, _, _, mask = clips[0]
    pose = Keypoints(
        points=np.concatenate([moved(given.reference_pose, 1, shift).points for shift in ((0, 0), (4, 2))]),
        scores=np.repeat(given.reference_pose.scores, 2, axis=0),
        height=HEIGHT,
        width=WIDTH,
    )
    still, shifted = warp(given.reference, given.reference_pose, pose)
    inside = mask[0].copy()
    inside[:, -4:] = inside[-2:] = False
    target = np.roll(inside, (2, 4), axis=(0, 1))
    error = shifted[target].astype(float) - given.reference[inside]
    assert 10 * np.log10(255**2 / (error**2).mean()) > 28
    left = inside & ~np.roll(mask[0], (2, 4), axis=(0, 1))
    assert np.abs(shifted[left].astype(float) - given.reference[left]).mean() > 15  # the background is in its place
    assert np.abs(still[left].astype(float) - given.reference[left]).mean() < 5


def test_a_smaller_body_is_the_smaller_picture():
    """Of a doll drawn in thick strokes, half as large about the middle."""
    places = {
        0: (24, 8), 1: (24, 16), 2: (19, 17), 3: (15, 24), 4: (13, 31), 5: (29, 17), 6: (33, 24), 7: (35, 31),
        8: (21, 32), 9: (19, 43), 10: (17, 54), 11: (27, 32), 12: (29, 43), 13: (31, 54), 16: (22, 8), 17: (26, 8),
    }  # fmt: skip
    points, scores = np.zeros((1, NUM_KEYPOINTS, 2), np.float32), np.zeros((1, NUM_KEYPOINTS), np.float32)
    points[0, list(places)], scores[0, list(places)] = np.array(list(places.values())) / SIZE, 1
    pose = Keypoints(points=points, scores=scores, height=HEIGHT, width=WIDTH)
    image = np.full((HEIGHT, WIDTH, 3), (40, 90, 60), np.uint8)
    for line in ((1, 0), (2, 3, 4), (5, 6, 7), (8, 9, 10), (11, 12, 13), (2, 5, 11, 8, 2), (1, 8), (1, 11)):
        cv2.polylines(image, [np.array([places[point] for point in line])], False, (200, 60, 50), 4)
    both = np.concatenate([points, (points - 0.5) * 0.5 + 0.5])
    frames = warp(image, pose, dataclasses.replace(pose, points=both, scores=np.repeat(scores, 2, axis=0)))
    whole, half = (np.argwhere(frame[..., 0] > 120) for frame in frames)
    assert np.abs(frames[0].astype(float) - image).mean() < 2
    assert len(half) / len(whole) == pytest.approx(0.25, rel=0.2)
    middle = np.array([31.5, 23.5])
    np.testing.assert_allclose(half.mean(axis=0) - middle, (whole.mean(axis=0) - middle) / 2, atol=0.7)


def test_what_is_not_seen_is_left_out(clips):
    given, _, _, _ = clips[0]
    reference, shown, pose = given.reference, given.reference_pose, given.pose.take([0])
    (body,) = bodies(hidden(pose, [3, 4]), HEIGHT, WIDTH)
    gone = set(bodies(pose, HEIGHT, WIDTH)[0].bones) - set(body.bones)
    assert len(gone) == 3 and {(PARTS[part].limb, PARTS[part].side) for part in gone} == {("arm", -1)}
    every = range(NUM_KEYPOINTS)
    layers, background = take_apart(reference, bodies(shown, HEIGHT, WIDTH)[0])
    assert {TORSO, HEAD} < set(layers)
    np.testing.assert_array_equal(warp(reference, shown, hidden(pose, every))[0], background)
    np.testing.assert_array_equal(warp(reference, hidden(shown, every), pose)[0], reference)
    # A head of which one point is seen is in its place all the same.
    full, turned = (bodies(each, HEIGHT, WIDTH)[0].bones[HEAD] for each in (pose, hidden(pose, [14, 15, 16, 17])))
    assert np.linalg.norm(full - turned) < 3


def facing(clip_pose, toes, shoulders):
    points, scores = clip_pose.points.copy(), np.ones_like(clip_pose.scores)
    for ankle, toe in ((10, 21), (10, 22), (13, 18), (13, 19)):
        points[0, toe] = points[0, ankle] + np.float32([toes, 2]) / SIZE
    points[0, [5, 2], 0] = (24 + np.float32([shoulders, -shoulders])) / WIDTH
    return bodies(dataclasses.replace(clip_pose, points=points, scores=scores), HEIGHT, WIDTH)[0]


@pytest.mark.parametrize(
    ("toes", "shoulders", "before_the_torso"),
    [(0, 6, {1, -1}), (0, -6, set()), (6, 1, {-1}), (-6, 1, {1})],
    ids=["towards us", "away", "to the right", "to the left"],
)
def test_arms_in_front(clips, toes, shoulders, before_the_torso):
    order = facing(clips[0][0].pose.take([0]), toes, shoulders).from_far_to_near()
    assert sorted(order) == list(range(len(PARTS)))
    arms = {PARTS[part].side for part in order[order.index(TORSO) :] if PARTS[part].limb == "arm"}
    assert arms == before_the_torso
    assert not {part for part in order[order.index(TORSO) :] if PARTS[part].limb == "leg"}
    if toes:
        near = [PARTS[part].side for part in order if PARTS[part].limb == "leg"][-1]
        assert {near} == before_the_torso


def test_bones_without_length(clips):
    """A limb that points at the camera, or a body in one point, makes no numbers that are none."""
    given, *_ = clips[0]
    one_point = dataclasses.replace(given.reference_pose, points=np.full((1, NUM_KEYPOINTS, 2), 0.5, np.float32))
    assert (one_point.scores >= VISIBLE).any()
    for before, after in ((given.reference_pose, one_point), (one_point, given.reference_pose)):
        assert warp(given.reference, before, after).shape == (1, HEIGHT, WIDTH, 3)
