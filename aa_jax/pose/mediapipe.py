"""MediaPipe's landmarks, of its pose and holistic landmarkers, to and from `Keypoints`. MediaPipe is not needed.

Landmarks are normalised by the size of the image. Of the 33 of the body the eyes' corners, the mouth and the fingers
have no place in ours; the neck is midway between the shoulders, the foot's index is the big toe, and there is no small
toe. Of the 468 or 478 of the face those nearest to the 68 points are taken.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from aa_jax.atomic import StrPath, aside
from aa_jax.pose.json_files import LARGEST, read_frames
from aa_jax.pose.keypoints import FACE, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, Keypoints
from aa_jax.pose.people import Choice, People, check_size, follow

# Ours -> MediaPipe's: nose, right and left arm, right and left leg, eyes, ears; big toe and heel, left and right.
LANDMARKS = {
    0: 0, 2: 12, 3: 14, 4: 16, 5: 11, 6: 13, 7: 15, 8: 24, 9: 26, 10: 28, 11: 23, 12: 25, 13: 27,
    14: 5, 15: 2, 16: 8, 17: 7, 18: 31, 20: 29, 21: 32, 23: 30,
}  # fmt: skip
NECK, SHOULDERS = 1, (2, 5)
NUM_LANDMARKS = 33
NUM_HAND = 21
NUM_FACE = (478, 468)
# Of each of the 68 face points the landmark of the mesh.
FACE_LANDMARKS = (
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,  # jaw
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 98, 97, 2, 326, 327,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips
)  # fmt: skip
# Each field of a result, in Python and in JavaScript (whose pose landmarker says "landmarks").
FIELDS = {
    "pose": ("pose_landmarks", "poseLandmarks", "landmarks"),
    "left": ("left_hand_landmarks", "leftHandLandmarks"),
    "right": ("right_hand_landmarks", "rightHandLandmarks"),
    "face": ("face_landmarks", "faceLandmarks"),
}


def from_mediapipe(
    results: Sequence[Any], *, height: int, width: int, fps: float | None = None, choose: Choice = "best"
) -> Keypoints:
    """Keypoints of MediaPipe's results.

    Args:
      results: one entry a frame: a `HolisticLandmarkerResult`, a `PoseLandmarkerResult`, a result of the older
        `mp.solutions.holistic`, a mapping with the same names or with those of JavaScript (`poseLandmarks`, ...), or
        None. A field is missing, a person's landmarks, or one list of them for each person.
      height: of the frames, in pixels.
      width: of the frames, in pixels.
      fps: frames per second.
      choose: whom to follow, see `aa_jax.pose.people.follow`.

    Returns:
      Keypoints whose body scores are the landmarks' visibility (1 if there is none), and those of a hand or face that
      was found 1.

    Raises:
      ValueError: another number of landmarks, coordinates that are no finite numbers, or nobody in any frame.
    """
    check_size(height, width)
    frames = [_parse(result, f"frame {index}") for index, result in enumerate(results)]
    return follow(frames, height=height, width=width, fps=fps, choose=choose)


def to_mediapipe(keypoints: Keypoints) -> list[dict[str, Any]]:
    """One mapping a frame, with `pose_landmarks`, `left_hand_landmarks` and `right_hand_landmarks` of one person.

    A landmark is a mapping of x, y, z (0) and visibility (the score, at most 1; 0 where we have no such point). A part
    all of whose scores are 0 is an empty list. The face and the small toes have no place.
    """
    return [_result(points, scores) for points, scores in zip(keypoints.points, keypoints.scores, strict=True)]


def load_mediapipe(
    path: StrPath, *, height: int, width: int, fps: float | None = None, choose: Choice = "best"
) -> Keypoints:
    """Read results that were written as JSON: a list of frames in one file, or a folder with one file a frame.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: a file is no JSON; see also `from_mediapipe`.
    """
    frames = read_frames(path)
    for where, frame in frames:
        if frame is not None and not (isinstance(frame, dict) and is_result(frame)):
            raise ValueError(f'{where} is no result of MediaPipe, expected an object with "{FIELDS["pose"][0]}"')
    try:
        results = [frame for _, frame in frames]
        return from_mediapipe(results, height=height, width=width, fps=fps, choose=choose)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_mediapipe(path: StrPath, keypoints: Keypoints) -> None:
    """Write `to_mediapipe` as JSON; an existing file is replaced.

    Raises:
      OSError: the file cannot be written; nothing is left behind.
    """
    with aside(path) as partial:
        partial.write_text(json.dumps(to_mediapipe(keypoints)), encoding="utf-8")


def is_result(document: Mapping[str, Any]) -> bool:
    """Whether a mapping has a field of landmarks."""
    return any(name in document for names in FIELDS.values() for name in names)


def _parse(result: Any, where: str) -> People:
    if result is None:
        return People.nobody()
    poses = _people(result, "pose", (NUM_LANDMARKS,), where)
    lefts, rights = (_people(result, hand, (NUM_HAND,), where) for hand in ("left", "right"))
    faces = _people(result, "face", NUM_FACE, where)
    frame = np.zeros((max(map(len, (poses, lefts, rights, faces))), NUM_KEYPOINTS, 3))
    for person, pose in zip(frame, poses, strict=False):
        person[list(LANDMARKS)] = pose[list(LANDMARKS.values())]
        shoulders = person[list(SHOULDERS)]
        person[NECK] = *shoulders[:, :2].mean(axis=0), shoulders[:, 2].min()
    for place, parts in ((LEFT_HAND, lefts), (RIGHT_HAND, rights)):
        for person, hand in zip(frame, parts, strict=False):
            person[place, :2], person[place, 2] = hand[:, :2], 1
    for person, face in zip(frame, faces, strict=False):
        person[FACE, :2], person[FACE, 2] = face[list(FACE_LANDMARKS), :2], 1
    try:
        return People(points=frame[..., :2], scores=frame[..., 2])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _people(result: Any, field: str, counts: tuple[int, ...], where: str) -> list[Float[np.ndarray, "n 3"]]:
    """The landmarks of each person, as x, y and visibility."""
    landmarks = next((found for name in FIELDS[field] if (found := _get(result, name)) is not None), None)
    landmarks = getattr(landmarks, "landmark", landmarks)  # mp.solutions wraps the list
    if landmarks is None:
        return []
    where = f"{where}: {FIELDS[field][0]}"
    if isinstance(landmarks, str | Mapping) or not hasattr(landmarks, "__len__"):
        raise ValueError(f"{where} is {type(landmarks).__name__}, expected a list of landmarks")
    if not len(landmarks):
        return []
    nested = isinstance(landmarks[0], Sequence) and not isinstance(landmarks[0], str)
    people = [list(one) if isinstance(one, Sequence) else [one] for one in landmarks] if nested else [list(landmarks)]
    for person in people:
        if person and len(person) not in counts:
            expected = " or ".join(str(count) for count in counts)
            raise ValueError(f"{where} holds {len(person)} landmarks, expected {expected}")
    return [np.array([_landmark(one, where) for one in person]) for person in people if person]


def _landmark(landmark: Any, where: str) -> tuple[float, float, float]:
    visibility = _get(landmark, "visibility")
    values: tuple[Any, Any, Any] = (_get(landmark, "x"), _get(landmark, "y"), 1.0 if visibility is None else visibility)
    if not all(isinstance(value, int | float | np.number) and -LARGEST <= value <= LARGEST for value in values):
        raise ValueError(f"{where} holds a landmark whose x, y and visibility are {values}, expected finite numbers")
    return values


def _get(one: Any, name: str) -> Any:
    return one.get(name) if isinstance(one, Mapping) else getattr(one, name, None)


def _result(points: Float[np.ndarray, "134 2"], scores: Float[np.ndarray, "134"]) -> dict[str, Any]:
    pose = np.zeros((NUM_LANDMARKS, 3))
    ours, theirs = list(LANDMARKS), list(LANDMARKS.values())
    pose[theirs, :2], pose[theirs, 2] = points[ours], scores[ours]
    hands = [np.concatenate([points[hand], scores[hand, None]], axis=1) for hand in (LEFT_HAND, RIGHT_HAND)]
    lists = [
        [
            {"x": float(x), "y": float(y), "z": 0.0, "visibility": min(float(score), 1.0)}
            for x, y, score in (part if (part[:, 2] > 0).any() else [])
        ]
        for part in (pose, *hands)
    ]
    return dict(zip((FIELDS[field][0] for field in ("pose", "left", "right")), lists, strict=True))
