"""Reading JSON: damaged files, the order of a folder's frames, and arrays of numbers."""

import numpy as np
import pytest

from aa_jax.pose.json_files import frame_files, read_frames, read_json, rows

BROKEN = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "truncated": (b'{"people": [{"pose_keypoints_2d": [1.0, 2', "is no JSON or is cut short: .* at line 1, column"),
    "text": (b"hello", "is no JSON or is cut short"),
    "binary": (b"\x89PNG\xff\xfe", "not UTF-8"),
    "nested": (b"[" * 100_000, "cannot be read as JSON|cut short"),
    "digits": (b"1" * 10_000, "cannot be read as JSON"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_json_gives_one_line(tmp_path, content, message):
    (tmp_path / "pose.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_json(tmp_path / "pose.json")
    assert str(caught.value).startswith(str(tmp_path / "pose.json")) and "\n" not in str(caught.value)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="is a folder without JSON files"):
        frame_files(tmp_path)


def test_byte_order_mark(tmp_path):
    (tmp_path / "pose.json").write_bytes(b'\xef\xbb\xbf{"people": []}')
    assert read_json(tmp_path / "pose.json") == {"people": []}


def touch(folder, *names):
    for name in names:
        (folder / name).write_text("{}")


ORDERS = {
    "natural": (["a_9.json", "a_10.json", "a_8.json"], ["a_8.json", "a_9.json", "a_10.json"]),
    "padded": (
        ["v_000000000001_keypoints.json", "v_000000000000_keypoints.json"],
        ["v_000000000000_keypoints.json", "v_000000000001_keypoints.json"],
    ),
    "a gap": (["1.json", "2.json", "4.json"], ["1.json", "2.json", None, "4.json"]),
    "every other": (["00.json", "02.json", "04.json"], ["00.json", "02.json", "04.json"]),
    "every other with a gap": (
        ["0.json", "2.json", "6.json", "8.json"],
        ["0.json", "2.json", None, "6.json", "8.json"],
    ),
    "the number of the clip stays": (["c_7_1.json", "c_7_0.json"], ["c_7_0.json", "c_7_1.json"]),
    "a time beside": (["1_0.040.json", "0_0.000.json"], ["0_0.000.json", "1_0.040.json"]),
    "one file": (["pose.json"], ["pose.json"]),
    "other files": (["1.json", "2.json", ".3.json", "x.txt"], ["1.json", "2.json"]),
}


@pytest.mark.parametrize(("names", "expected"), ORDERS.values(), ids=ORDERS)
def test_order_and_gaps_go_by_the_number(tmp_path, names, expected):
    touch(tmp_path, *names)
    assert [file and file.name for file in frame_files(tmp_path)] == expected


REFUSED = {
    "two clips": (["a_0.json", "b_0.json"], "a_0.json and b_0.json, whose names differ in more than a number"),
    "two clips by number": (["a1_0.json", "a1_1.json", "a2_0.json"], "several files of one frame number"),
    "a number twice": (["1.json", "01.json"], "several files of one frame number"),
    "few of many": (["1.json", "2.json", "90.json"], "3 JSON files numbered 1 to 90, so that most frames are missing"),
}


@pytest.mark.parametrize(("names", "message"), REFUSED.values(), ids=REFUSED)
def test_folders_that_are_not_one_clip(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        frame_files(tmp_path)


def test_frames_of_one_file(tmp_path):
    (tmp_path / "pose.json").write_text('[{"people": []}, null]')
    assert [frame for _, frame in read_frames(tmp_path / "pose.json")] == [{"people": []}, None]
    (tmp_path / "pose.json").write_text('[{"keypoints": []}]')
    assert [frame for _, frame in read_frames(tmp_path / "pose.json")] == [[{"keypoints": []}]]


def test_a_folder_of_lists_of_one_frame(tmp_path):
    for index in range(2):
        (tmp_path / f"PoseKeypoint_{index}.json").write_text('[{"people": []}]')
    assert [frame for _, frame in read_frames(tmp_path)] == [{"people": []}] * 2


def test_rows():
    np.testing.assert_array_equal(rows([1, 2, 0.5, 3, 4, 0], (2,), "here"), [[1, 2, 0.5], [0, 0, 0]])
    np.testing.assert_array_equal(rows([[1, 2, 0.5], [-1, -1, -1]], (2,), "here"), [[1, 2, 0.5], [0, 0, 0]])


BAD_ROWS = {
    "count": ([1.0] * 51, "holds 51 numbers, expected x, y and score of 18 or 25 points"),
    "not threes": ([1.0] * 55, "holds 55 numbers"),
    "pairs": ([[1.0, 2.0]] * 27, r"holds numbers of shape \(27, 2\)"),
    "one number": (3, r"holds numbers of shape \(\)"),
    "strings": (["1.0"] * 54, "no number"),
    "one string": ([1.0] * 53 + ["a"], "no number"),
    "null": ([1.0] * 53 + [None], "no number"),
    "booleans": ([True] * 54, "no number"),
    "object": ({"x": 1}, "no number"),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], "no number"),
    "NaN": ([float("nan")] * 54, "NaN, infinite or beyond"),
    "infinite": ([float("inf")] * 54, "NaN, infinite or beyond"),
    "huge": ([1e300] * 54, "NaN, infinite or beyond 1e"),
    "huge integer": ([10**400] * 54, "no number"),
}


@pytest.mark.parametrize(("values", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_rows(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        rows(values, (18, 25), "file: body")
    assert str(caught.value).startswith("file: body holds") and "\n" not in str(caught.value)
