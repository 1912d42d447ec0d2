"""Keypoints, and the files that hold poses."""

import errno

import numpy as np
import pytest
from PIL import Image

from aa_jax.pose import Keypoints, load_keypoints, load_pose, save_keypoints
from aa_jax.video import Video, write_video
from tests.full_disk import largest_file


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
    Image.fromarray(frames[0]).save(tmp_path / "still.png")
    np.testing.assert_array_equal(load_pose(tmp_path / "still.png").frames, frames[:1])

    with pytest.raises(FileNotFoundError, match=r"none\.mp4 does not exist"):
        load_pose(tmp_path / "none.mp4")
