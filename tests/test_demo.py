"""The demo with a model of random weights, on few frames."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from aa_jax import demo
from aa_jax.config import InferenceConfig
from aa_jax.data.synthetic.source import SyntheticSource
from aa_jax.video import read_video
from tests.small_models import SMALL_STACK, write_small_stack


@pytest.fixture
def model(tmp_path):
    inference = InferenceConfig(num_inference_steps=2, height=64, width=48, window_length=4)
    return write_small_stack(tmp_path / "model", dataclasses.replace(SMALL_STACK, inference=inference))


def test_what_it_writes(model, tmp_path, monkeypatch, capsys):
    scenes = [
        dataclasses.replace(scene, num_frames=frames) for scene, frames in zip(demo.SCENES[-2:], (6, 3), strict=True)
    ]
    monkeypatch.setattr(demo, "SCENES", scenes)
    output = tmp_path / "out"
    assert demo.main(["--model", str(model), "--output", str(output)]) == 0
    names = {f"{scene.name}.mp4" for scene in scenes}
    assert {path.name for path in output.iterdir()} == names | {"demo.webp", "sheet.png"}
    for scene in scenes:
        frames = read_video(output / f"{scene.name}.mp4").frames
        assert frames.shape == (scene.num_frames, 64 * demo.ENLARGED, 48 * demo.ENLARGED, 3)
    moving = read_video(output / "demo.webp")
    assert moving.frames.shape == (6, 64 * demo.ENLARGED, (8 * 48 + demo.GAP) * demo.ENLARGED, 3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [scene.name for scene in scenes]
    assert all(5 < float(figure) < 40 for line in lines[1:3] for figure in line.split()[2:])
    with Image.open(output / "sheet.png") as sheet:
        assert sheet.size == (9 * 48 * demo.ENLARGED, 2 * 3 * 64 * demo.ENLARGED)


def test_scenes_are_held_out():
    """New characters in all, each another; one clip is longer than a window, and one is driven by another body."""
    splits = {scene.split for scene in demo.SCENES}
    assert splits <= {"identity", "both", "driving"} and "both" in splits
    assert any(scene.num_frames > 16 for scene in demo.SCENES)
    size = {"num_frames": 16, "height": 64, "width": 48}
    clips = [
        SyntheticSource(split=scene.split, num_clips=scene.index + 1, **size)[scene.index] for scene in demo.SCENES
    ]
    assert [clip.motion.family for clip in clips] == [scene.name for scene in demo.SCENES]
    assert len({clip.identity for clip in clips}) == len(clips)
    driven = [clip.driver != clip.identity for clip in clips]
    assert any(driven) and driven == [scene.retarget != "none" for scene in demo.SCENES]


def test_no_model(tmp_path, capsys):
    assert demo.main(["--model", str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2
    assert "is no model folder and no hub id" in capsys.readouterr().err


def test_the_scores_are_of_the_character():
    truth = np.zeros((2, 4, 4, 3), np.uint8)
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :2] = True
    frames = truth.copy()
    frames[:, 2:] = 255
    result = demo.Result(
        name="a",
        fps=1.0,
        reference=np.full((4, 4, 3), 255, np.uint8),
        poses=truth,
        frames=frames,
        truth=truth,
        masks=masks,
    )
    whole, character, copied = result.decibels()
    assert (
        whole == pytest.approx(10 * np.log10(2), abs=1e-4) and character > 50 and copied == pytest.approx(0, abs=1e-4)
    )
