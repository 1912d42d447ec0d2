"""The command line: a real run of the tiny system, and bad input: one line, exit code 2, nothing under the final
name."""

import json
import resource
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from aa_jax.animate import main
from aa_jax.animator import Animator
from aa_jax.pose import Keypoints, draw_poses, load_keypoints, save_keypoints
from aa_jax.pose.retarget import retarget
from aa_jax.video import read_video, write_video
from tests.golden_tools import recipe


@pytest.fixture(scope="module")
def inputs(golden, tmp_path_factory):
    """A reference photograph with an EXIF rotation, a drawn pose video and keypoints."""
    folder = tmp_path_factory.mktemp("inputs")
    make = recipe(golden).gen_image
    lying = Image.fromarray(make("animate", 64, 64)).rotate(90)
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(folder / "reference.jpg", exif=exif, quality=95)
    write_video(folder / "pose.mp4", np.stack([make(f"pose{i}", 64, 64) for i in range(3)]), 10)
    points = np.random.default_rng(0).random((3, 134, 2))
    save_keypoints(folder / "pose.npz", Keypoints(points=points, scores=np.ones((3, 134)), height=64, width=64, fps=10))
    return folder


@pytest.fixture
def arguments(moore_folder, inputs, tmp_path):
    return {
        "--model": moore_folder,
        "--reference": inputs / "reference.jpg",
        "--pose": inputs / "pose.mp4",
        "--output": tmp_path / "out.mp4",
        "--height": 64,
        "--width": 64,
        "--num-inference-steps": 2,
    }


def words(arguments):
    return [str(word) for pair in arguments.items() for word in pair]


def refused(capsys, arguments, *expected):
    """The command ends with 2 and one line that says all of `expected`; nothing was written."""
    output = arguments["--output"]
    before = set(output.parent.iterdir()) if output.parent.is_dir() else set()
    try:
        code = main(words(arguments))
    except SystemExit as error:
        code = error.code
    printed = capsys.readouterr()
    assert code == 2, printed
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    for text in expected:
        assert text in lines[0], lines[0]
    after = set(output.parent.iterdir()) if output.parent.is_dir() else set()
    assert after == before


def record_poses(monkeypatch) -> list:
    """The poses that animate hands on from now on; its videos are black."""
    poses = []

    class Recorder(Animator):
        def frames(self, reference, pose, *, num_frames, **options):
            poses.append(pose)
            return iter(np.zeros((num_frames, 64, 64, 3), np.uint8))

    monkeypatch.setattr("aa_jax.animate.Animator", Recorder)
    return poses


def test_animate_writes_a_video(capsys, arguments):
    assert main([*words(arguments), "--side-by-side"]) == 0
    printed = capsys.readouterr()
    for word in ("model ", "moore", "compile ", "run ", "frames per second", "written "):
        assert word in printed.out
    assert "2/2" in printed.err
    video = read_video(arguments["--output"])
    assert video.frames.shape == (3, 64, 192, 3) and video.fps == 10


