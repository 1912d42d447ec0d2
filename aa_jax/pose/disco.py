"""DisCo's JSON: per frame a list of people, each with 17 COCO body points in pixels, a missing one -1, -1, -1.

    [{"keypoints": [[x, y, score], ... 17]}, ...]

A clip is a folder with the frames `0000.png` and on, and `openpose_json/0000.png.json` and on beside them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from aa_jax.atomic import StrPath, new_folder
from aa_jax.image import load_image
from aa_jax.pose.json_files import frame_files, read_frames, rows
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.people import Choice, People, check_size, follow
from aa_jax.pose.wholebody import NUM_COCO, coco_to_openpose, openpose_to_coco

NUM_BODY = 17
FOLDER = "openpose_json"


def load_disco(
    path: StrPath,
    *,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    choose: Choice | None = None,
) -> Keypoints:
    """Read DisCo's JSON. There are no feet, face and hands; the neck is midway between the shoulders.

    Args:
      path: a clip's folder, its `openpose_json`, or one JSON file.
      height: of the frames, in pixels; needed unless the first frame lies beside the JSON, as in DisCo's clips.
      width: likewise.
      fps: frames per second, which the files do not state.
      choose: whom to follow, see `aa_jax.pose.people.follow`; by default the first person of each frame, as DisCo does.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: a file is no JSON or not DisCo's, the size of the frames is not known, or there is nobody.
    """
    folder = Path(path) / FOLDER if (Path(path) / FOLDER).is_dir() else Path(path)
    people = [_parse(document, where) for where, document in read_frames(folder)]
    if (height is None) != (width is None):
        raise ValueError(f"height {height} and width {width} of the frames given, expected both or neither")
    if height is None or width is None:
        height, width = _size(folder)
    if choose is None:
        people, choose = [frame[:1] for frame in people], 0
    try:
        check_size(height, width)
        frames = [People(points=frame[..., :2] / (width, height), scores=frame[..., 2]) for frame in people]
        return follow(frames, height=height, width=width, fps=fps, choose=choose)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_disco(path: StrPath, keypoints: Keypoints) -> None:
    """Write a new folder of DisCo's JSON, `0000.png.json` and on: the 17 body points alone.

    Nobody is in a frame where all their scores are 0.

    Raises:
      ValueError: `path` exists and is no empty folder.
      OSError: the folder cannot be written; nothing is left behind.
    """
    points, scores = openpose_to_coco(keypoints.points, keypoints.scores)
    pixels = points[:, :NUM_BODY] * np.array([keypoints.width, keypoints.height], np.float64)
    frames = np.concatenate([pixels, scores[:, :NUM_BODY, None]], axis=2)
    missing = frames[..., 2] <= 0
    frames[missing] = -1
    with new_folder(path) as partial:
        for index, frame in enumerate(frames):
            rounded = [[round(value, 6) for value in point] for point in frame.tolist()]
            document = [] if missing[index].all() else [{"keypoints": rounded}]
            (partial / f"{index:04d}.png.json").write_text(json.dumps(document), encoding="utf-8")


def _parse(document: Any, where: str) -> Float[np.ndarray, "n 134 3"]:
    """The people of one frame, in pixels; nobody where the frame is missing."""
    people = [] if document is None else document
    if not isinstance(people, list) or not all(isinstance(one, dict) and "keypoints" in one for one in people):
        raise ValueError(f'{where} is not DisCo\'s JSON, expected a list of objects with "keypoints"')
    coco = np.zeros((len(people), NUM_COCO, 3))
    for index, person in enumerate(people):
        coco[index, :NUM_BODY] = rows(person["keypoints"], (NUM_BODY,), f"{where}, person {index}: keypoints")
    points, scores = coco_to_openpose(coco[..., :2], coco[..., 2], neck="minimum")
    return np.concatenate([points, scores[..., None]], axis=-1)


def _size(folder: Path) -> tuple[int, int]:
    """The height and width of the first frame that lies beside the folder of JSON."""
    if folder.is_dir():
        for file in filter(None, frame_files(folder)):
            image = folder.parent / file.stem
            if image.is_file():
                return load_image(image).shape[:2]
    raise ValueError(
        f"{folder} is DisCo's JSON, which does not state the size of the frames, and no frame lies beside it: "
        "give height and width (--pose-size HEIGHT WIDTH)"
    )
