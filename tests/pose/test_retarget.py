"""Retargeting: identity on itself, blind to the driver's size and place, and true to what a skeleton with the
reference's bones would do; what cannot be compared is warned of."""

import dataclasses
import warnings

import numpy as np
import pytest

from aa_jax.pose import Keypoints
from aa_jax.pose.retarget import retarget

METHODS = ("affine", "bones", "none")
HEIGHT, WIDTH = 480, 640
# Joint, the joint above it, the name of its bone's length, and the direction of the bone in a standing person.
SKELETON = (
    (0, 1, "neck", (0, -1)),
    (2, 1, "shoulder", (-1, 0)), (3, 2, "upper arm", (-0.5, 1)), (4, 3, "forearm", (-0.3, 1)),
    (5, 1, "shoulder", (1, 0)), (6, 5, "upper arm", (0.5, 1)), (7, 6, "forearm", (0.3, 1)),
    (8, 1, "torso", (-0.3, 1)), (9, 8, "thigh", (-0.1, 1)), (10, 9, "shin", (0, 1)),
    (11, 1, "torso", (0.3, 1)), (12, 11, "thigh", (0.1, 1)), (13, 12, "shin", (0, 1)),
    (14, 0, "eye", (-1, -0.8)), (15, 0, "eye", (1, -0.8)), (16, 0, "ear", (-1, -0.2)), (17, 0, "ear", (1, -0.2)),
)  # fmt: skip
LENGTHS = {
    "neck": 0.1, "shoulder": 0.08, "upper arm": 0.13, "forearm": 0.12, "torso": 0.25, "thigh": 0.2, "shin": 0.19,
    "eye": 0.03, "ear": 0.04,
}  # fmt: skip
HEAD = ("eye", "ear")
CARRIED = ((13, slice(18, 21)), (10, slice(21, 24)), (0, slice(24, 92)), (7, slice(92, 113)), (4, slice(113, 134)))


def person(seed):
    """Bone lengths."""
    rng = np.random.default_rng(seed)
    scales = {name: rng.uniform(0.75, 1.3) for name in LENGTHS} | {"head": rng.uniform(0.8, 1.25)}
    return {name: length * scales["head" if name in HEAD else name] for name, length in LENGTHS.items()} | {
        "head": scales["head"]
    }


def motion(seed, frames=12, swing=0.5, depth=0.0):
    """Directions of the bones (t, 17, 2), shorter than 1 where a bone points out of the image; the neck's place; and
    the shape of face, hands and feet."""
    rng = np.random.default_rng(seed)
    rest = np.array([direction for *_, direction in SKELETON], float)
    angles = np.arctan2(rest[:, 1], rest[:, 0]) + rng.uniform(-swing, swing, (frames, len(SKELETON)))
    angles[:, -4:] = angles[:, :1] + (angles[0, -4:] - angles[0, 0])  # the head is rigid
    out = np.cos(rng.uniform(-depth, depth, (frames, len(SKELETON))))
    directions = np.stack([np.cos(angles), np.sin(angles)], -1) * out[..., None]
    place = (0.6, 0.3) + np.cumsum(rng.uniform(-0.02, 0.02, (frames, 2)), 0)
    return directions, place, rng.uniform(-0.03, 0.03, (frames, 134, 2))


def animate(lengths, directions, place, details):
    """The person doing the motion, in image heights: (t, 134, 2)."""
    points = np.zeros((len(place), 134, 2))
    points[:, 1] = place
    for bone, (joint, above, name, _) in enumerate(SKELETON):
        points[:, joint] = points[:, above] + lengths[name] * directions[:, bone]
    for joint, part in CARRIED:
        points[:, part] = points[:, joint, None] + lengths["head"] * details[:, part]
    return points


def keypoints(points, scores=None, height=HEIGHT, width=WIDTH, fps=None):
    """Keypoints of points in image heights."""
    scores = np.ones(points.shape[:2]) if scores is None else scores
    return Keypoints(points=points / (width / height, 1), scores=scores, height=height, width=width, fps=fps)


def in_heights(keypoints):
    return keypoints.points.astype(float) * (keypoints.width / keypoints.height, 1)


def scattered(seed, frames=5):
    """Points and scores that are no person's."""
    rng = np.random.default_rng(seed)
    return keypoints(rng.uniform(-0.2, 1.2, (frames, 134, 2)), rng.uniform(0, 1, (frames, 134)), height=300, width=200)


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return retarget(*args, **kwargs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(5))
def test_identity_on_itself(method, seed):
    for itself in (scattered(seed), keypoints(animate(person(seed), *motion(seed, depth=1.2)), fps=25)):
        same = quietly(itself, itself, method=method)
        np.testing.assert_allclose(same.points, itself.points, atol=1e-6)
        np.testing.assert_array_equal(same.scores, itself.scores)
        assert (same.height, same.width, same.fps) == (itself.height, itself.width, itself.fps)


