"""MediaPipe's landmarks: round trip, the forms of its results, and malformed ones."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from aa_jax.pose.flip import FACE_PARTNERS
from aa_jax.pose.keypoints import FACE, LEFT_HAND, RIGHT_HAND
from aa_jax.pose.mediapipe import FACE_LANDMARKS, from_mediapipe, load_mediapipe, save_mediapipe, to_mediapipe
from tests.pose.clips import assert_same_clip, hide, make_clip

SIZE = {"height": 720, "width": 1280}
BODY_AND_FEET = [*range(18), 18, 20, 21, 23]

# Its names, in order: https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker
MEDIAPIPE = ["nose"]
MEDIAPIPE += [f"{side} eye{corner}" for side in ("left", "right") for corner in (" (inner)", "", " (outer)")]
MEDIAPIPE += ["left ear", "right ear", "mouth (left)", "mouth (right)"]
MEDIAPIPE += [
    f"{side} {part}"
    for part in ("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel", "foot index")
    for side in ("left", "right")
]
OURS = {0: "nose", 14: "right eye", 15: "left eye", 16: "right ear", 17: "left ear"}
OURS |= {2 + place: f"right {part}" for place, part in enumerate(("shoulder", "elbow", "wrist"))}
OURS |= {5 + place: f"left {part}" for place, part in enumerate(("shoulder", "elbow", "wrist"))}
OURS |= {8 + place: f"right {part}" for place, part in enumerate(("hip", "knee", "ankle"))}
OURS |= {11 + place: f"left {part}" for place, part in enumerate(("hip", "knee", "ankle"))}
OURS |= {18: "left foot index", 20: "left heel", 21: "right foot index", 23: "right heel"}


def landmarks(count: int, x: float = 0.0, **more: float) -> list[SimpleNamespace]:
    return [SimpleNamespace(x=x + index / 1000, y=0.5, z=0.0, **more) for index in range(count)]


def test_round_trip(tmp_path):
    saved = hide(hide(hide(make_clip(5), 1, slice(None)), 2, LEFT_HAND), slice(None), [19, 22])
    save_mediapipe(tmp_path / "pose.json", saved)
    for loaded in (load_mediapipe(tmp_path / "pose.json", **SIZE), from_mediapipe(to_mediapipe(saved), **SIZE)):
        assert_same_clip(loaded, saved, BODY_AND_FEET)
        for hand in (LEFT_HAND, RIGHT_HAND):
            np.testing.assert_array_equal(loaded.scores[:, hand] == 1, saved.scores[:, hand] > 0)
            seen = saved.scores[:, hand] > 0
            np.testing.assert_allclose(loaded.points[:, hand][seen], saved.points[:, hand][seen], atol=1e-6)
        assert not loaded.scores[:, FACE].any() and not loaded.scores[:, [19, 22]].any()


def test_body_by_name():
    assert len(MEDIAPIPE) == 33
    loaded = from_mediapipe([SimpleNamespace(pose_landmarks=landmarks(33, visibility=0.7))], **SIZE)
    for ours, name in OURS.items():
        assert loaded.points[0, ours, 0] * 1000 == pytest.approx(MEDIAPIPE.index(name), abs=1e-3), name
    np.testing.assert_allclose(loaded.points[0, 1, 0] * 1000, 11.5, atol=1e-3)
    np.testing.assert_allclose(loaded.scores[0, BODY_AND_FEET], 0.7, atol=1e-6)


def test_face_and_hands_are_sure_where_found():
    """Their visibility means nothing: MediaPipe leaves it 0 or None."""
    hand, face = landmarks(21, visibility=0.0), landmarks(478, visibility=None)
    result = SimpleNamespace(pose_landmarks=[], left_hand_landmarks=hand, right_hand_landmarks=[], face_landmarks=face)
    loaded = from_mediapipe([result], **SIZE)
    assert (loaded.scores[0, LEFT_HAND] == 1).all() and (loaded.scores[0, FACE] == 1).all()
    assert not loaded.scores[0, RIGHT_HAND].any() and not loaded.scores[0, :18].any()
    np.testing.assert_allclose(loaded.points[0, FACE, 0] * 1000, FACE_LANDMARKS, atol=1e-3)


def test_face_landmarks_are_symmetric():
    """Where one of our points mirrors another, so do their landmarks; spot checks of MediaPipe's known pairs."""
    assert len(set(FACE_LANDMARKS)) == 68 and max(FACE_LANDMARKS) < 468
    pairs = {FACE_LANDMARKS[place]: FACE_LANDMARKS[partner] for place, partner in enumerate(FACE_PARTNERS)}
    known = {33: 263, 133: 362, 61: 291, 78: 308, 234: 454, 70: 300, 107: 336, 98: 327, 159: 386, 152: 152, 4: 4}
    for landmark, partner in known.items():
        assert pairs.get(landmark, partner) == partner
    middle = {landmark for landmark, partner in pairs.items() if landmark == partner}
    assert middle == {152, 168, 197, 5, 4, 2, 0, 17, 13, 14}


