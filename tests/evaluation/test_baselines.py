"""What is made in place of a model's animations, by the command."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from aa_jax.data.synthetic import SyntheticSource
from aa_jax.evaluate import main
from aa_jax.evaluation import generate
from aa_jax.evaluation.conditions import conditions
from aa_jax.evaluation.generate import Generation
from aa_jax.evaluation.protocols import PROTOCOLS
from aa_jax.evaluation.warp import warp
from aa_jax.pose import save_keypoints
from aa_jax.video import read_video, write_video
from aa_jax.weights import load_network

SMALL = PROTOCOLS["characters-small"]
pytestmark = pytest.mark.usefixtures("quickly_drawn")


def run(baseline, output, *options, clips=2):
    arguments = ["--protocol", "characters-small", "--baseline", baseline, "--output", str(output), "--quiet"]
    return main([*arguments, "--num-clips", str(clips), "--metrics", "psnr", *options])


def source(split="identity"):
    return SyntheticSource(split=split, num_clips=2, num_frames=16, height=64, width=48)


def predicted(output, clip):
    return read_video(output / "predicted" / clip.name).frames


def close(frames, expected):
    """But for places that round to the one or the other neighbour of a 32nd of a pixel."""
    different = np.abs(frames.astype(int) - expected)
    assert different.max() < 8 and different.mean() < 0.01


def card(output):
    return json.loads((output / "scores.json").read_text())["card"]["generation"]


@pytest.fixture
def copies(tmp_path):
    assert run("copy", tmp_path / "copies") == 0
    return tmp_path / "copies"


def test_copy(copies):
    for clip in (source()[0], source()[1]):
        frames = predicted(copies, clip)
        np.testing.assert_array_equal(frames, np.broadcast_to(clip.reference.frames([8]), (16, 64, 48, 3)))
    assert (card(copies)["baseline"], card(copies)["model"]) == ("copy", None)
    assert json.loads((copies / "predicted" / "generation.json").read_text())["baseline"] == "copy"


def test_warp(tmp_path):
    """By the keypoints that a model is given; where another body's drive, retargeted as asked for."""
    assert run("warp", tmp_path / "own") == 0
    given = conditions(source()[1], SMALL)
    close(predicted(tmp_path / "own", source()[1]), warp(*given))
    found = []
    for way in ("none", "affine"):
        assert run("warp", tmp_path / way, "--split", "driving", "--retarget", way) == 0
        found.append(predicted(tmp_path / way, source("driving")[0]))
    given = conditions(source("driving")[0], SMALL)
    np.testing.assert_array_equal(given.pose.points, source("driving")[0].driving.points)
    close(found[0], warp(*given))
    assert (found[1] != found[0]).any()


def test_reconstruction(model, tmp_path):
    """The VAE's own functions, called one frame at a time."""
    assert run("reconstruction", tmp_path, "--model", str(model)) == 0
    clip = source()[1]
    graph, weights = nnx.split(load_network(model, "vae"))

    @jax.jit
    def through(weights, pixels):
        vae = nnx.merge(graph, weights)
        return vae.decode(vae.encode(pixels).mean)

    for index in (0, 15):
        expected = np.asarray(through(weights, clip.frames([index]).astype(np.float32) / 127.5 - 1))[0]
        expected = (expected * 127.5 + 127.5).clip(0, 255)
        assert np.abs(predicted(tmp_path, clip)[index] - expected).max() < 0.6
    assert card(tmp_path)["baseline"] == "reconstruction" and card(tmp_path)["model"] == str(model)


def test_wrong_reference(model, recorder, tmp_path):
    """The last clip's is the first one's."""
    assert run("wrong-reference", tmp_path, "--model", str(model)) == 0
    for index, (reference, pose, _) in enumerate(recorder.calls):
        np.testing.assert_array_equal(reference, source()[1 - index].reference.frames([8])[0])
        np.testing.assert_array_equal(pose.points, source()[index].keypoints.points)
    assert len(recorder.calls) == 2


def test_wrong_reference_is_what_bodies_are_retargeted_to(model, recorder, tmp_path):
    options = ("--model", str(model), "--split", "driving", "--retarget", "bones")
    assert run("wrong-reference", tmp_path, *options) == 0
    _, _, given = recorder.calls[0]
    other = source("driving")[1].reference.keypoints.take([8])
    np.testing.assert_array_equal(given["reference_pose"].points, other.points)


