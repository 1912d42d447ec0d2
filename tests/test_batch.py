"""Many animations by one command: what is checked first, what is resumed, and what a failing job does to the others."""

import json

import numpy as np
import pytest
from PIL import Image

from aa_jax import animate, batch
from aa_jax.pose import Keypoints, save_keypoints
from aa_jax.video import read_video
from tests.small_models import write_small_stack

JOBS = (
    {"reference": "a.png", "pose": "wave.npz", "output": "a_wave.mp4", "seed": 1},
    {"reference": "b.png", "pose": "wave.npz", "output": "b/wave.webp", "side_by_side": True, "num_frames": 2},
    {
        "reference": "a.png",
        "pose": "wave.npz",
        "output": "a_wave_2.mp4",
        "guidance_interval": [0.0, 1.0],
        "guidance_scale": 2,
    },
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_small_stack(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def inputs(tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 255, (52, 44, 3), np.uint8)).save(folder / f"{name}.png")
    points = rng.random((3, 134, 2))
    save_keypoints(folder / "wave.npz", Keypoints(points=points, scores=np.ones((3, 134)), height=52, width=44, fps=10))
    return folder


def listed(folder, *jobs):
    (folder / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)) + "\n\n")
    return folder / "jobs.jsonl"


def run(model, jobs, output, *more):
    arguments = ["--model", str(model), "--jobs", str(jobs), "--output", str(output), "--quiet", *more]
    return batch.main([*arguments, "--num-inference-steps", "1"])


def stamps(output):
    return {path.name: path.stat().st_mtime_ns for path in output.rglob("*") if path.suffix in (".mp4", ".webp")}


def test_all_jobs_as_animate_makes_them_and_resumed(model, inputs, tmp_path, capsys):
    jobs, output = listed(inputs, *JOBS), tmp_path / "out"
    assert run(model, jobs, output, "--part", "1/2") == 0
    assert set(stamps(output)) == {"a_wave.mp4", "a_wave_2.mp4"}
    assert run(model, jobs, output) == 0
    before = stamps(output)
    assert set(before) == {"a_wave.mp4", "a_wave_2.mp4", "wave.webp"}
    assert read_video(output / "b" / "wave.webp").frames.shape == (2, 52, 3 * 44, 3)
    (output / "a_wave.mp4").unlink()
    assert run(model, jobs, output) == 0
    after = stamps(output)
    assert {name for name in before if before[name] != after[name]} == {"a_wave.mp4"}

    alone = tmp_path / "alone.mp4"
    words = ["--model", model, "--reference", inputs / "a.png", "--pose", inputs / "wave.npz", "--output", alone]
    assert animate.main([*map(str, words), "--seed", "1", "--num-inference-steps", "1", "--quiet"]) == 0
    assert alone.read_bytes() == (output / "a_wave.mp4").read_bytes()

    capsys.readouterr()
    assert run(model, listed(inputs, JOBS[0] | {"seed": 2}), output) == 2
    assert "a_wave.mp4 was made of other files, options or weights than line 1 asks for" in capsys.readouterr().err
    assert stamps(output) == after


def test_a_failing_job_is_told_of_and_the_others_go_on(model, inputs, tmp_path, capsys):
    (inputs / "broken.png").write_text("no image")
    jobs = listed(inputs, JOBS[0] | {"reference": "broken.png", "output": "bad.mp4"}, JOBS[0])
    assert run(model, jobs, tmp_path / "out") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("batch: line 1, bad.mp4: ") and "broken.png" in first
    assert second.startswith("batch: 1 of 2 jobs failed")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a_wave.mp4", "a_wave.mp4.json"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["{"], "line 1: no JSON"),
        (["[]"], "line 1: list given"),
        ([{"reference": "a.png", "pose": "wave.npz"}], "line 1: output is missing"),
        ([JOBS[0], JOBS[0]], "line 2: its output a_wave.mp4 is that of line 1 too"),
        ([JOBS[0] | {"reference": "none.png"}], "none.png does not exist"),
        ([JOBS[0] | {"pose": 3}], "pose is missing, or no string"),
        ([JOBS[0] | {"output": "../up.mp4"}], "expected a name inside the output folder"),
        ([JOBS[0] | {"step": 3}], "unrecognized arguments: --step=3"),
        ([JOBS[0] | {"seed": "x"}], "invalid int value: 'x'"),
        ([JOBS[0] | {"dtype": "bfloat16"}], "dtype is of the command"),
        ([JOBS[0] | {"compiled": "a"}], "compiled is of the command"),
        ([JOBS[0] | {"height": 50}], "height is 50"),
        ([], "is empty"),
    ],
)
def test_every_job_is_checked_before_the_first_is_run(lines, expected, model, inputs, tmp_path, capsys):
    lines = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (inputs / "jobs.jsonl").write_text("\n".join(lines))
    assert run(model, inputs / "jobs.jsonl", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_compiled_programs_are_for_one_device(model, inputs, tmp_path, capsys):
    assert run(model, listed(inputs, *JOBS), tmp_path / "out", "--compiled", "folder") == 2
    assert "--compiled is of aa_jax.animate alone" in capsys.readouterr().err


def test_parts(capsys):
    assert batch.part("2/3") == (2, 3)
    for bad in ("0/3", "4/3", "2", "a/b", "1/2/3"):
        with pytest.raises(SystemExit, match="2"):
            batch.main(["--model", "m", "--jobs", "j", "--output", "o", "--part", bad])
        assert "expected 1/N to N/N" in capsys.readouterr().err