def test_forms_of_results():
    """Lists of people, wrapped lists of mp.solutions, mappings, JavaScript's names, nothing at all."""
    pose = landmarks(33, visibility=0.9)
    mapping = [vars(landmark) for landmark in pose]
    results = [
        SimpleNamespace(pose_landmarks=pose),
        SimpleNamespace(pose_landmarks=[pose]),
        SimpleNamespace(pose_landmarks=SimpleNamespace(landmark=pose), left_hand_landmarks=None),
        {"pose_landmarks": mapping},
        {"poseLandmarks": [mapping], "leftHandLandmarks": []},
        {"landmarks": [mapping]},
        None,
        SimpleNamespace(pose_landmarks=[]),
        {"pose_landmarks": None},
    ]
    loaded = from_mediapipe(results, **SIZE, fps=24)
    assert loaded.fps == 24 and (loaded.scores[:, 0] > 0).tolist() == [True] * 6 + [False] * 3
    for points in loaded.points[1:6]:
        np.testing.assert_array_equal(points, loaded.points[0])


def test_several_people():
    near, far = landmarks(33, 0.1, visibility=0.5), landmarks(33, 0.7, visibility=0.9)
    results = [SimpleNamespace(pose_landmarks=people) for people in ([near, far], [far, near], [far])]
    assert (from_mediapipe(results, **SIZE).points[:, 0, 0] > 0.6).all()
    near_only = from_mediapipe(results, **SIZE, choose=0)
    assert (near_only.points[:2, 0, 0] < 0.2).all() and not near_only.scores[2].any()


BAD = {
    "17 landmarks": ({"pose_landmarks": [{"x": 0, "y": 0}] * 17}, "pose_landmarks holds 17 landmarks, expected 33"),
    "20 of a hand": ({"left_hand_landmarks": [{"x": 0, "y": 0}] * 20}, "left_hand.* holds 20 landmarks, expected 21"),
    "68 of a face": ({"face_landmarks": [{"x": 0, "y": 0}] * 68}, "face.* holds 68 landmarks, expected 478 or 468"),
    "no y": ({"pose_landmarks": [{"x": 0}] * 33}, r"x, y and visibility are \(0, None, 1.0\), expected finite numbers"),
    "strings": ({"pose_landmarks": [{"x": "0", "y": "1"}] * 33}, "expected finite numbers"),
    "NaN": ({"pose_landmarks": [{"x": float("nan"), "y": 0}] * 33}, "expected finite numbers"),
    "numbers": ({"pose_landmarks": [0] * 33}, "expected finite numbers"),
    "text": ({"pose_landmarks": "none"}, "pose_landmarks is str, expected a list of landmarks"),
    "a number": ({"pose_landmarks": 3}, "pose_landmarks is int, expected a list of landmarks"),
    "an object": ({"pose_landmarks": {"x": 1}}, "pose_landmarks is dict, expected a list of landmarks"),
    "pixels": ({"pose_landmarks": [{"x": 300, "y": 200}] * 33}, "frame 0: .*expected coordinates normalised"),
    "nobody": ({"pose_landmarks": []}, "nobody was found in any of 1 frames"),
}


@pytest.mark.parametrize(("result", "message"), BAD.values(), ids=BAD)
def test_malformed_results_give_one_line(tmp_path, result, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_mediapipe([result], **SIZE)
    assert "\n" not in str(caught.value)
    (tmp_path / "pose.json").write_text(json.dumps([result]))
    with pytest.raises(ValueError, match=message) as caught:
        load_mediapipe(tmp_path / "pose.json", **SIZE)
    assert str(caught.value).startswith(str(tmp_path / "pose.json"))


def test_other_json_is_refused(tmp_path):
    (tmp_path / "pose.json").write_text('[{"people": []}]')
    with pytest.raises(ValueError, match=r'pose\.json, frame 0 is no result of MediaPipe, expected .*"pose_landmarks"'):
        load_mediapipe(tmp_path / "pose.json", **SIZE)
    with pytest.raises(ValueError, match="height 0"):
        from_mediapipe([None], height=0, width=10)
