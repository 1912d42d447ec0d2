"""Several devices, of one process or of two, that share a video: the result of one, and the work is shared."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from aa_jax import animate
from aa_jax.animator import Animator
from tests.golden_tools import relative_error
from tests.small_models import write_small_stack

HEIGHT, WIDTH = 32, 24
OPTIONS = {
    "num_inference_steps": 2, "guidance_scale": 2.0, "windows": "uniform", "window_overlap": 1, "height": HEIGHT,
    "width": WIDTH, "output_type": "np",
}  # fmt: skip
SETUP = """
import json, sys
import jax, numpy as np
from aa_jax.animator import Animator
folder, options = sys.argv[1], json.loads(sys.argv[2])
given = dict(np.load(folder + "/given.npz"))

def animate(animator, frames):
    return animator(given["reference"], given["pose"][:frames], **options)
"""
EIGHT = (
    SETUP
    + """
one = Animator.from_pretrained(folder + "/model")
many = Animator.from_pretrained(folder + "/model", devices=jax.devices())
assert len(jax.devices()) == 8
# Two windows of four frames, cut along these; eight windows, one for each device.
work = {}
for frames in (7, 25):
    np.savez(f"{folder}/{frames}.npz", one=animate(one, frames), many=animate(many, frames))
    last = [list(animator.programs.predict.executables.values())[-1] for animator in (one, many)]
    work[frames] = [executable.cost_analysis()["flops"] for executable in last]
print(json.dumps(work))
"""
)
TWO = (
    SETUP
    + """
port, process = sys.argv[3:]
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(process))
animator = Animator.from_pretrained(folder + "/model", devices=jax.devices())
assert len(jax.devices()) == 2 and jax.process_count() == 2
np.savez(f"{folder}/process{process}.npz", whole=animate(animator, 3), windows=animate(animator, 7))
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    write_small_stack(folder / "model")
    reference, *pose = np.random.default_rng(0).integers(0, 256, (26, HEIGHT, WIDTH, 3), np.uint8)
    np.savez(folder / "given.npz", reference=reference, pose=np.stack(pose))
    return folder


def start(script, folder, *arguments, devices=1):
    command = [sys.executable, "-c", script, str(folder), json.dumps(OPTIONS), *map(str, arguments)]
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def test_eight_devices_are_one(folder):
    work = json.loads(finish(start(EIGHT, folder, devices=8)))
    for frames in (7, 25):
        videos = np.load(folder / f"{frames}.npz")
        assert videos["one"].shape == (frames, HEIGHT, WIDTH, 3)
        assert relative_error(videos["many"], videos["one"]) < 1e-5
    one, many = work["7"]  # for four frames of one window, and for one frame and half of guidance of two windows
    assert many < 0.6 * one
    one, many = work["25"]  # for one window, and for one window of eight
    assert many < 1.1 * one


def test_two_processes_are_one(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(TWO, folder, port, number) for number in range(2)]
    for process in processes:
        finish(process)
    animator = Animator.from_pretrained(folder / "model")
    given = np.load(folder / "given.npz")
    for name, frames in (("whole", 3), ("windows", 7)):
        expected = animator(given["reference"], given["pose"][:frames], **OPTIONS)
        for number in range(2):
            assert relative_error(np.load(folder / f"process{number}.npz")[name], expected) < 1e-5


def test_more_devices_than_there_are(folder, capsys, tmp_path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "a.png")
    command = ["--model", folder / "model", "--reference", tmp_path / "a.png", "--pose", tmp_path / "a.png"]
    assert (
        animate.main(
            [*map(str, command), "--output", str(tmp_path / "out.mp4"), "--devices", "99", "--resize", "stretch"]
        )
        == 2
    )
    assert capsys.readouterr().err.startswith("animate: devices is 99, expected 1 to ")