def test_animate_in_another_process_without_torch(arguments, inputs):
    """Keypoints in, PNGs out, and no PyTorch in the process."""
    arguments |= {"--pose": inputs / "pose.npz", "--output": arguments["--output"].with_name("frames")}
    code = (
        "import sys; from aa_jax.animate import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'diffusers', 'transformers', 'tensorflow', 'onnxruntime'} & set(sys.modules);"
        "sys.exit(code or len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words(arguments), "--quiet"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(list(arguments["--output"].glob("*.png"))) == 3


def test_keypoints_are_retargeted(capsys, monkeypatch, arguments, inputs, tmp_path):
    """With the keypoints of the reference image: the model gets the retargeted ones, and what is guessed is said."""
    scores = np.ones((1, 134))
    scores[:, 9:14] = 0
    person = np.random.default_rng(1).random((1, 134, 2)) / 2
    character = Keypoints(points=person, scores=scores, height=64, width=64)
    save_keypoints(tmp_path / "person.npz", character)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = retarget(load_keypoints(inputs / "pose.npz"), character, method="bones")

    poses = record_poses(monkeypatch)
    arguments |= {"--pose": inputs / "pose.npz", "--retarget": "bones", "--reference-pose": tmp_path / "person.npz"}
    assert main([*words(arguments), "--side-by-side", "--quiet"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == [f"animate: {warning.message}" for warning in caught] and "thighs" in "".join(said)
    np.testing.assert_array_equal(poses[0].points, expected.points)
    drawn = draw_poses(expected, height=64, width=64)
    shown = read_video(arguments["--output"]).frames[:, :, 64:128]
    assert np.abs(shown.astype(int) - drawn).mean() < 0.2 * drawn.mean()


def test_poses_as_json(capsys, monkeypatch, arguments, tmp_path):
    """OpenPose's JSON gives pixels and no image size: --pose-size does."""
    points = np.random.default_rng(2).uniform(1, 30, (18, 2))
    people = [{"pose_keypoints_2d": np.concatenate([points, np.ones((18, 1))], axis=1).ravel().tolist()}]
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "0_keypoints.json").write_text(json.dumps({"people": people}))
    poses = record_poses(monkeypatch)
    arguments |= {"--pose": tmp_path / "json"}
    refused(capsys, arguments, "does not state the size of the images", "give height and width")
    assert main([*words(arguments), "--pose-size", "32", "32", "--num-frames", "1", "--quiet"]) == 0
    np.testing.assert_allclose(poses[0].points[0, :18], points / 32, rtol=1e-5)


def test_retargeting_that_cannot_be(capsys, arguments, inputs, tmp_path):
    keypoints = arguments | {"--pose": inputs / "pose.npz"}
    how = "python -m aa_jax.pose extract"
    refused(capsys, keypoints | {"--retarget": "affine"}, "no reference_pose", how)
    refused(capsys, keypoints | {"--retarget": "stretch"}, "stretch", "affine")
    reference = {"--retarget": "affine", "--reference-pose": inputs / "pose.npz"}
    refused(capsys, arguments | reference, "the pose is drawn, and only keypoints can be retargeted", how)
    refused(capsys, keypoints | reference | {"--retarget": "none"}, "reference_pose given, but nothing is retargeted")
    refused(capsys, keypoints | reference | {"--reference-pose": inputs / "reference.jpg"}, "holds images", how)
    refused(capsys, keypoints | reference | {"--reference-pose": tmp_path / "none.npz"}, "none.npz", "does not exist")
    wide = Keypoints(points=np.zeros((1, 134, 2)), scores=np.ones((1, 134)), height=64, width=128)
    save_keypoints(inputs / "wide.npz", wide)
    refused(capsys, keypoints | reference | {"--reference-pose": inputs / "wide.npz"}, "128x64", "64x64", "same image")


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python -m aa_jax.animate --model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"--num-frames": 4}, ["num_frames is 4", "only 3 frames"]),
        ({"--num-frames": 0}, ["num_frames is 0", "1 or more"]),
        ({"--height": 60}, ["height is 60", "multiple of 8"]),
        ({"--width": 0}, ["width is 0", "multiple of 8"]),
        ({"--height": 96}, ["reference image is 64x64", "crop", "letterbox", "stretch"]),
        ({"--sampler": "ddpm"}, ["ddpm", "ddim"]),
        ({"--windows": "square"}, ["square", "paper"]),
        ({"--window-length": 99}, ["window_length is 99", "32"]),
        ({"--window-length": 0}, ["0", "1"]),
        ({"--window-overlap": 24}, ["24"]),
        ({"--num-inference-steps": 0}, ["num_inference_steps is 0"]),
        ({"--guidance-scale": "nan"}, ["nan", "finite"]),
        ({"--dtype": "int8"}, ["int8", "float32"]),
        ({"--resize": "zoom"}, ["zoom", "crop"]),
        ({"--fps": 0}, ["fps", "0"]),
        ({"--colour": "red"}, ["--colour"]),
        ({"--attention": "flash"}, ["flash", "cudnn"]),
        ({"--window-batch": 0}, ["window_batch is 0"]),
        ({"--frame-batch": 0}, ["frame_batch is 0"]),
    ],
)
def test_unknown_or_impossible_options(capsys, arguments, change, expected):
    refused(capsys, arguments | change, *expected)


def test_files_that_are_none(capsys, arguments, tmp_path, inputs):
    (tmp_path / "text.png").write_text("no image")
    refused(capsys, arguments | {"--reference": tmp_path / "text.png"}, "text.png", "image")
    refused(capsys, arguments | {"--reference": tmp_path / "none.png"}, "none.png", "does not exist")
    (tmp_path / "text.mp4").write_text("no video")
    refused(capsys, arguments | {"--pose": tmp_path / "text.mp4"}, "text.mp4")
    (tmp_path / "pose.npz").write_bytes((inputs / "pose.npz").read_bytes()[:500])
    refused(capsys, arguments | {"--pose": tmp_path / "pose.npz"}, "pose.npz", "damaged")


def test_pose_of_another_aspect(capsys, arguments, tmp_path):
    write_video(tmp_path / "wide.mp4", np.zeros((3, 64, 128, 3), np.uint8), 10)
    refused(capsys, arguments | {"--pose": tmp_path / "wide.mp4"}, "pose is 128x64", "letterbox")


def test_models_that_are_none(capsys, arguments, moore_folder, tmp_path):
    refused(capsys, arguments | {"--model": tmp_path / "nothing"}, "nothing", "no model folder")
    (tmp_path / "empty").mkdir()
    refused(capsys, arguments | {"--model": tmp_path / "empty"}, "config.json")
    for damage in ("truncated", "missing", "config", "incomplete"):
        folder = tmp_path / damage
        shutil.copytree(moore_folder, folder)
        vae = folder / "vae.safetensors"
        if damage == "truncated":
            vae.write_bytes(vae.read_bytes()[:-100])
        elif damage == "missing":
            vae.unlink()
        else:
            config = json.loads((folder / "config.json").read_text())
            config |= {"vae": None} if damage == "incomplete" else {"colour": "red"}
            (folder / "config.json").write_text(json.dumps(config))
        expected = {"config": "colour", "incomplete": "has no vae"}.get(damage, "vae.safetensors")
        refused(capsys, arguments | {"--model": folder}, expected)


def test_outputs_that_cannot_be(capsys, arguments, tmp_path):
    refused(capsys, arguments | {"--output": tmp_path / "out.avi"}, "out.avi", ".mp4")
    refused(capsys, arguments | {"--output": tmp_path / "nowhere" / "out.mp4"}, "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refused(capsys, arguments | {"--output": tmp_path / "full"}, "full", "files in it")


def test_disk_full(arguments, moore_folder):
    """The kernel refuses to write more than a few bytes: nothing stays, and the command says why."""
    code = (
        "import resource, signal, sys; from aa_jax.animate import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)); sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words(arguments), "--quiet"], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "out.mp4" in done.stderr
    assert list(arguments["--output"].parent.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200
