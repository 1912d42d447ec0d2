"""OpenPose's JSON (`--write_json`): one file a frame, with everyone in it.

    {"version": 1.3, "people": [{"pose_keypoints_2d": [x, y, score, ...], "face_keypoints_2d": [...],
                                 "hand_left_keypoints_2d": [...], "hand_right_keypoints_2d": [...]}, ...]}

The body has 18 points (COCO) or 25 (BODY_25, with feet and the middle of the hips), the face 70 (68 and the pupils) or
68, a hand 21. A part may be missing, null or empty; a missing point is 0, 0, 0. Read as well: keys without `_2d` (of
OpenPose before 1.2), ComfyUI's `foot_keypoints_2d` (6 points), and a single file with a list of frames, as it writes.

OpenPose does not write the size of the images. Other tools state it as `canvas_height` and `canvas_width`; so do we.
"""

import json
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from aa_jax.atomic import StrPath, new_folder
from aa_jax.pose.json_files import read_frames, rows
from aa_jax.pose.keypoints import BODY, FACE, FARTHEST, FEET, LEFT_HAND, NUM_KEYPOINTS, RIGHT_HAND, Keypoints
from aa_jax.pose.people import Choice, People, check_size, follow

Scale = Literal["auto", "pixels", "normalised", "signed"]

# Of each of our body points the place in BODY_25, whose point 8 is the middle of the hips and 19-24 are our feet.
BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
BODY_25_FEET = slice(19, 25)
BODY_25_HIPS = 8
RIGHT_HIP, LEFT_HIP = 8, 11
RIGHT_EYE, LEFT_EYE = 14, 15
PARTS = {
    "face_keypoints_2d": (FACE, (70, 68)),
    "hand_left_keypoints_2d": (LEFT_HAND, (21,)),
    "hand_right_keypoints_2d": (RIGHT_HAND, (21,)),
    "foot_keypoints_2d": (FEET, (6,)),
}


def load_openpose(
    path: StrPath,
    *,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    scale: Scale = "auto",
    choose: Choice = "best",
) -> Keypoints:
    """Read OpenPose's JSON.

    Args:
      path: a folder with one JSON file a frame, in the order of the number in their names (where a number is left out,
        a frame without anyone takes its place); or one file, of a frame or of a list of frames.
      height: of the images, in pixels, in which the poses were found; needed, also for normalised coordinates, unless
        the files state it. With `--keypoint_scale` 1 or 2 give the size of the network's or of the final output.
      width: likewise.
      fps: frames per second, which the files do not state.
      scale: the unit, which the files do not state: "pixels" (`--keypoint_scale` 0, the default, 1 and 2), "normalised"
        to [0, 1] (3), "signed" for [-1, 1] (4). "auto" takes what lies beyond 16 for pixels, else for normalised.
      choose: whom to follow, see `aa_jax.pose.people.follow`.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: a file is no JSON or not OpenPose's, a part has another number of points, the size or the scale is not
        known, or there is nobody.
    """
    if scale not in get_args(Scale):
        raise ValueError(f"scale {scale!r} given, expected one of {', '.join(get_args(Scale))}")
    documents = read_frames(path)
    frames = [_parse(document, where) for where, document in documents]
    height, width = _size([document for _, document in documents], height, width, path)
    if scale == "auto":
        scale = _guess_scale(frames, path)
    try:
        check_size(height, width)
        people = [
            People(points=_normalise(frame[..., :2], scale, height, width), scores=frame[..., 2]) for frame in frames
        ]
        return follow(people, height=height, width=width, fps=fps, choose=choose)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_openpose(
    path: StrPath,
    keypoints: Keypoints,
    *,
    body: Literal[18, 25] = 25,
    scale: Literal["pixels", "normalised", "signed"] = "pixels",
) -> None:
    """Write a new folder of OpenPose's JSON, `pose_000000000000_keypoints.json` and on, with the size of the images.

    Nobody is in a frame where all scores are 0. The pupils are the body's eyes. With 18 body points the feet go to
    ComfyUI's `foot_keypoints_2d`.

    Raises:
      ValueError: `path` exists and is no empty folder, or an unknown body or scale.
      OSError: the folder cannot be written; nothing is left behind.
    """
    if body not in (18, 25):
        raise ValueError(f"body of {body!r} points given, expected 18 or 25")
    if scale not in get_args(Scale) or scale == "auto":
        raise ValueError(f"scale {scale!r} given, expected pixels, normalised or signed")
    height, width = keypoints.height, keypoints.width
    with new_folder(path) as partial:
        for index, (points, scores) in enumerate(zip(keypoints.points, keypoints.scores, strict=True)):
            frame = np.concatenate([_denormalise(points, scale, height, width), scores[:, None]], axis=1)
            frame[scores <= 0] = 0
            people = [_person(frame, body)] if frame.any() else []
            document = {"version": 1.3, "people": people, "canvas_height": int(height), "canvas_width": int(width)}
            (partial / f"pose_{index:012d}_keypoints.json").write_text(json.dumps(document), encoding="utf-8")


