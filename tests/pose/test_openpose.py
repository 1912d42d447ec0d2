"""OpenPose's JSON: round trips, what its users meet, and malformed files."""

import errno
import json

import numpy as np
import pytest

from aa_jax.pose.keypoints import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND
from aa_jax.pose.openpose import load_openpose, save_openpose
from tests.full_disk import largest_file
from tests.pose.clips import assert_same_clip, hide, make_clip

SIZE = {"height": 720, "width": 1280}


def person(body: int = 25, **parts: object) -> dict:
    """x = 10 + i, y = 20 + i of point i of each part."""

    def numbers(count: int) -> list[float]:
        return [value for index in range(count) for value in (10.0 + index, 20.0 + index, 0.9)]

    counts = {"pose": body, "face": 70, "hand_left": 21, "hand_right": 21}
    return {f"{part}_keypoints_2d": numbers(count) for part, count in counts.items()} | parts


def write(folder, *frames: list[dict]):
    folder.mkdir()
    for index, people in enumerate(frames):
        document = {"version": 1.3, "people": people}
        (folder / f"clip_{index:012d}_keypoints.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("body", [18, 25])
@pytest.mark.parametrize("scale", ["pixels", "normalised", "signed"])
def test_round_trip(tmp_path, body, scale):
    saved = hide(make_clip(12), 3, slice(None))
    saved = hide(saved, 5, LEFT_HAND)
    saved = hide(saved, 6, [0, 4, 30])
    save_openpose(tmp_path / "pose", saved, body=body, scale=scale)
    assert len(list((tmp_path / "pose").iterdir())) == 12
    assert_same_clip(load_openpose(tmp_path / "pose", scale=scale), saved)
    if scale != "signed":
        assert_same_clip(load_openpose(tmp_path / "pose"), saved)


def test_what_is_written_is_openpose_json(tmp_path):
    clip = make_clip(1)
    save_openpose(tmp_path / "pose", clip)
    document = json.loads((tmp_path / "pose" / "pose_000000000000_keypoints.json").read_text())
    [one] = document["people"]
    body, face = (np.reshape(one[f"{part}_keypoints_2d"], (-1, 3)) for part in ("pose", "face"))
    assert (len(body), len(face), len(one["hand_left_keypoints_2d"])) == (25, 70, 63)
    pixels = clip.points[0] * (1280, 720)
    named = {0: 0, 4: 4, 9: 8, 11: 10, 12: 11, 14: 13, 15: 14, 16: 15, 17: 16, 18: 17, 19: 18, 21: 20, 24: 23}
    np.testing.assert_allclose(body[list(named), :2], pixels[list(named.values())], atol=1e-3)
    np.testing.assert_allclose(body[8, :2], (pixels[8] + pixels[11]) / 2, atol=1e-3)
    np.testing.assert_allclose(face[[0, 68, 69], :2], pixels[[24, 14, 15]], atol=1e-3)


def test_25_points_go_where_they_belong(tmp_path):
    loaded = load_openpose(write(tmp_path / "pose", [person()]), **SIZE)
    numbers = loaded.points[0] * (1280, 720) - (10, 20)
    np.testing.assert_allclose(numbers[:, 0], numbers[:, 1], atol=1e-4)
    places = [*range(8), *range(9, 19), *range(19, 25), *range(68), *range(21), *range(21)]
    np.testing.assert_allclose(numbers[:, 0], places, atol=1e-4)


def test_18_points_have_no_feet_unless_apart(tmp_path):
    feet = [value for index in range(6) for value in (500.0 + index, 600.0, 0.8)]
    frames = [person(18)], [person(18, foot_keypoints_2d=feet)]
    loaded = load_openpose(write(tmp_path / "pose", *frames), **SIZE)
    np.testing.assert_allclose(loaded.points[0, BODY, 0] * 1280, 10 + np.arange(18), atol=1e-4)
    assert not loaded.scores[0, FEET].any()
    np.testing.assert_allclose(loaded.points[1, FEET, 0] * 1280, 500 + np.arange(6), atol=1e-3)


@pytest.mark.parametrize("count", [68, 70])
def test_faces_with_and_without_pupils(tmp_path, count):
    face = [value for index in range(count) for value in (10.0 + index, 20.0, 0.9)]
    loaded = load_openpose(write(tmp_path / "pose", [person(face_keypoints_2d=face)]), **SIZE)
    np.testing.assert_allclose(loaded.points[0, FACE, 0] * 1280, 10 + np.arange(68), atol=1e-4)


@pytest.mark.parametrize("nothing", [[], None, "absent"])
def test_missing_parts(tmp_path, nothing):
    one = person(hand_left_keypoints_2d=nothing, face_keypoints_2d=nothing)
    one = {key: value for key, value in one.items() if value != "absent"}
    loaded = load_openpose(write(tmp_path / "pose", [one]), **SIZE)
    assert not loaded.scores[0, LEFT_HAND].any() and not loaded.scores[0, FACE].any()
    assert loaded.scores[0, RIGHT_HAND].all() and loaded.scores[0, BODY].all()


def test_keys_of_the_first_version(tmp_path):
    one = {key.removesuffix("_2d"): value for key, value in person(18).items()}
    loaded = load_openpose(write(tmp_path / "pose", [one]), **SIZE)
    assert loaded.scores[0, BODY].all() and loaded.scores[0, LEFT_HAND].all()


def test_points_of_score_zero_are_missing(tmp_path):
    """OpenPose puts them at 0, 0, which is no place; nor does it count as a coordinate when the unit is guessed."""
    body = person()["pose_keypoints_2d"]
    body[12:15] = [0, 0, 0]
    body[15:18] = [-5000.0, 3.0, 0]
    loaded = load_openpose(write(tmp_path / "pose", [person(pose_keypoints_2d=body)]), **SIZE)
    assert loaded.scores[0, [4, 5]].tolist() == [0, 0] and not loaded.points[0, [4, 5]].any()


def test_empty_frames_several_people_and_gaps(tmp_path):
    """The same person is followed, whatever its place in the list."""
    one = person()
    shifted = [value + 600 * (place % 3 == 0) for place, value in enumerate(one["pose_keypoints_2d"])]
    other = person(pose_keypoints_2d=shifted)
    folder = write(tmp_path / "pose", [], [one, other], [other, one], [other], [one], [one, other])
    (folder / "clip_000000000004_keypoints.json").unlink()
    loaded = load_openpose(folder, **SIZE, choose=0)
    assert (loaded.scores[:, 0] > 0).tolist() == [False, True, True, False, False, True]
    np.testing.assert_allclose(loaded.points[[1, 2, 5], 0, 0] * 1280, 10, atol=1e-3)
    other = load_openpose(folder, **SIZE, choose=1)
    assert (other.scores[:, 0] > 0).tolist() == [False, True, True, True, False, True]
    np.testing.assert_allclose(other.points[[1, 2, 3, 5], 0, 0] * 1280, 610, atol=1e-3)


def test_one_file_of_one_frame_or_many(tmp_path):
    folder = write(tmp_path / "pose", [person()])
    [file] = folder.iterdir()
    assert len(load_openpose(file, **SIZE)) == 1
    frames = [{"people": [person()], "canvas_height": 720, "canvas_width": 1280}] * 3
    (tmp_path / "comfy.json").write_text(json.dumps(frames))
    loaded = load_openpose(tmp_path / "comfy.json", fps=25)
    assert (len(loaded), loaded.height, loaded.width, loaded.fps) == (3, 720, 1280, 25)


def scaled(scale: float, offset: float) -> dict:
    body = np.reshape(person()["pose_keypoints_2d"], (-1, 3))
    body[:, :2] = (body[:, :2] / 719) * scale + offset
    return person(pose_keypoints_2d=body.ravel().tolist(), face_keypoints_2d=[], **{
        f"hand_{side}_keypoints_2d": [] for side in ("left", "right")
    })  # fmt: skip


def test_keypoint_scale(tmp_path):
    """Normalised coordinates are pixels over the size less one, as in OpenPose's keypointScaler.cpp."""
    size = {"height": 720, "width": 720}
    unit, signed = write(tmp_path / "unit", [scaled(1, 0)]), write(tmp_path / "signed", [scaled(2, -1)])
    for loaded in (load_openpose(unit, **size), load_openpose(unit, **size, scale="normalised")):
        np.testing.assert_allclose(loaded.points[0, 0] * 720, [10, 20], atol=1e-3)
    loaded = load_openpose(signed, **size, scale="signed")
    np.testing.assert_allclose(loaded.points[0, 0] * 720, [10, 20], atol=1e-3)
    with pytest.raises(ValueError, match=r"from -0\.97.* give scale .signed. or .normalised."):
        load_openpose(signed, **size)
    with pytest.raises(ValueError, match="scale 'percent' given"):
        load_openpose(unit, **size, scale="percent")


def test_size_must_be_known_and_one(tmp_path):
    pixels, unit = write(tmp_path / "pixels", [person()]), write(tmp_path / "unit", [scaled(1, 0)])
    for folder in (pixels, unit):
        with pytest.raises(ValueError, match="does not state the size of the images .* give height and width"):
            load_openpose(folder)
    with pytest.raises(ValueError, match="height 720 and width None .* both or neither"):
        load_openpose(pixels, height=720)
    with pytest.raises(ValueError, match="height 0 of the images"):
        load_openpose(pixels, height=0, width=1280)
    save_openpose(tmp_path / "saved", make_clip(1))
    with pytest.raises(ValueError, match=r"\(720, 1280\) and \(1280, 720\) are stated or given, expected one size"):
        load_openpose(tmp_path / "saved", height=1280, width=720)


BAD_DOCUMENTS = {
    "no people": ({"version": 1.3}, 'list of objects "people"'),
    "people is null": ({"people": None}, 'list of objects "people"'),
    "people of numbers": ({"people": [1, 2]}, 'list of objects "people"'),
    "a list of numbers": ([1, 2], r"frame 0 is not OpenPose's JSON"),
    "17 points": ({"people": [person(17)]}, "person 0: pose_keypoints_2d holds 51 numbers, expected .* 18 or 25"),
    "15 points": ({"people": [person(), person(15)]}, "person 1: pose_keypoints_2d holds 45 numbers"),
    "20 points of a hand": ({"people": [person(hand_left_keypoints_2d=[0] * 60)]}, "hand_left.* holds 60 .* of 21"),
    "69 points of a face": ({"people": [person(face_keypoints_2d=[0] * 207)]}, "face.* holds 207 .* 70 or 68"),
    "strings": ({"people": [person(pose_keypoints_2d=["a"] * 54)]}, "pose_keypoints_2d holds something that is no n"),
    "text": ({"people": [person(pose_keypoints_2d="1 2 3")]}, "pose_keypoints_2d holds something that is no number"),
    "NaN": (
        {"people": [person(pose_keypoints_2d=[float("nan")] * 54)]},
        "pose_keypoints_2d holds a number that is NaN",
    ),
    "nobody": ({"people": []}, "nobody was found in any of 1 frames"),
}


@pytest.mark.parametrize(("document", "message"), BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
def test_malformed_documents_give_one_line(tmp_path, document, message):
    (tmp_path / "pose.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message) as caught:
        load_openpose(tmp_path / "pose.json", **SIZE)
    assert str(caught.value).startswith(str(tmp_path / "pose.json")) and "\n" not in str(caught.value)


def test_the_malformed_file_of_a_folder_is_named(tmp_path):
    folder = write(tmp_path / "pose", [person()], [person()], [person(17)])
    with pytest.raises(ValueError, match=r"clip_000000000002_keypoints\.json, person 0"):
        load_openpose(folder, **SIZE)


def test_writing_replaces_nothing_and_leaves_nothing(tmp_path):
    save_openpose(tmp_path / "pose", make_clip(2))
    with pytest.raises(ValueError, match="exists already and is not empty"):
        save_openpose(tmp_path / "pose", make_clip(2))
    with largest_file(1000), pytest.raises(OSError, match="cannot write .*full") as caught:
        save_openpose(tmp_path / "full", make_clip(2))
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(ValueError, match="body of 17 points"):
        save_openpose(tmp_path / "other", make_clip(2), body=17)
    with pytest.raises(ValueError, match="scale 'auto'"):
        save_openpose(tmp_path / "other", make_clip(2), scale="auto")
    assert [file.name for file in tmp_path.iterdir()] == ["pose"]