@pytest.mark.parametrize("method", METHODS)
def test_a_rigid_walk_keeps_its_start(method):
    """All frames are as like the reference as the first, which gives the place."""
    directions, place, details = (array.repeat(8, 0) for array in motion(0, frames=1))
    walk = keypoints(animate(person(0), directions, place + np.linspace(0, 0.3, 8)[:, None], details))
    still = dataclasses.replace(walk, points=walk.points[:1], scores=walk.scores[:1])
    np.testing.assert_allclose(retarget(walk, still, method=method).points, walk.points, atol=1e-6)


@pytest.mark.parametrize("method", ["affine", "bones"])
@pytest.mark.parametrize("seed", range(5))
def test_size_and_place_of_the_driver_do_not_matter(method, seed):
    rng = np.random.default_rng(seed)
    reference = keypoints(animate(person(seed), *motion(seed)))
    persons = keypoints(animate(person(seed + 1), *motion(seed + 1, depth=1.0)))
    for driving in (persons, scattered(seed)):
        expected = quietly(driving, reference, method=method)
        scale, shift = rng.uniform(0.3, 2), rng.uniform(-1, 1, 2)
        height, width = rng.integers(300, 900, 2).tolist()
        other = keypoints(scale * in_heights(driving) + shift, driving.scores, height, width)
        np.testing.assert_allclose(quietly(other, reference, method=method).points, expected.points, atol=3e-5)


def test_affine_is_mimicmotions_where_that_is_exact():
    """Where driving and reference differ by a scale and a shift only, any fit finds them: the published formulas, with
    the aspects of both images, give the same."""
    reference = keypoints(animate(person(0), *motion(0, frames=1)), height=768, width=576)
    driving = keypoints(0.4 * in_heights(reference) + (0.7, 0.1), height=480, width=854)
    result = retarget(driving, reference)

    steady = [0, 1, 2, 5, *range(8, 18)]
    ay, by = np.polyfit(driving.points[0, steady, 1], reference.points[0, steady, 1], 1)
    ax = ay / ((480 / 854) / (768 / 576))
    bx = np.mean(reference.points[0, steady, 0] - ax * driving.points[0, steady, 0])
    np.testing.assert_allclose(result.points, driving.points * (ax, ay) + (bx, by), atol=1e-5)
    np.testing.assert_allclose(result.points, reference.points, atol=1e-5)


def test_affine_survives_wrong_joints_and_frames():
    """Two steady joints far off in a frame, and wild other frames, move the scale by a few per cent at most."""
    reference = keypoints(animate(person(0), *motion(0, frames=1)))
    points = np.concatenate([0.5 * in_heights(reference)] * 4)
    points[:, 9] += (0.3, -0.4)
    points[:, 14] += (0, 0.5)
    points[2:] = np.random.default_rng(0).uniform(0, 1, (2, 134, 2))
    scale = np.ptp(in_heights(retarget(keypoints(points), reference))[0, [0, 8], 1]) / np.ptp(points[0, [0, 8], 1])
    assert scale == pytest.approx(2, rel=0.05)
    straight = np.polyfit(points[:, :18, 1].ravel(), np.tile(in_heights(reference)[0, :18, 1], 4), 1)[0]
    assert abs(straight - 2) > 0.5, "the case is too easy"


@pytest.mark.parametrize("seed", range(5))
def test_bones_take_the_references_lengths(seed):
    """The reference's person in the driver's motion, when one driving frame poses as the reference does."""
    driver, actor = person(seed), person(seed + 100)
    directions, place, details = motion(seed)
    driving = keypoints(animate(driver, directions, place, details), fps=30)
    truth = animate(actor, directions, place, details)
    reference = keypoints(truth[4:5] * 0.8 + (0.2, 0.1), height=512, width=384)
    result = retarget(driving, reference, method="bones")
    got = in_heights(result)
    # Somewhere, not always in frame 4, the poses are most alike, and there the neck is at the reference's place.
    assert np.abs(got[:, 1] - in_heights(reference)[0, 1]).max(-1).min() < 1e-5
    np.testing.assert_allclose(got - got[:, 1:2], 0.8 * (truth - truth[:, 1:2]), atol=1e-5)
    assert (result.height, result.width, result.fps, len(result)) == (512, 384, 30, 12)

    # The neck's path is the driver's, on the scale of the body; and the way back restores the driver.
    paths = np.ptp(got[:, 1], axis=0) / np.ptp(place, axis=0)
    assert paths[0] == pytest.approx(paths[1], rel=1e-4) and 0.4 < paths[0] < 1.6
    original = dataclasses.replace(driving, points=driving.points[4:5], scores=driving.scores[4:5])
    back = in_heights(retarget(result, original, method="bones"))
    np.testing.assert_allclose(back - back[:, 1:2], in_heights(driving) - place[:, None], atol=3e-5)


def test_bones_are_nearer_to_the_truth_than_one_scale_and_that_than_none():
    """Ten pairs of people, bones out of the image plane, no frame that poses as the reference."""
    errors = {method: [] for method in METHODS}
    for seed in range(10):
        directions, place, details = motion(seed, frames=60, depth=0.6)
        actor = {name: 1.3 * length for name, length in person(seed + 50).items()}
        truth = animate(actor, directions, place, details)
        reference = keypoints(animate(actor, *motion(seed + 200, frames=1, depth=0.6)))
        driving = keypoints(animate(person(seed), directions, place, details))
        for method in METHODS:
            got = in_heights(retarget(driving, reference, method=method))
            distance = np.linalg.norm((got - got[:, 1:2]) - (truth - truth[:, 1:2]), axis=-1)
            errors[method].append(distance[:, :18].mean())
    bones, affine, none = (np.mean(errors[method]) for method in ("bones", "affine", "none"))
    assert bones < 0.4 * affine < affine < 0.7 * none, (bones, affine, none)


def test_missing_joints_hand_their_children_on():
    """Without its elbow a wrist hangs on the shoulder; without a neck, a joint goes by the whole body's scale."""
    directions, place, details = motion(1)
    driver, actor = person(1), person(2)
    driving, reference = (keypoints(animate(lengths, directions, place, details)) for lengths in (driver, actor))
    whole = in_heights(retarget(driving, reference, method="bones"))
    scores = driving.scores.copy()
    scores[3, 3] = 0  # the right elbow
    scores[5, 1] = 0  # the neck
    scores[7] = 0
    points = driving.points.copy()
    points[7] = 0
    damaged = dataclasses.replace(driving, points=points, scores=scores)
    result = retarget(damaged, reference, method="bones")
    got = in_heights(result)
    kept = [frame for frame in range(12) if frame not in (3, 5, 7)]
    np.testing.assert_allclose(got[kept], whole[kept], atol=1e-6)
    np.testing.assert_array_equal(result.scores, scores)

    before = in_heights(driving)
    forearm = actor["forearm"] / driver["forearm"]
    np.testing.assert_allclose(got[3, 4], whole[3, 2] + forearm * (before[3, 4] - before[3, 2]), atol=1e-5)
    # Of the neck's children all go by one scale, and what hangs on them by its own.
    scale = (got[5, 8] - got[5, 2]) / (before[5, 8] - before[5, 2])
    np.testing.assert_allclose(scale, (whole[1, 1] - whole[0, 1]) / (before[1, 1] - before[0, 1]), rtol=1e-3)
    np.testing.assert_allclose(got[5, 9] - got[5, 8], whole[5, 9] - whole[5, 8], atol=1e-5)


def test_the_reference_frame_is_the_first_that_shows_enough():
    clip = keypoints(animate(person(3), *motion(3)))
    scores = clip.scores.copy()
    scores[0], scores[1, 4:18] = 0, 0
    reference = dataclasses.replace(clip, scores=scores)
    second = dataclasses.replace(clip, points=clip.points[2:3], scores=clip.scores[2:3])
    driving = keypoints(animate(person(4), *motion(4)))
    for method in ("affine", "bones"):
        expected = retarget(driving, second, method=method).points
        np.testing.assert_array_equal(retarget(driving, reference, method=method).points, expected)


def scene():
    """A driving clip and a reference image of different people."""
    motions = motion(5, swing=0.2)
    reference = animate(person(6), *(array[:1] for array in motions))
    return keypoints(animate(person(5), *motions)), keypoints(reference, height=512, width=384)


def hide(keypoints, *points):
    scores = keypoints.scores.copy()
    scores[:, list(points)] = 0
    return dataclasses.replace(keypoints, scores=scores)