def test_wrong_pose(model, recorder, tmp_path):
    assert run("wrong-pose", tmp_path, "--model", str(model)) == 0
    for index, (reference, pose, _) in enumerate(recorder.calls):
        np.testing.assert_array_equal(reference, source()[index].reference.frames([8])[0])
        np.testing.assert_array_equal(pose.points, source()[1 - index].keypoints.points)


def test_poses_of_another_length():
    long, short = (conditions(source()[index], SMALL) for index in (0, 1))
    short = short._replace(pose=short.pose.take(slice(5)))
    held = long.with_pose_of(short).pose.points
    assert len(held) == 16
    np.testing.assert_array_equal(held[:5], short.pose.points)
    np.testing.assert_array_equal(held[5:], np.broadcast_to(short.pose.points[-1:], held[5:].shape))
    np.testing.assert_array_equal(short.with_pose_of(long).pose.points, long.pose.points[:5])


def test_what_is_there_stays(copies, monkeypatch):
    monkeypatch.setattr(generate, "_one", None)
    assert run("copy", copies) == 0


@pytest.mark.parametrize("baseline", ["warp", "wrong-pose"])
def test_a_folder_of_another_baseline_is_refused(baseline, copies, model, capsys):
    options = ["--model", str(model)] if baseline == "wrong-pose" else []
    assert run(baseline, copies, *options) == 2
    assert "holds clips that other settings or another model made" in capsys.readouterr().err


def test_another_next_clip_is_refused(model, recorder, tmp_path, capsys):
    """Of three clips the second one's next is not the first."""
    assert run("wrong-reference", tmp_path, "--model", str(model)) == 0
    assert run("wrong-reference", tmp_path, "--model", str(model), clips=3) == 2
    assert "holds clips that other settings" in capsys.readouterr().err


def test_goes_on_where_it_was(tmp_path, monkeypatch):
    made, original = [], generate._one

    def failing(make, clip, *rest):
        if made:
            raise KeyboardInterrupt
        made.append(clip.name)
        return original(make, clip, *rest)

    monkeypatch.setattr(generate, "_one", failing)
    assert run("warp", tmp_path) == 2
    monkeypatch.setattr(
        generate, "_one", lambda make, clip, *rest: made.append(clip.name) or original(make, clip, *rest)
    )
    assert run("warp", tmp_path) == 0
    assert made == [source()[0].name, source()[1].name]


def test_videos_of_another_size(tmp_path):
    """Both are cut as the protocol says, from the first frame on."""
    clip = source()[0]
    (tmp_path / "true").mkdir()
    write_video(f"{tmp_path}/true/a/", clip.frames(range(4)), 12)
    save_keypoints(tmp_path / "true" / "a.npz", clip.keypoints.take(range(4)))
    for baseline in ("copy", "warp"):
        arguments = f"--protocol tiktok-disco --baseline {baseline} --truth {tmp_path}/true --num-clips 1"
        assert main([*arguments.split(), "--output", str(tmp_path / baseline), "--metrics", "psnr", "--quiet"]) == 0
        frames = read_video(tmp_path / baseline / "predicted" / "a").frames
        assert frames.shape == (4, 256, 256, 3)
    assert np.abs(frames[0].astype(float) - read_video(tmp_path / "copy" / "predicted" / "a").frames[0]).mean() < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--baseline", "reconstruction"],
            "baseline reconstruction needs a model, and none is given: give one (--model)",
        ),
        (["--baseline", "copy", "--model", "some"], "baseline copy uses no model, but some is given: leave it out"),
        (["--baseline", "wrong-pose", "--model", "nowhere/at/all", "--num-clips", "2"], "nowhere/at/all"),
        (
            ["--baseline", "wrong-pose", "--model", "{model}"],
            "baseline wrong-pose needs 2 clips or more, and there is 1",
        ),
        (["--baseline", "copy", "--predicted", "some"], "--predicted and --baseline copy are both given: choose"),
        ([], "nothing to score is given: expected --predicted, --model or --baseline"),
    ],
)
def test_bad_commands(options, message, model, tmp_path, capsys):
    options = [option.format(model=model) for option in options]
    arguments = ["--protocol", "characters-small", "--num-clips", "1", "--output", str(tmp_path / "out"), "--quiet"]
    assert main([*arguments, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("evaluate: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "scores.json").exists()


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="an animation needs a model"):
        Generation()
    assert dataclasses.asdict(Generation(baseline="copy"))["baseline"] == "copy"
