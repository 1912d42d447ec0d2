"""The commands of `python -m aa_jax.pose`: a run of each, and bad input: one line, exit code 2, nothing written."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

from aa_jax.pose import Keypoints, draw_poses, load_keypoints, save_keypoints
from aa_jax.pose.__main__ import main
from aa_jax.pose.draw import DrawStyle
from aa_jax.pose.openpose import save_openpose
from aa_jax.pose.retarget import retarget
from aa_jax.pose.smooth import fill_gaps, one_euro, savitzky_golay
from aa_jax.video import read_video, write_video
from tests.full_disk import largest_file

COMMANDS = ("extract", "draw", "retarget", "smooth", "info")


def made(seed, frames=4, height=96, width=64, fps=20.0):
    points = np.random.default_rng(seed).uniform(0.1, 0.9, (frames, 134, 2))
    return Keypoints(points=points, scores=np.ones((frames, 134)), height=height, width=width, fps=fps)


@pytest.fixture
def folder(tmp_path):
    save_keypoints(tmp_path / "dance.npz", made(0))
    save_keypoints(tmp_path / "person.npz", made(1, frames=1, height=80, width=80))
    return tmp_path


def run(*words):
    return main([str(word) for word in words])


def refused(capsys, folder, words, *expected):
    """The command ends with 2 and one line that says all of `expected`; nothing was written."""
    before = sorted(folder.iterdir())
    try:
        code = run(*words)
    except SystemExit as error:
        code = error.code
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "", printed
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    for text in expected:
        assert text in lines[0], lines[0]
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_help(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    assert f"python -m aa_jax.pose {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        run(command, "--help")
    assert f"usage: aa-jax pose {command}" in capsys.readouterr().out


def test_draw(capsys, folder):
    assert run("draw", folder / "dance.npz", "--output", folder / "frames") == 0
    assert "4 frames of 64x96" in capsys.readouterr().out
    expected = draw_poses(made(0), height=96, width=64)
    np.testing.assert_array_equal(read_video(folder / "frames").frames, expected)

    options = ("--no-face", "--no-hands", "--feet", "--confidence", "--scale-to", 48, "--width", 32)
    assert run("draw", folder / "dance.npz", "--output", folder / "styled", *options) == 0
    style = DrawStyle(face=False, hands=False, feet=True, confidence=True, scale_to=48)
    np.testing.assert_array_equal(
        read_video(folder / "styled").frames, draw_poses(made(0), height=48, width=32, style=style)
    )
    assert run("draw", folder / "dance.npz", "--output", folder / "drawn.mp4", "--height", 50) == 0
    video = read_video(folder / "drawn.mp4")
    assert (video.frames.shape, video.fps) == ((4, 50, 34, 3), 20)
    assert run("draw", folder / "dance.npz", "--output", folder / "wide.mp4", "--height", 64, "--width", 128,
               "--resize", "letterbox", "--fps", 5) == 0  # fmt: skip
    video = read_video(folder / "wide.mp4")
    assert (video.frames.shape, video.fps) == ((4, 64, 128, 3), 5)
    assert video.frames[:, :, :30].max() < 20 < video.frames[:, :, 45:85].max()


@pytest.mark.parametrize("method", ["affine", "bones", "none"])
def test_retarget(capsys, folder, method):
    words = (
        "retarget",
        folder / "dance.npz",
        folder / "person.npz",
        "--output",
        folder / "out.npz",
        "--method",
        method,
    )
    assert run(*words) == 0
    printed = capsys.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = retarget(made(0), made(1, frames=1, height=80, width=80), method=method)
    assert printed.err.splitlines() == [f"pose retarget: {warning.message}" for warning in caught]
    assert "4 frames at 20 per second, of 80x80 (width x height)" in printed.out
    np.testing.assert_array_equal(load_keypoints(folder / "out.npz").points, expected.points)


def test_json_and_its_size(capsys, folder):
    save_openpose(folder / "json", made(0))
    for file in (folder / "json").iterdir():
        file.write_text(file.read_text().replace("canvas_", "other_"))
    refused(capsys, folder, ("info", folder / "json"), "height", "width")
    assert run("info", folder / "json", "--pose-size", 96, 64) == 0
    assert "of 64x96 (width x height)" in capsys.readouterr().out
    words = ("retarget", folder / "person.npz", folder / "json", "--reference-size", 96, 64)
    assert run(*words, "--output", folder / "out.npz", "--method", "none") == 0
    assert (load_keypoints(folder / "out.npz").height, load_keypoints(folder / "out.npz").width) == (96, 64)


def test_smooth(folder):
    pose = made(0, frames=12)
    scores = pose.scores.copy()
    scores[5:7] = 0
    gappy = Keypoints(points=pose.points, scores=scores, height=96, width=64, fps=20.0)
    save_keypoints(folder / "gappy.npz", gappy)
    filled = fill_gaps(gappy, max_gap=2)
    for options, expected in (
        ((), savitzky_golay(gappy)),
        (("--fill-gaps", 2), savitzky_golay(filled)),
        (("--fill-gaps", 2, "--filter", "one-euro"), one_euro(filled)),
        (("--fill-gaps", 1, "--filter", "none"), gappy),
    ):
        assert run("smooth", folder / "gappy.npz", "--output", folder / "out.npz", *options) == 0
        result = load_keypoints(folder / "out.npz")
        np.testing.assert_array_equal(result.points, expected.points)
        np.testing.assert_array_equal(result.scores, expected.scores)


def test_info(capsys, folder):
    pose = made(0)
    scores = pose.scores.copy()
    scores[:2, 24:58] = 0  # half of the face's points in half of the frames
    scores[:3, 92:113] = 0
    save_keypoints(folder / "some.npz", Keypoints(points=pose.points, scores=scores, height=96, width=64))
    assert run("info", folder / "some.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder / 'some.npz'}: 4 frames, of 64x96 (width x height)"
    told = {line[2:12].strip(): line[12:].split() for line in lines[1:]}
    assert told["body"][0] == "100.0%" and told["face"][0] == "75.0%" and told["left hand"][0] == "25.0%"
    assert told["face"][-4] == "4" and told["left hand"][-4] == "1"
    assert "x 0.1" in lines[-1] and "to 0.9" in lines[-1]
    save_keypoints(folder / "none.npz", Keypoints(points=pose.points, scores=0 * scores, height=96, width=64))
    assert run("info", folder / "none.npz") == 0
    assert "0.0% of points visible, some in 0 of 4 frames" in capsys.readouterr().out


def test_info_as_json(capsys, folder):
    pose = made(0)
    assert run("info", folder / "dance.npz", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frames"], facts["fps"], facts["height"], facts["width"]) == (4, 20.0, 96, 64)
    assert facts["parts"]["body"] == {"visible": 1.0, "frames": 4}
    assert facts["place"] == pytest.approx([*pose.points.min((0, 1)), *pose.points.max((0, 1))])
    save_keypoints(folder / "none.npz", Keypoints(points=pose.points, scores=0 * pose.scores, height=96, width=64))
    assert run("info", folder / "none.npz", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fps"] is None and facts["place"] is None and facts["parts"]["face"] == {"visible": 0.0, "frames": 0}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    nets = pytest.importorskip("tests.pose.onnx_models")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("networks")
    detector = nets.write_detector(folder / "detector.onnx", nets.detector_weights(1))
    return detector, nets.write_pose(folder / "pose.onnx", nets.pose_weights(1))


def test_extract_in_another_process(networks, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), np.uint8)
    write_video(tmp_path / "video.mp4", frames, 8)
    words = ["extract", tmp_path / "video.mp4", "--output", tmp_path / "pose.npz", "--detector", networks[0],
             "--pose-model", networks[1], "--batch-size", 2, "--device", "cpu"]  # fmt: skip
    command = [sys.executable, "-m", "aa_jax.pose", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5/5" in done.stderr and "5 frames at 8 per second, of 64x48 (width x height)" in done.stdout
    first = load_keypoints(tmp_path / "pose.npz")
    assert run(*words, "--quiet", "--num-frames", 3, "--choose", 0) == 0
    np.testing.assert_array_equal(load_keypoints(tmp_path / "pose.npz").points, first.points[:3])


def test_extract_that_cannot_be(capsys, networks, tmp_path):
    write_video(tmp_path / "video.mp4", np.zeros((2, 48, 64, 3), np.uint8), 8)
    (tmp_path / "text.mp4").write_text("no video")
    base = {"": tmp_path / "video.mp4", "--output": tmp_path / "pose.npz", "--detector": networks[0],
            "--pose-model": networks[1], "--device": "cpu", "--batch-size": 2}  # fmt: skip
    for change, *expected in (
        ({"": tmp_path / "none.mp4"}, "none.mp4 does not exist"),
        ({"": tmp_path / "text.mp4"}, "text.mp4 cannot be read as a video"),
        ({"--output": tmp_path / "pose.json"}, "pose.json does not end in .npz"),
        ({"--output": tmp_path / "nowhere" / "pose.npz"}, "nowhere is not an existing folder"),
        ({"--detector": tmp_path / "none.onnx"}, "none.onnx is not a file", "huggingface.co/yzd-v/DWPose"),
        ({"--detector": networks[1]}, "expected a detector such as yolox_l.onnx"),
        ({"--pose-model": tmp_path / "text.mp4"}, "text.mp4 cannot be loaded as an ONNX network"),
        ({"--batch-size": 0}, "batch_size is 0"),
        ({"--device": "tpu"}, "tpu", "cpu"),
        ({"--choose": "tallest"}, "'tallest' given, expected best, largest, centre or a person's index"),
        ({"--choose": "-1"}, "-1"),
        ({"--num-frames": 0}, "num_frames is 0"),
        ({"--resolution": 3}, "resolution is 3"),
    ):
        words = [word for pair in (base | change).items() for word in pair if word != ""]
        refused(capsys, tmp_path, ("extract", *words), *expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["COMMAND"]),
        (("dance", "dance.npz"), ["dance", "extract"]),
        (("draw", "dance.npz"), ["--output"]),
        (("draw", "none.npz", "--output", "out.mp4"), ["none.npz does not exist"]),
        (("draw", "dance.npz", "--output", "out.avi"), ["out.avi", ".mp4"]),
        (
            ("draw", "dance.npz", "--output", "out.mp4", "--height", "64", "--width", "64"),
            ["64x96", "64x64", "letterbox"],
        ),
        (("draw", "dance.npz", "--output", "out.mp4", "--height", "0"), ["height is 0"]),
        (("draw", "dance.npz", "--output", "out.mp4", "--fps", "0"), ["fps", "0"]),
        (("draw", "dance.npz", "--output", "out.mp4", "--scale-to", "0"), ["scale_to 0"]),
        (("draw", "dance.npz", "--output", "out.mp4", "--pose-size", "5", "5"), ["96x64", "5x5"]),
        (("retarget", "dance.npz", "--output", "out.npz"), ["REFERENCE"]),
        (("retarget", "dance.npz", "text.npz", "--output", "out.npz"), ["text.npz is damaged or no NumPy archive"]),
        (("retarget", "dance.npz", "person.npz", "--output", "out.mp4"), ["out.mp4 does not end in .npz"]),
        (("retarget", "dance.npz", "person.npz", "--output", "out.npz", "--method", "warp"), ["warp", "affine"]),
        (("smooth", "dance.npz", "--output", "out.npz", "--fill-gaps", "0"), ["max_gap 0"]),
        (("smooth", "still.npz", "--output", "out.npz", "--filter", "one-euro"), ["without fps"]),
        (("info", "none.npz"), ["none.npz does not exist"]),
        (("info",), ["FILE"]),
    ],
)
def test_bad_input(capsys, folder, monkeypatch, words, expected):
    save_keypoints(folder / "still.npz", made(2, fps=None))
    (folder / "text.npz").write_text("no archive")
    monkeypatch.chdir(folder)
    refused(capsys, folder, words, *expected)


def test_a_full_disk(capsys, folder):
    with largest_file(1000):
        words = ("retarget", folder / "dance.npz", folder / "person.npz", "--output", folder / "out.npz")
        refused(capsys, folder, (*words, "--method", "none"), "cannot write", "out.npz", "File too large")