LEGS, ARMS = (9, 10, 12, 13), (2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("method", ["affine", "bones"])
def test_nothing_to_compare(method):
    driving, reference = scene()
    unmoved = retarget(driving, reference, method="none")
    cases = {
        "the reference pose shows fewer than 2 body joints": (driving, hide(reference, *range(134))),
        "the driving pose shows fewer than 2": (hide(driving, *range(1, 134)), reference),
        "the reference and the driving pose shows": (hide(driving, *range(134)), hide(reference, *range(134))),
        "have in common fewer than 2": (hide(driving, *range(2, 18)), hide(reference, 0, 1)),
        "fall on one point": (driving, dataclasses.replace(reference, points=np.full((1, 134, 2), 0.5))),
    }
    for message, (one, other) in cases.items():
        with pytest.warns(UserWarning, match=f"{message}.*left as it is"):
            result = retarget(one, other, method=method)
        np.testing.assert_array_equal(result.points, unmoved.points)
        assert (result.height, result.width) == (512, 384)


def test_unknown_bones_are_scaled_as_the_body():
    driving, reference = scene()
    whole = in_heights(retarget(driving, reference, method="bones"))
    scale = np.ptp(in_heights(retarget(driving, reference))[:, 1, 0]) / np.ptp(in_heights(driving)[:, 1, 0])
    with pytest.warns(UserWarning, match="thighs, shins: not visible in both poses; scaled as the whole body is"):
        got = in_heights(retarget(driving, hide(reference, *LEGS), method="bones"))
    np.testing.assert_allclose(got[:, [2, 3, 4]] - got[:, 1:2], whole[:, [2, 3, 4]] - whole[:, 1:2], atol=1e-5)
    thigh = in_heights(driving)[:, 9] - in_heights(driving)[:, 8]
    assert np.median((got[:, 9] - got[:, 8]) / thigh) == pytest.approx(scale, rel=0.1)


def test_a_profile_view_does_not_widen_the_person():
    """The driver is seen from the side all the time: widths say nothing, heights still do."""
    driving, reference = scene()
    points = in_heights(driving)
    points[..., 0] = 0.6 + 0.1 * (points[..., 0] - 0.6)
    profile = keypoints(points)
    front = in_heights(retarget(driving, reference))
    side = in_heights(retarget(profile, reference))
    assert np.ptp(side[:, [0, 10], 1]) == pytest.approx(np.ptp(front[:, [0, 10], 1]), rel=0.1)
    with pytest.warns(UserWarning, match="shoulders.*: more than 2.5 times off the body's scale, so probably"):
        result = in_heights(retarget(profile, reference, method="bones"))
    assert np.ptp(result[..., :18, 0]) < 0.5 * np.ptp(front[..., :18, 0])


def test_other_degenerate_poses():
    driving, reference = scene()
    lying = keypoints(in_heights(reference)[..., ::-1] * (1, 0.05) + (0, 0.5), height=512, width=384)
    with pytest.warns(UserWarning, match="one stands and one lies"):
        result = retarget(driving, lying)
    size = lambda points: np.linalg.norm(np.ptp(points[0, :18], axis=0))  # noqa: E731
    assert size(in_heights(result)) == pytest.approx(size(in_heights(lying)), rel=0.5)

    arms = hide(reference, *(point for point in range(134) if point not in ARMS[1:3]))
    with pytest.warns(UserWarning, match="only arms are visible"):
        result = retarget(driving, arms)
    np.testing.assert_allclose(result.points[0, 3:5].mean(0), arms.points[0, 3:5].mean(0), atol=0.03)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rootless = in_heights(retarget(driving, hide(reference, 1), method="bones"))
    said = [str(warning.message) for warning in caught]
    assert any("neck, shoulders, torso: not visible in both poses" in line for line in said), said
    assert any("the neck, the root of the bones, is not visible in both poses" in line for line in said), said
    whole = in_heights(retarget(driving, reference, method="bones"))
    assert np.abs(rootless - whole).max() < 0.1

    far = driving.points.copy()
    far[2, 100] = 15
    with pytest.warns(UserWarning, match="1 frames have points more than 16 image sizes away"):
        result = retarget(dataclasses.replace(driving, points=far), dataclasses.replace(reference, width=100))
    assert result.scores[2, 100] == 0 and result.scores.sum() == driving.scores.sum() - 1


def test_none_fits_the_image_only():
    driving, reference = scene()
    result = retarget(driving, reference, method="none")
    assert (result.height, result.width) == (512, 384)
    # 640x480 in 384x512 is scaled by 0.6 and centred.
    expected = (driving.points * (640, 480) * 0.6 + (0, (512 - 288) / 2)) / (384, 512)
    np.testing.assert_allclose(result.points, expected, atol=1e-6)


def test_an_unknown_method():
    driving, reference = scene()
    with pytest.raises(ValueError, match="method 'warp' given, expected one of affine, bones, none"):
        retarget(driving, reference, method="warp")
