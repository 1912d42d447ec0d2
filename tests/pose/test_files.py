"""Keypoints, and the files that hold poses."""

import errno
import json

import numpy as np
import pytest
from PIL import Image

from aa_jax.pose import Keypoints, load_keypoints, load_pose, save_keypoints
from aa_jax.pose.disco import save_disco
from aa_jax.pose.mediapipe import save_mediapipe
from aa_jax.pose.openpose import save_openpose
from aa_jax.video import Video, write_video
from tests.full_disk import largest_file
from tests.pose.clips import assert_same_clip, make_clip


def make_arrays(frames: int = 3) -> dict:
    rng = np.random.default_rng(0)
    points, scores = rng.uniform(-0.2, 1.2, (frames, 134, 2)), rng.uniform(0, 1, (frames, 134))
    return {"points": points, "scores": scores, "height": 720, "width": 1280, "fps": 30000 / 1001}


@pytest.mark.parametrize("fps", [30000 / 1001, None])
def test_round_trip(tmp_path, fps):
    saved = Keypoints(**make_arrays() | {"fps": fps})
    save_keypoints(tmp_path / "pose.npz", saved)
    loaded = load_keypoints(tmp_path / "pose.npz")
    assert loaded.points.dtype == loaded.scores.dtype == np.float32
    np.testing.assert_array_equal(loaded.points, saved.points)
    np.testing.assert_array_equal(loaded.scores, saved.scores)
    assert (loaded.height, loaded.width, loaded.fps, len(loaded)) == (720, 1280, fps, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["pose.npz"]


def test_documented_keys_are_what_a_file_holds(tmp_path):
    save_keypoints(tmp_path / "pose.npz", Keypoints(**make_arrays()))
    with np.load(tmp_path / "pose.npz", allow_pickle=False) as archive:
        assert sorted(archive) == ["fps", "height", "points", "scores", "width"]
    np.savez(tmp_path / "own.npz", **make_arrays())
    np.testing.assert_array_equal(load_keypoints(tmp_path / "own.npz").points, make_arrays()["points"].astype("f4"))


def test_keypoints_keep_their_own_copy():
    arrays = make_arrays()
    arrays["points"] = arrays["points"].astype(np.float32)
    keypoints = Keypoints(**arrays)
    arrays["points"][:] = 9
    assert keypoints.points.max() < 2


BAD_FIELDS = {
    "shape": ({"points": np.zeros((3, 18, 2))}, r"\(3, 18, 2\)"),
    "score shape": ({"scores": np.zeros((3, 133))}, r"\(3, 133\)"),
    "one frame without its axis": ({"points": np.zeros((134, 2)), "scores": np.zeros(134)}, r"expected \(t, 134, 2\)"),
    "no frame": ({"points": np.zeros((0, 134, 2)), "scores": np.zeros((0, 134))}, "one frame or more"),
    "NaN": ({"points": np.full((3, 134, 2), np.nan)}, "points that are NaN"),
    "infinite score": ({"scores": np.full((3, 134), np.inf)}, "scores that are NaN or infinite"),
    "pixels": ({"points": np.full((3, 134, 2), 400.0)}, "as far out as 400, expected coordinates normalised"),
    "text": ({"points": np.full((3, 134, 2), "a")}, "dtype <U1"),
    "height": ({"height": 0}, "height 0, expected a positive whole number"),
    "width": ({"width": 12.5}, "width 12.5"),
    "fps": ({"fps": -1.0}, "fps -1.0"),
    "fps NaN": ({"fps": float("nan")}, "fps nan"),
    "fps text": ({"fps": "fast"}, "fps 'fast'"),
}


@pytest.mark.parametrize(("change", "message"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_bad_keypoints_are_refused_also_from_a_file(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        Keypoints(**make_arrays() | change)
    np.savez(tmp_path / "bad.npz", **make_arrays() | change)
    with pytest.raises(ValueError, match=message) as caught:
        load_keypoints(tmp_path / "bad.npz")
    assert str(caught.value).startswith(str(tmp_path / "bad.npz"))
    assert "\n" not in str(caught.value)


def test_missing_keys_are_listed(tmp_path):
    np.savez(tmp_path / "bare.npz", points=make_arrays()["points"])
    with pytest.raises(ValueError, match=r"bare\.npz lacks scores, height, width: a keypoint file holds points"):
        load_keypoints(tmp_path / "bare.npz")
    np.savez(tmp_path / "many.npz", **make_arrays() | {"height": np.ones(3, int)})
    with pytest.raises(ValueError, match=r"height of shape \(3,\), expected one number"):
        load_keypoints(tmp_path / "many.npz")


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "pickled.npz", **make_arrays() | {"scores": np.array([{}, "x"], dtype=object)})
    with pytest.raises(ValueError, match=r"pickled\.npz cannot be read as a keypoint file.*allow_pickle"):
        load_keypoints(tmp_path / "pickled.npz")


def test_files_that_are_no_keypoint_file(tmp_path):
    save_keypoints(tmp_path / "whole.npz", Keypoints(**make_arrays()))
    whole = (tmp_path / "whole.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[300:400] = bytes(100)
    np.save(tmp_path / "array.npy", np.zeros(3))
    contents = {
        "cut.npz": whole[: len(whole) // 2],
        "damaged.npz": bytes(damaged),
        "text.npz": b"hello",
        "empty.npz": b"",
        "array.npz": (tmp_path / "array.npy").read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} .*keypoint file"):
            load_keypoints(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.npz does not exist"):
        load_keypoints(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="is a folder"):
        load_keypoints(tmp_path)


def test_failed_save_leaves_nothing_and_the_old_file(tmp_path):
    with pytest.raises(ValueError, match=r"does not end in \.npz"):
        save_keypoints(tmp_path / "pose.npy", Keypoints(**make_arrays()))
    with pytest.raises(FileNotFoundError, match=r"cannot write .*pose\.npz"):
        save_keypoints(tmp_path / "none" / "pose.npz", Keypoints(**make_arrays()))
    with largest_file(1000), pytest.raises(OSError, match=r"cannot write .*pose\.npz: File too large") as caught:
        save_keypoints(tmp_path / "pose.npz", Keypoints(**make_arrays()))
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []

    save_keypoints(tmp_path / "pose.npz", Keypoints(**make_arrays(1)))
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        save_keypoints(tmp_path / "pose.npz", Keypoints(**make_arrays(3)))
    assert len(load_keypoints(tmp_path / "pose.npz")) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["pose.npz"]


def test_load_pose_goes_by_what_the_path_is(tmp_path):
    keypoints = Keypoints(**make_arrays())
    save_keypoints(tmp_path / "pose.NPZ", keypoints)
    loaded = load_pose(tmp_path / "pose.NPZ")
    assert isinstance(loaded, Keypoints)
    np.testing.assert_array_equal(loaded.points, keypoints.points)

    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    write_video(tmp_path / "frames", frames, 8)
    drawn = load_pose(tmp_path / "frames")
    assert isinstance(drawn, Video)
    np.testing.assert_array_equal(drawn.frames, frames)

    for name in ("pose.mp4", "pose.gif"):
        write_video(tmp_path / name, frames, 12)
        drawn = load_pose(tmp_path / name)
        assert (drawn.frames.shape, drawn.fps) == (frames.shape, pytest.approx(12, rel=0.05))
    for name in ("pose.NPZ", "frames", "pose.mp4", "pose.gif"):
        assert [len(load_pose(tmp_path / name, max_frames=count)) for count in (2, 9)] == [2, 3]
    Image.fromarray(frames[0]).save(tmp_path / "still.png")
    np.testing.assert_array_equal(load_pose(tmp_path / "still.png").frames, frames[:1])

    with pytest.raises(FileNotFoundError, match=r"none\.mp4 does not exist"):
        load_pose(tmp_path / "none.mp4")


def test_every_format_is_told_by_what_it_holds(tmp_path):
    """And `load_pose` reads each as keypoints."""
    clip, size = make_clip(3), {"height": 720, "width": 1280}
    save_keypoints(tmp_path / "pose.npz", clip)
    save_openpose(tmp_path / "openpose", clip)
    save_disco(tmp_path / "disco", clip)
    clip_folder = tmp_path / "00337"
    clip_folder.mkdir()
    save_disco(clip_folder / "openpose_json", clip)
    for index in range(3):
        Image.new("RGB", (1280, 720)).save(clip_folder / f"{index:04d}.png")
    save_mediapipe(tmp_path / "mediapipe.json", clip)
    (tmp_path / "folder").mkdir()
    for index, result in enumerate(json.loads((tmp_path / "mediapipe.json").read_text())):
        (tmp_path / "folder" / f"{index}.json").write_text(json.dumps(result))
    body = [*range(18)]
    cases = {
        "pose.npz": ({}, slice(None)),
        "openpose": ({}, slice(None)),
        "disco": (size, body),
        "disco/0000.png.json": (size, body),
        "00337": ({}, body),
        "mediapipe.json": (size, body),
        "folder": (size, body),
    }
    for name, (given, points) in cases.items():
        for load in (load_keypoints, load_pose):
            loaded = load(tmp_path / name, **given, fps=25)
            expected = make_clip(1) if name.endswith(".png.json") else clip
            assert isinstance(loaded, Keypoints) and loaded.fps == 25
            assert_same_clip(loaded, expected, points)


def test_the_person_and_the_unit_can_be_chosen(tmp_path):
    body = np.ones((2, 18, 3))
    body[:, :, :2] = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 18, 2))
    people = [{"pose_keypoints_2d": one.ravel().tolist()} for one in body]
    (tmp_path / "pose.json").write_text(json.dumps({"people": people, "canvas_height": 100, "canvas_width": 100}))
    loaded = load_pose(tmp_path / "pose.json", scale="signed", choose=1)
    np.testing.assert_allclose(loaded.points[0, :18], (body[1, :, :2] + 1) / 2 * 0.99, atol=1e-6)
    people = [{"keypoints": np.full((17, 3), x).tolist()} for x in (10.0, 20.0)]
    (tmp_path / "disco.json").write_text(json.dumps(people))
    assert load_pose(tmp_path / "disco.json", height=100, width=100, choose=1).points[0, 0, 0] == pytest.approx(0.2)


def test_sizes_that_are_not_known_or_do_not_agree(tmp_path):
    save_keypoints(tmp_path / "pose.npz", make_clip(1))
    assert load_keypoints(tmp_path / "pose.npz", height=720, width=1280).width == 1280
    with pytest.raises(
        ValueError, match=r"pose\.npz is of images of 720x1280 \(height x width\), but 512x1280 was given"
    ):
        load_keypoints(tmp_path / "pose.npz", height=512)
    save_disco(tmp_path / "disco", make_clip(1))
    save_mediapipe(tmp_path / "mediapipe.json", make_clip(1))
    (tmp_path / "openpose.json").write_text('{"people": [{"pose_keypoints_2d": []}]}')
    for name in ("disco", "mediapipe.json", "openpose.json"):
        with pytest.raises(ValueError, match=rf"{name} .*does not state|do not state .*: give height and width"):
            load_pose(tmp_path / name)


OTHER_JSON = {
    "an object": '{"a": 1}',
    "numbers": "[1, 2, 3]",
    "a number": "3",
    "text": '"pose"',
    "null": "null",
    "a COCO data set": '{"annotations": [{"keypoints": [1, 2, 2]}], "images": []}',
    "keypoints of no list": '{"keypoints": [[1, 2, 3]]}',
}


@pytest.mark.parametrize("content", OTHER_JSON.values(), ids=OTHER_JSON)
def test_other_json_gives_one_line(tmp_path, content):
    (tmp_path / "pose.json").write_text(content)
    for load in (load_keypoints, load_pose):
        with pytest.raises(ValueError, match=r"pose\.json holds no keypoints that are known: expected") as caught:
            load(tmp_path / "pose.json")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.json", "none.npz", "none"])
def test_nothing_there(tmp_path, name):
    for load in (load_keypoints, load_pose):
        with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
            load(tmp_path / name)


def test_folders_of_images_and_json(tmp_path):
    """JSON that is no pose may lie beside drawn poses; keypoints may not, for which is meant?"""
    folder = tmp_path / "frames"
    write_video(folder, np.zeros((2, 16, 16, 3), np.uint8), 8)
    (folder / "settings.json").write_text('{"seed": 1}')
    assert len(load_pose(folder)) == 2
    (folder / "settings.json").write_text('{"people": []}')
    with pytest.raises(ValueError, match=r"frames holds both images and keypoints \(openpose JSON\)"):
        load_pose(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images"):
        load_pose(tmp_path / "empty")
    with pytest.raises(ValueError, match="empty is a folder without JSON files"):
        load_keypoints(tmp_path / "empty")


def every_json(folder) -> dict[str, bytes]:
    """One file of each JSON format, with two people where it can hold them."""
    clip = make_clip(1)
    save_openpose(folder / "openpose", clip)
    save_disco(folder / "disco", clip)
    save_mediapipe(folder / "mediapipe.json", clip)
    files = [*(folder / "openpose").iterdir(), *(folder / "disco").iterdir(), folder / "mediapipe.json"]
    return dict(zip(("openpose", "disco", "mediapipe"), (file.read_bytes() for file in files), strict=True))


@pytest.mark.parametrize("form", ["openpose", "disco", "mediapipe"])
def test_json_cut_anywhere_gives_one_line(tmp_path, form):
    whole, path = every_json(tmp_path)[form], tmp_path / "cut.json"
    for length in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.json is (empty|no JSON or is cut short)") as caught:
            load_pose(path, height=720, width=1280)
        assert "\n" not in str(caught.value)


def replaced(document: object, target: int, value: object, seen: list[int]) -> object:
    """The document with its node number `target`, counted from the outside in, replaced."""
    seen[0] += 1
    if seen[0] == target:
        return value
    if isinstance(document, dict):
        return {key: replaced(one, target, value, seen) for key, one in document.items()}
    if isinstance(document, list):
        return [replaced(one, target, value, seen) for one in document]
    return document


@pytest.mark.parametrize("form", ["openpose", "disco", "mediapipe"])
@pytest.mark.parametrize(
    "value",
    [None, "a", -1, 1e300, 10**400, float("nan"), True, [], {}, [[]], [None], {"x": []}],
    ids=lambda value: repr(value)[:12],
)
def test_any_wrong_value_is_refused_in_one_line_or_read(tmp_path, form, value):
    """Whatever stands in the place of any part of a document, nothing but a ValueError comes of it."""
    document, path = json.loads(every_json(tmp_path)[form]), tmp_path / "wrong.json"
    size = {} if form == "openpose" else {"height": 720, "width": 1280}
    nodes = [0]
    replaced(document, 0, None, nodes)
    refused = 0
    for target in sorted({*range(1, 7), *np.linspace(1, nodes[0], 15, dtype=int).tolist(), nodes[0] - 1}):
        path.write_text(json.dumps(replaced(document, target, value, [0])))
        try:
            load_pose(path, **size)
        except ValueError as error:
            refused += 1
            assert "wrong.json" in str(error) and "\n" not in str(error)
    assert refused
