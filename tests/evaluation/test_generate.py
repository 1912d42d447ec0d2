"""A model on synthetic characters: generated once, by the settings that are written down."""

import json

import jax
import numpy as np
import pytest

from aa_jax.data.synthetic import SyntheticSource
from aa_jax.evaluate import main
from aa_jax.evaluation import generate
from aa_jax.pose import save_keypoints
from aa_jax.video import read_video, write_video


def run(model, output, *options):
    arguments = ["--protocol", "characters-small", "--model", str(model), "--output", str(output), "--quiet"]
    return main([*arguments, "--num-clips", "2", "--num-inference-steps", "2", *options])


@pytest.fixture(scope="module")
def output(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "out"
    assert run(model, folder, "--metrics", "psnr", "foreground_psnr", "background_psnr", "warping_error") == 0
    return folder


def test_scores_of_a_model(output):
    found = json.loads((output / "scores.json").read_text())
    clips = SyntheticSource(split="identity", num_clips=2, num_frames=16, height=64, width=48)
    for clip in (clips[0], clips[1]):
        frames, truth, masks = (
            read_video(output / "predicted" / clip.name).frames.astype(float), clip.frames(range(16)),
            clip.masks(range(16)),
        )  # fmt: skip
        errors = ((frames - truth) ** 2).mean(axis=-1)
        for name, mask in (("psnr", masks | True), ("foreground_psnr", masks), ("background_psnr", ~masks)):
            each = [10 * np.log10(255**2 / error[where].mean()) for error, where in zip(errors, mask, strict=True)]
            assert found["clips"][clip.name][name] == pytest.approx(np.mean(each), rel=1e-5)
    warping = found["estimates"]["warping_error"]
    assert 0 < warping["own"] < warping["value"]  # random weights make noise
    assert found["card"]["generation"]["num_inference_steps"] == 2


def test_the_model_sees_the_reference_clip_and_the_pose(model, recorder, tmp_path):
    assert run(model, tmp_path, "--metrics", "psnr", "--guidance-scale", "1.5") == 0
    clips = SyntheticSource(split="identity", num_clips=2, num_frames=16, height=64, width=48)
    for clip, (reference, pose, options) in zip((clips[0], clips[1]), recorder.calls, strict=True):
        np.testing.assert_array_equal(reference, clip.reference.frames([8])[0])
        np.testing.assert_array_equal(pose.points, clip.keypoints.points)
        assert (options["height"], options["width"], options["num_inference_steps"]) == (64, 48, 2)
        assert (options["seed"], options["guidance_scale"], options["reference_pose"]) == (42, 1.5, None)


def test_driving_by_another_body(model, recorder, tmp_path):
    assert run(model, tmp_path, "--metrics", "psnr", "--split", "driving", "--retarget", "bones") == 0
    clip = SyntheticSource(split="driving", num_clips=2, num_frames=16, height=64, width=48)[0]
    _, pose, options = recorder.calls[0]
    np.testing.assert_array_equal(pose.points, clip.driving.points)
    np.testing.assert_array_equal(options["reference_pose"].points, clip.reference.keypoints.points[[8]])
    assert options["retarget"] == "bones"


def test_driver_filmed_from_elsewhere(model, recorder, tmp_path, capsys):
    """Its keypoints keep the middle of the image."""
    options = ("--metrics", "psnr", "--split", "driving")
    assert run(model, tmp_path / "farther", *options, "--driver-scale", "0.5") == 0
    clip = SyntheticSource(split="driving", num_clips=2, num_frames=16, height=64, width=48)[0]
    np.testing.assert_allclose(recorder.calls[0][1].points, 0.25 + clip.driving.points / 2, atol=1e-6)
    assert run(model, tmp_path / "none", *options, "--driver-scale", "0") == 2
    assert "driver_scale is 0, expected a positive number" in capsys.readouterr().err


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_devices_share_the_clips(model, recorder, monkeypatch, tmp_path, devices):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1] * devices)
    assert run(model, tmp_path, "--metrics", "psnr") == 0
    assert recorder.made == min(devices, 2) and len(recorder.calls) == 2
    for index in range(2):
        clip = SyntheticSource(split="identity", num_clips=2, num_frames=16, height=64, width=48)[index]
        frames = read_video(tmp_path / "predicted" / clip.name).frames
        np.testing.assert_array_equal(frames[:, 0, 0, 0], (255 * clip.keypoints.points[:, 0, 0]).astype(np.uint8))


def test_what_is_generated_stays(model, output, monkeypatch):
    monkeypatch.setattr(generate, "_one", None)
    assert run(model, output, "--metrics", "psnr") == 0


def test_other_settings_are_refused(model, output, capsys):
    assert run(model, output, "--seed", "1", "--metrics", "psnr") == 2
    assert "holds clips that other settings or another model made" in capsys.readouterr().err


def test_videos_with_keypoints(model, recorder, tmp_path):
    """The first frame of each is the reference, and the keypoints beside it are the pose, at the video's own size."""
    clip = SyntheticSource(split="identity", num_clips=1, num_frames=16, height=64, width=48)[0]
    (tmp_path / "true").mkdir()
    write_video(f"{tmp_path}/true/a/", clip.frames(range(16)), 12)
    save_keypoints(tmp_path / "true" / "a.npz", clip.keypoints)
    arguments = f"--protocol videos --model {model} --truth {tmp_path}/true --output {tmp_path}/out"
    assert main([*arguments.split(), "--metrics", "psnr", "--quiet"]) == 0
    ((reference, pose, options),) = recorder.calls
    np.testing.assert_array_equal(reference, clip.frames([0])[0])
    np.testing.assert_allclose(pose.points, clip.keypoints.points)
    assert (options["height"], options["width"]) == (64, 48)


def test_an_error_on_a_device_is_told(model, tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise ValueError("this clip cannot be animated")

    monkeypatch.setattr(generate, "_one", failing)
    assert run(model, tmp_path / "out", "--metrics", "psnr") == 2
    assert capsys.readouterr().err == "evaluate: this clip cannot be animated\n"
