"""A model exported for serving: run where this package cannot be imported, it does what `Animator` does."""

import json
import runpy
import struct
import subprocess
import sys
import zlib

import jax
import numpy as np
import pytest
from jax import export
from PIL import Image

from aa_jax.animator import Animator
from aa_jax.export import main
from aa_jax.models.platform import platform
from aa_jax.serving import MANIFEST, PROGRAMS, for_all, named_weights
from aa_jax.tensor_file import read_tensors
from aa_jax.video import read_video, write_video
from tests.pages import ROOT
from tests.small_models import SMALL_STACK, write_small_stack

HEIGHT, WIDTH, FRAMES = 32, 24, 6
OPTIONS = {"height": HEIGHT, "width": WIDTH, "num_inference_steps": 2, "guidance_scale": 2.0, "sampler": "dpm++"}
SERVE = ROOT / "examples" / "serve.py"
# Runs the example, keeps its frames before they are rounded, and fails where it imports more than it says.
SCRIPT = f"""
import runpy, sys
import numpy as np
for name in ("aa_jax", "flax", "PIL", "cv2", "av", "einops", "jaxtyping"):
    sys.modules[name] = None
example = runpy.run_path({str(SERVE)!r})
animate = example["Animation"].__call__
def keep(*args):
    frames = animate(*args)
    np.save("frames.npy", frames)
    return frames
example["Animation"].__call__ = keep
sys.argv[0] = "serve"
example["main"]()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, what it is exported as, and pictures to run that with."""
    folder = tmp_path_factory.mktemp("serving")
    write_small_stack(folder / "model")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / "person.png")
    write_video(folder / "drawn", rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8), 8.0)
    options = [part for name, value in OPTIONS.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    arguments = [str(folder / "model"), "--output", str(folder / "served"), "--num-frames", str(FRAMES), *options]
    assert main(arguments) == 0
    return folder


def test_it_animates_as_the_animator_does(folder):
    command = ["served", "--reference", "person.png", "--poses", "drawn", "--output", "frames", "--seed", "7"]
    with subprocess.Popen([sys.executable, "-c", SCRIPT, *command], stderr=subprocess.PIPE, cwd=folder) as run:
        animator = Animator.from_pretrained(folder / "model")
        expected = animator(folder / "person.png", folder / "drawn", **OPTIONS, seed=7, output_type="np")
        said = run.communicate()[1].decode()
    assert run.returncode == 0, said
    served = np.load(folder / "frames.npy")
    assert served.shape == expected.shape == (FRAMES, HEIGHT, WIDTH, 3) and expected.std() > 0.1
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-5)
    written = read_video(folder / "frames").frames
    np.testing.assert_array_equal(written, np.round(served * 255).astype(np.uint8))


def test_what_the_folder_says(folder):
    manifest = json.loads((folder / "served" / MANIFEST).read_text())
    files = {facts["file"] for facts in [manifest["weights"], *manifest["programs"].values()]}
    assert {path.name for path in (folder / "served").iterdir()} == {MANIFEST, *files}
    assert (manifest["platforms"], manifest["num_frames"]) == (["cpu", "cuda"], FRAMES)
    assert manifest["arrays"]["frames"] == {"shape": [FRAMES, HEIGHT, WIDTH, 3], "dtype": "float32"}
    for name, (inputs, _) in PROGRAMS.items():
        content = (folder / "served" / f"{name}.stablehlo").read_bytes()
        exported = export.deserialize(bytearray(content))
        assert exported.platforms == ("cpu", "cuda")
        args, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
        assert len(args) == len(inputs)
        assert len(content) < 1e6, "weights are arguments, not constants"


def test_the_weights_are_the_model_s(folder):
    animator = Animator.from_pretrained(folder / "model")
    served = read_tensors(folder / "served" / "weights.safetensors")
    expected = {
        f"{network}.{key}": tensor.read()
        for network in SMALL_STACK.networks
        for key, tensor in read_tensors(folder / "model" / f"{network}.safetensors").items()
    }
    assert set(served) == set(expected) == set(named_weights(animator))
    for name, tensor in expected.items():
        np.testing.assert_array_equal(served[name].read(), tensor)


