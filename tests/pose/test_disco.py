"""DisCo's JSON: round trip, the size of the frames beside, the first person, and malformed files."""

import json

import numpy as np
import pytest
from PIL import Image

from aa_jax.pose.disco import load_disco, save_disco
from tests.pose.clips import assert_same_clip, hide, make_clip

SIZE = {"height": 720, "width": 1280}


def person(x: float = 100.0, score: float = 0.9) -> dict:
    return {"keypoints": [[x + index, 200.0 + index, score] for index in range(17)]}


def write(folder, *frames: object):
    folder.mkdir(parents=True)
    for index, document in enumerate(frames):
        (folder / f"{index:04d}.png.json").write_text(json.dumps(document))
    return folder


def test_round_trip_of_the_body(tmp_path):
    """The neck is no part of the format: it comes back as the middle of the shoulders."""
    saved = hide(hide(make_clip(12), 3, slice(None)), 5, [0, 4])
    save_disco(tmp_path / "pose", saved)
    loaded = load_disco(tmp_path / "pose", **SIZE)
    assert_same_clip(loaded, saved, slice(18))
    assert not loaded.scores[:, 18:].any()


def test_missing_points_are_written_and_read_as_minus_one(tmp_path):
    save_disco(tmp_path / "pose", hide(make_clip(1), 0, 0))
    document = json.loads((tmp_path / "pose" / "0000.png.json").read_text())
    assert document[0]["keypoints"][0] == [-1, -1, -1] and len(document[0]["keypoints"]) == 17
    one = person()
    one["keypoints"][5] = [-1, -1, -1]  # the left shoulder, so that there is no neck either
    loaded = load_disco(write(tmp_path / "own", [one]), **SIZE)
    assert np.flatnonzero(loaded.scores[0] == 0).tolist() == [1, 5, *range(18, 134)]


def test_size_is_that_of_the_frame_beside(tmp_path):
    folder = write(tmp_path / "00337" / "openpose_json", [person()], [person()])
    for path in (tmp_path / "00337", folder):
        with pytest.raises(ValueError, match="does not state the size of the frames, and no frame lies beside it"):
            load_disco(path)
    Image.new("RGB", (604, 1080)).save(tmp_path / "00337" / "0001.png")
    for path in (tmp_path / "00337", folder):
        loaded = load_disco(path, fps=30)
        assert (loaded.height, loaded.width, loaded.fps) == (1080, 604, 30)
        np.testing.assert_allclose(loaded.points[0, 0] * (604, 1080), [100, 200], rtol=1e-5)
    assert load_disco(folder, height=100, width=200).width == 200


def test_the_first_person_or_the_followed(tmp_path):
    frames = [person(100), person(800, 0.5)], [], [person(800, 0.5), person(100)]
    folder = write(tmp_path / "pose", *frames)
    first, followed = load_disco(folder, **SIZE), load_disco(folder, **SIZE, choose="best")
    assert (first.points[:, 0, 0] * 1280).round().tolist() == [100, 0, 800]
    assert (followed.points[:, 0, 0] * 1280).round().tolist() == [100, 0, 100]
    assert first.scores[1].max() == followed.scores[1].max() == 0


BAD = {
    "16 points": ([{"keypoints": [[1, 2, 3]] * 16}], r"person 0: keypoints holds numbers of shape \(16, 3\), .* of 17"),
    "pairs": ([{"keypoints": [[1, 2]] * 17}], r"shape \(17, 2\)"),
    "strings": ([{"keypoints": [["a", "b", "c"]] * 17}], "holds something that is no number"),
    "NaN": ([{"keypoints": [[float("nan")] * 3] * 17}], "NaN, infinite"),
    "null": ([{"keypoints": None}], "holds something that is no number"),
    "an object": ({"keypoints": [[1, 2, 3]] * 17}, "is not DisCo's JSON, expected a list of objects"),
    "no people": ([{"people": []}], "is not DisCo's JSON"),
    "numbers": ([1, 2], "is not DisCo's JSON"),
    "nobody": ([], "nobody was found in any of 1 frames"),
}


@pytest.mark.parametrize(("document", "message"), BAD.values(), ids=BAD)
def test_malformed_documents_give_one_line(tmp_path, document, message):
    folder = write(tmp_path / "pose", document)
    with pytest.raises(ValueError, match=message) as caught:
        load_disco(folder, **SIZE)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_sizes(tmp_path):
    folder = write(tmp_path / "pose", [person()])
    with pytest.raises(ValueError, match="both or neither"):
        load_disco(folder, height=720)
    with pytest.raises(ValueError, match="width -1"):
        load_disco(folder, height=720, width=-1)
    with pytest.raises(ValueError, match="exists already"):
        save_disco(folder, make_clip(1))
