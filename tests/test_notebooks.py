"""The notebooks, run from the first cell to the last in a kernel of their own, with a small model and few steps."""

import base64
import configparser
import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from packaging.requirements import Requirement

from aa_jax.bundled import BUNDLED
from aa_jax.config import InferenceConfig
from aa_jax.image import load_image, resize
from aa_jax.video import read_video
from aa_jax.web.examples import keypoints, picture
from tests.pages import ROOT
from tests.small_models import SMALL_STACK, write_small_stack

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = ROOT / "notebooks"
NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
HEIGHT, WIDTH, ZOOM = 64, 48, 4
# The preset's networks with one level each, which compile in half the time.
SMALLER = """
import dataclasses
import configs.characters as characters
preset = characters.CPU
characters.CPU = dataclasses.replace(
    preset,
    unet=dataclasses.replace(preset.unet, block_out_channels=(16,), attention_levels=(True,)),
    vae=dataclasses.replace(preset.vae, block_out_channels=(8, 8)),
    guider=(8, 8),
    encoder=dataclasses.replace(preset.encoder, num_hidden_layers=1),
)
"""


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """A function that runs a notebook in `tmp_path` with other values of its parameters, after the lines `before`, and
    gives it with its outputs."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def run(name, *before, **parameters):
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        (place,) = [index for index, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        assert set(parameters) <= set(re.findall(r"^(\w+) = ", notebook.cells[place].source, flags=re.M))
        lines = [f"{parameter} = {value!r}" for parameter, value in parameters.items()]
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join([*lines, *before])))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the client's own
            resources = {"metadata": {"path": str(tmp_path)}}
            nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
        return notebook

    return run


def shown(notebook, kind):
    """All outputs of a kind."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def video_of(notebook, folder):
    """The frames of the one video that is shown, read from the page."""
    found = [re.search(r"data:video/mp4;base64,([\w+/=]+)", html) for html in shown(notebook, "text/html")]
    (video,) = [match for match in found if match]
    (folder / "shown.mp4").write_bytes(base64.b64decode(video[1]))
    return read_video(folder / "shown.mp4").frames.astype(float)


def said(notebook):
    """What was printed."""
    return "".join(
        output.text for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "stream"
    )


def check_animation(frames, character, number):
    """Character, motion and result side by side; the first is the picture given, in every frame."""
    assert frames.shape == (number, ZOOM * HEIGHT, 3 * ZOOM * WIDTH, 3)
    reference, drawn, result = np.split(frames, 3, axis=2)
    expected = resize(load_image(picture(character)), HEIGHT, WIDTH, "crop", "lanczos").repeat(ZOOM, 0).repeat(ZOOM, 1)
    assert np.abs(reference - expected).mean() < 6
    assert np.abs(np.diff(drawn, axis=0)).mean() > 0.1 and np.median(drawn) < 10
    assert result.std() > 10 and np.abs(result - reference).mean() > 1


def test_animate_your_own_files(execute, tmp_path):
    inference = InferenceConfig(num_inference_steps=2, height=HEIGHT, width=WIDTH, window_length=8)
    write_small_stack(tmp_path / "model", dataclasses.replace(SMALL_STACK, inference=inference))
    files = {"REFERENCE": str(picture("character_2")), "POSE": str(keypoints("walk"))}
    notebook = execute("animate.ipynb", MODEL=str(tmp_path / "model"), NUM_FRAMES=5, **files)
    assert f"{HEIGHT}x{WIDTH} (height x width), on cpu" in said(notebook) and "5 frames, 12 a second" in said(notebook)
    check_animation(video_of(notebook, tmp_path), "character_2", 5)


@pytest.mark.skipif(not BUNDLED.is_dir(), reason="the bundled model is not here")
def test_animate_as_it_stands(execute, tmp_path):
    """With the bundled model and the example."""
    notebook = execute("animate.ipynb", NUM_FRAMES=6)
    frames = video_of(notebook, tmp_path)
    check_animation(frames, "character_1", 6)
    reference, _, result = np.split(frames, 3, axis=2)
    assert np.abs(result - reference).mean() < 40, "the character is recognised"


def test_train(execute, tmp_path):
    notebook = execute("train_characters.ipynb", SMALLER, STEPS=1, CLIPS=4, FRAMES=3, WORK="work", SOURCE=str(ROOT))
    frames = video_of(notebook, tmp_path)
    assert frames.shape == (3, ZOOM * HEIGHT, 4 * ZOOM * WIDTH, 3)
    reference, _, result, truth = np.split(frames, 4, axis=2)
    assert result.std() > 1 and np.abs(reference[0] - truth).mean() > 1
    losses, sheet = (base64.b64decode(picture) for picture in shown(notebook, "image/png"))
    assert losses != sheet == (tmp_path / "work/stage2/images/validation_1.png").read_bytes()
    for stage in ("vae", "stage1", "stage2"):
        lines = [json.loads(line) for line in (tmp_path / "work" / stage / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == [1]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_kept_without_outputs(name):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert (NOTEBOOKS / name).stat().st_size < 12_000
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", ["..", "git+https://host/owner/aa_jax"])
@pytest.mark.parametrize("gpu", [None, "/usr/bin/nvidia-smi"])
def test_it_installs_what_is_not_there(name, source, gpu, monkeypatch):
    """From a clone's folder or an address, with extras that there are."""
    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: gpu)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(NOTEBOOKS)
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    (cell,) = [cell for cell in notebook.cells if cell.id == "install"]
    exec(cell.source, {"SOURCE": source, "WORK": "work"})
    clones = [command for command in commands if command[0] == "git"]
    (pip,) = [command for command in commands if command[0] == sys.executable]
    assert pip[1:4] == ["-m", "pip", "install"]
    requirement = Requirement(pip[-1]) if "://" in pip[-1] else None
    if name == "animate.ipynb" and "://" in source:
        assert requirement.url == source and clones == []
        extras = requirement.extras
    else:
        folder, _, rest = pip[-1].partition("[")
        extras = set(rest.removesuffix("]").split(","))
        assert ("://" in source) == (clones != []) and (clones or (NOTEBOOKS / folder / "setup.cfg").is_file())
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert extras <= set(setup["options.extras_require"]) and ("cuda13" in extras) == (gpu is not None)


def test_the_default_is_the_bundled_model():
    notebook = nbformat.read(NOTEBOOKS / "animate.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    values = {}
    exec(cell.source, values)
    assert (values["MODEL"], values["REFERENCE"], values["POSE"]) == ("bundled", None, None)