def test_what_is_wrong_is_said(folder, tmp_path):
    """A picture of another size, and a file that is not what was written."""
    example = runpy.run_path(str(SERVE))
    animation = example["Animation"](folder / "served")
    with pytest.raises(ValueError, match=r"reference of shape \(8, 8, 3\) given, expected uint8 \(32, 24, 3\)"):
        animation(np.zeros((8, 8, 3), np.uint8), np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8))
    damaged = tmp_path / "served"
    damaged.mkdir()
    for file in (folder / "served").iterdir():
        content = bytearray(file.read_bytes())
        if file.name == "decode.stablehlo":
            content[100] ^= 1
        (damaged / file.name).write_bytes(content)
    with pytest.raises(ValueError, match="decode.stablehlo is not what was written"):
        example["Animation"](damaged)


def filtered_png(image, methods):
    """A PNG whose lines are stored by these filters, by the book (PNG specification, section 9)."""
    height, width, _ = image.shape
    pixels = np.pad(image.astype(int), ((1, 0), (1, 0), (0, 0)))
    left, above, corner = pixels[1:, :-1], pixels[:-1, 1:], pixels[:-1, :-1]
    near = np.stack([left, above, corner])
    paeth = np.take_along_axis(near, np.abs(left + above - corner - near).argmin(axis=0)[None], axis=0)[0]
    predictions = [np.zeros_like(left), left, above, (left + above) // 2, paeth]
    lines = [
        bytes([method]) + ((image[row] - predictions[method][row]) % 256).astype(np.uint8).tobytes()
        for row, method in enumerate(methods)
    ]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_pictures_are_read_and_written(tmp_path):
    """Beside Pillow, with every filter that a PNG can have."""
    example = runpy.run_path(str(SERVE))
    rng = np.random.default_rng(0)
    image = rng.choice(np.array([0, 1, 100, 101, 255], np.uint8), (25, 9, 3))
    (tmp_path / "a.png").write_bytes(filtered_png(image, [row % 5 for row in rng.permutation(25)]))
    with Image.open(tmp_path / "a.png") as file:
        np.testing.assert_array_equal(np.asarray(file), image)
    np.testing.assert_array_equal(example["read_png"](tmp_path / "a.png"), image)
    example["write_png"](tmp_path / "b.png", image)
    with Image.open(tmp_path / "b.png") as file:
        np.testing.assert_array_equal(np.asarray(file), image)
    Image.fromarray(image).convert("L").save(tmp_path / "gray.png")
    with pytest.raises(ValueError, match=r"gray\.png is no PNG of eight bits, RGB"):
        example["read_png"](tmp_path / "gray.png")


def test_each_platform_has_its_own_version():
    def function(x):
        return x + {"cpu": 1, "gpu": 2}[platform()]

    both = export.export(jax.jit(for_all({"cpu": function, "cuda": function})), platforms=("cpu", "cuda"))(1)
    assert both.platforms == ("cpu", "cuda") and both.call(40) == 41
    alone = export.export(jax.jit(for_all({"cuda": function})), platforms=("cuda",))(1)
    assert "dense<2>" in alone.mlir_module() and "dense<1>" not in alone.mlir_module()
    with pytest.raises(ValueError, match="platforms"):
        alone.call(40)
    assert platform() == jax.default_backend()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-frames", "0"], "num_frames is 0, expected 1 or more"),
        (["--num-frames", "8", "--height", "62"], "height is 62, expected a positive multiple of 4"),
        (["--num-frames", "8", "--reuse", "2"], "reuse is 2, but an exported program evaluates all of the network"),
        (["--num-frames", "8", "--platforms", "cpu", "abacus"], "platforms cpu, abacus given, expected some of cpu,"),
        (["--num-frames", "8", "--sampler", "none"], "none"),
        ([], "--num-frames"),
        (["--num-frames", "8", "--attention", "cudnn"], "attention 'cudnn' cannot run"),
    ],
)
def test_bad_arguments(folder, tmp_path, capsys, arguments, message):
    try:
        code = main([str(folder / "model"), "--output", str(tmp_path / "served"), *arguments])
    except SystemExit as error:
        code = error.code
    printed = capsys.readouterr()
    assert code == 2 and printed.out == ""
    (line,) = printed.err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []
