"""Programs compiled ahead of time: loaded in another process, they do what those compiled there do; what does not fit
is refused in one line. And few programs: one for 17 to 24 frames."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from aa_jax import animate
from aa_jax.animator import Animator
from aa_jax.config import InferenceConfig
from aa_jax.executables import MANIFEST
from aa_jax.pose import Keypoints, save_keypoints
from tests.golden_tools import relative_error
from tests.small_models import SMALL_STACK, write_small_stack

SIDE, WINDOW = 16, 24
LATENT = {"output_type": "latent", "seed": 3, "guidance_scale": 2.0}


def make_pose(frames):
    """The first frames of one video."""
    points = np.random.default_rng(2).random((2 * WINDOW, 134, 2))[:frames]
    return Keypoints(points=points, scores=np.ones((frames, 134)), height=SIDE, width=SIDE, fps=10)


@pytest.fixture(scope="module")
def reference():
    return np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with windows of 24 frames, for videos of 16x16."""
    motion = dataclasses.replace(SMALL_STACK.denoising_unet.motion, max_length=WINDOW)
    inference = InferenceConfig(num_inference_steps=2, height=SIDE, width=SIDE, window_length=WINDOW)
    network = dataclasses.replace(SMALL_STACK.denoising_unet, motion=motion)
    config = dataclasses.replace(SMALL_STACK, denoising_unet=network, inference=inference)
    return write_small_stack(tmp_path_factory.mktemp("model") / "model", config)


@pytest.fixture(scope="module")
def plain(model):
    """A model whose programs for 20 frames were compiled ahead of time."""
    animator = Animator.from_pretrained(model)
    for frames in (20, WINDOW):
        animator.compile(frames)
        assert animator.programs.compiled == 4
    return animator


@pytest.fixture(scope="module")
def made(plain, tmp_path_factory):
    """They as files."""
    folder = tmp_path_factory.mktemp("made") / "compiled"
    sizes = plain.save_compiled(folder)
    assert sizes == {file.name: file.stat().st_size for file in folder.glob("*.bin")}
    return folder


@pytest.fixture(scope="module")
def animator(model, made):
    """The same model, with these files."""
    animator = Animator.from_pretrained(model)
    animator.load_compiled(made)
    return animator


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def test_four_programs_for_a_bucket(made):
    manifest = json.loads((made / MANIFEST).read_text())
    names = sorted(facts["program"] for facts in manifest["files"].values())
    assert names == ["advance", "decode", "encode_poses", "encode_reference"]
    assert {path.name for path in made.iterdir()} == {MANIFEST, *manifest["files"]}