def _parse(document: Any, where: str) -> Float[np.ndarray, "n 134 3"]:
    """The people of one frame in the file's unit; nobody where the frame is missing."""
    if document is None:
        return np.zeros((0, NUM_KEYPOINTS, 3))
    people = document.get("people") if isinstance(document, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise ValueError(f'{where} is not OpenPose\'s JSON, expected an object with a list of objects "people"')
    frame = np.zeros((len(people), NUM_KEYPOINTS, 3))
    for index, person in enumerate(people):
        body = _part(person, "pose_keypoints_2d", (18, 25), f"{where}, person {index}")
        if body is not None and len(body) == 25:
            frame[index, BODY], frame[index, FEET] = body[list(BODY_25)], body[BODY_25_FEET]
        elif body is not None:
            frame[index, BODY] = body
        for key, (place, counts) in PARTS.items():
            part = _part(person, key, counts, f"{where}, person {index}")
            if part is not None:
                frame[index, place] = part[: place.stop - place.start]
    return frame


def _part(person: dict[str, Any], key: str, counts: tuple[int, ...], where: str) -> Float[np.ndarray, "n 3"] | None:
    values = person.get(key)
    if values is None:
        values = person.get(key.removesuffix("_2d"))
    return None if values is None or values == [] else rows(values, counts, f"{where}: {key}")


def _size(documents: list[Any], height: int | None, width: int | None, path: StrPath) -> tuple[int, int]:
    stated = {
        (document["canvas_height"], document["canvas_width"])
        for document in documents
        if document is not None and all(isinstance(document.get(key), int) for key in ("canvas_height", "canvas_width"))
    }
    if (height is None) != (width is None):
        raise ValueError(f"height {height} and width {width} of the images given, expected both or neither")
    if height is not None and width is not None:
        stated.add((height, width))
    if not stated:
        raise ValueError(
            f"{path} is OpenPose's JSON, which does not state the size of the images that the poses were found in: "
            "give height and width (--pose-size HEIGHT WIDTH)"
        )
    if len(stated) > 1:
        one, other, *_ = sorted(stated)
        raise ValueError(f"{path}: images of (height, width) {one} and {other} are stated or given, expected one size")
    [(height, width)] = stated
    return height, width


def _guess_scale(frames: list[Float[np.ndarray, "n 134 3"]], path: StrPath) -> Scale:
    seen = np.concatenate([frame[frame[..., 2] > 0][:, :2].ravel() for frame in frames])
    if not seen.size or np.abs(seen).max() > FARTHEST:
        return "pixels"
    if seen.min() < 0:
        raise ValueError(
            f"{path} holds coordinates from {seen.min():.3g} to {seen.max():.3g}, which may be normalised to [-1, 1] "
            'or to [0, 1] with points outside the image: give scale "signed" or "normalised"'
        )
    return "normalised"


def _normalise(points: np.ndarray, scale: Scale, height: int, width: int) -> np.ndarray:
    """Ours are pixels over the size; OpenPose's (keypointScaler.cpp) over the size less one."""
    if scale == "pixels":
        return points / (width, height)
    unit = (points + 1) / 2 if scale == "signed" else points
    return unit * (1 - 1 / width, 1 - 1 / height)


def _denormalise(points: np.ndarray, scale: Scale, height: int, width: int) -> np.ndarray:
    if scale == "pixels":
        return points * np.array([width, height], np.float64)
    if height == 1 or width == 1:
        raise ValueError(f"images of {height}x{width} (height x width) have no {scale} coordinates in OpenPose's sense")
    unit = points / (1 - 1 / width, 1 - 1 / height)
    return 2 * unit - 1 if scale == "signed" else unit


def _person(frame: Float[np.ndarray, "134 3"], body: int) -> dict[str, Any]:
    pose = frame[BODY]
    if body == 25:
        pose = np.zeros((25, 3))
        pose[list(BODY_25)], pose[BODY_25_FEET] = frame[BODY], frame[FEET]
        hips = frame[[RIGHT_HIP, LEFT_HIP]]
        if (hips[:, 2] > 0).all():
            pose[BODY_25_HIPS] = *hips[:, :2].mean(axis=0), hips[:, 2].min()
    parts = {
        "pose_keypoints_2d": pose,
        "face_keypoints_2d": np.concatenate([frame[FACE], frame[[RIGHT_EYE, LEFT_EYE]]]),
        "hand_left_keypoints_2d": frame[LEFT_HAND],
        "hand_right_keypoints_2d": frame[RIGHT_HAND],
    }
    if body == 18:
        parts["foot_keypoints_2d"] = frame[FEET]
    lists = {key: [round(value, 6) for value in part.ravel().tolist()] for key, part in parts.items()}
    return {"person_id": [-1]} | lists