def test_another_process_compiles_nothing(made, model, plain, reference, tmp_path):
    """For other lengths, numbers of steps, seeds and strengths of guidance than they were compiled for."""
    np.save(tmp_path / "reference.npy", reference)
    save_keypoints(tmp_path / "pose.npz", make_pose(19))
    script = """
import sys
import numpy as np
from aa_jax.animator import Animator
model, made, folder = sys.argv[1:]
animator = Animator.from_pretrained(model)
animator.load_compiled(made)
reference, pose = np.load(folder + "/reference.npy"), folder + "/pose.npz"
options = {"num_inference_steps": 5, "guidance_scale": 2.0, "output_type": "latent", "seed": 3}
np.save(folder + "/latents.npy", animator(reference, pose, num_frames=17, **options))
np.save(folder + "/video.npy", animator(reference, pose))
assert animator.programs.compiled == 0
"""
    command = [sys.executable, "-c", script, str(model), str(made), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    before = plain.programs.compiled
    here = plain(reference, make_pose(17), num_inference_steps=5, **LATENT)
    np.testing.assert_array_equal(np.load(tmp_path / "latents.npy"), here)
    np.testing.assert_array_equal(np.load(tmp_path / "video.npy"), plain(reference, make_pose(19)))
    assert plain.programs.compiled == before


def test_17_to_24_frames_are_one_program(plain, reference):
    """Numbers are those of programs of their own length; and a seed's noise is the same."""
    before = plain.programs.compiled
    results = [plain(reference, make_pose(frames), **LATENT) for frames in range(17, 25)]
    assert [len(result) for result in results] == list(range(17, 25))
    assert plain.programs.compiled == before
    alone = plain(reference, make_pose(17), **LATENT, bucket_frames=False)
    assert plain.programs.compiled == before + 1
    assert results[0].shape == alone.shape == (17, 4, 4, 12)
    assert relative_error(results[0], alone) < 1e-6


def test_longer_videos_share_programs_too(plain, reference):
    options = {**LATENT, "windows": "uniform", "window_length": 6, "window_overlap": 2}
    before = plain.programs.compiled
    for frames in (7, 8, 20):
        assert plain(reference, make_pose(frames), **options).shape == (frames, 4, 4, 12)
    assert plain.programs.compiled == before + 1


def test_what_is_not_among_them_is_compiled(animator, plain, reference):
    np.testing.assert_array_equal(animator(reference, make_pose(18)), plain(reference, make_pose(18)))
    assert animator.programs.compiled == 0
    assert animator(reference, make_pose(1)).shape == (1, SIDE, SIDE, 3)
    assert animator.programs.compiled == 3  # all but encode_reference


def test_what_was_loaded_is_not_written_again(model, made, reference, tmp_path):
    animator = Animator.from_pretrained(model)
    with pytest.raises(ValueError, match="nothing was compiled yet that could be saved"):
        animator.save_compiled(tmp_path / "again")
    animator.load_compiled(made)
    animator(reference, make_pose(19), **LATENT)
    with pytest.raises(ValueError, match="nothing was compiled yet that could be saved"):
        animator.save_compiled(tmp_path / "again")
    assert list(tmp_path.iterdir()) == []


def test_what_may_come_from_jaxs_cache_is_not_written(plain, tmp_path):
    """Such programs cannot be read again on a CPU."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    try:
        with pytest.raises(ValueError, match="expected it to be off"):
            plain.save_compiled(tmp_path / "compiled")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert not (tmp_path / "compiled").exists()


def refused(animator, folder, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        animator.load_compiled(folder)
    assert "\n" not in str(caught.value) and "python -m aa_jax.compile" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("device", "NVIDIA H100", "for device 'NVIDIA H100', here it is"),
        ("platform", "gpu", "for platform 'gpu', here it is"),
        ("processor", "arm64-0", "for processor 'arm64-0', here it is"),
        ("jax", "0.9.0", "for jax '0.9.0', here it is"),
        ("XLA_FLAGS", "--other", "for XLA_FLAGS '--other', here it is"),
        ("code", "0", "by another version of aa_jax"),
        ("model", "0", "for another model, or other options of it"),
        ("format", 2, "its format is 2, expected 1"),
        ("files", ["a"], "cannot be read"),
        ("files", {"../code.bin": {"program": "decode", "key": "0", "sha256": "0"}}, "it names ../code.bin"),
        ("files", {"code.bin": {"program": "compile", "key": "0", "sha256": "0"}}, "of a program compile"),
        ("files", {"code.bin": {"program": "decode"}}, "cannot be read"),
        ("files", {"code.bin": {"program": "decode", "key": "0", "sha256": "0"}}, "code.bin is missing"),
    ],
)
def test_another_manifest(animator, copy, name, value, message):
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(manifest | {name: value}))
    refused(animator, copy, message)


def test_damage(animator, copy, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(animator, tmp_path / "empty", "holds no compiled programs")
    refused(animator, tmp_path / "none", "holds no compiled programs")
    file = next(copy.glob("decode-*.bin"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused(animator, copy, f"{file.name} is not what was written")
    (copy / MANIFEST).write_text("{")
    refused(animator, copy, "cannot be read")


def test_another_model(model, made, animator):
    """Other weights fit, another dtype or way to run them does not."""
    refused(Animator.from_pretrained(model, dtype="bfloat16"), made, "for another model")
    refused(animator.with_inference(bank_dtype="float16"), made, "for another model")
    refused(animator.with_inference(num_inference_steps=3), made, "for another model")


def test_the_command_that_uses_them(model, made, copy, reference, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(reference).save(tmp_path / "reference.png")
    save_keypoints(tmp_path / "pose.npz", make_pose(20))
    given = {"model": model, "reference": tmp_path / "reference.png", "pose": tmp_path / "pose.npz"}
    arguments = [f"--{name}={value}" for name, value in {**given, "output": tmp_path / "out"}.items()]
    assert animate.main([*arguments, "--compiled", str(made), "--quiet"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 20
    os.remove(copy / MANIFEST)
    shutil.rmtree(tmp_path / "out")
    capsys.readouterr()
    assert animate.main([*arguments, "--compiled", str(copy), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("animate: ") and "holds no compiled programs" in line
    assert not (tmp_path / "out").exists()
