"""The benchmark's table: every row a run of the evaluation, and the same again where it is there."""

import json

import numpy as np
import pytest
from PIL import Image

from aa_jax.evaluation import generate
from benchmarks.characters import main

WAYS = [f"{driver}retarget {way}" for driver in ("", "driver at 0.7, ") for way in ("none", "affine", "bones")]
ANIMATIONS, WARPED = ([f"{what}, {way}" for way in WAYS] for what in ("animation", "warped reference"))
BASELINES = ["truth through the VAE", "wrong reference", "wrong pose"]


def run(model, output, *options):
    sheet = ["--sheet", str(output / "sheet.png"), "--metrics", "psnr", "flicker", "--quiet"]
    return main(["--model", str(model), "--num-clips", "2", "--output", str(output), *sheet, *options])


@pytest.mark.usefixtures("quickly_drawn")
@pytest.mark.filterwarnings("ignore:.*bone")
def test_table(model, recorder, tmp_path, capsys, monkeypatch):
    options = ("--splits", "identity", "driving", "--seeds", "1", "2")
    assert run(model, tmp_path, *options) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert list(table["splits"]["identity"]) == [
        "animation",
        "reference as every frame",
        "warped reference",
        *BASELINES,
    ]
    assert list(table["splits"]["driving"]) == [*ANIMATIONS, "reference as every frame", *WARPED, *BASELINES]

    cell = table["splits"]["identity"]["animation"]["psnr"]
    scores = [json.loads((tmp_path / "identity" / f"animation_{seed}" / "scores.json").read_text()) for seed in (1, 2)]
    assert [one["card"]["generation"]["seed"] for one in scores] == [1, 2]
    assert cell["seeds"] == [one["estimates"]["psnr"]["value"] for one in scores]
    assert cell["value"] == pytest.approx(np.mean(cell["seeds"]))
    assert cell["interval"][0] <= cell["value"] <= cell["interval"][1]
    retargeted = [options["retarget"] for *_, options in recorder.calls]
    assert {way: retargeted.count(way) for way in ("affine", "bones")} == {"affine": 8, "bones": 8}

    text = (tmp_path / "table.md").read_text()
    assert text == capsys.readouterr().out
    value, (low, high) = cell["value"], cell["interval"]
    assert f"| animation | {value:.2f} [{low:.2f}, {high:.2f}] | " in text
    own = scores[0]["estimates"]["flicker"]["own"]
    assert f"| the truth itself |  | {own:.4f} |" in text
    assert text.count("\n## ") == 2 and "Best near the truth: Flicker" in text
    # Two clips of 16 frames, of which 8 are shown beside the reference; three rows; one clip above the other.
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (9 * 48, 2 * 3 * 64 + 4)

    monkeypatch.setattr(generate, "_one", None)
    assert run(model, tmp_path, *options) == 0
    assert (tmp_path / "table.md").read_text() == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-clips", "0"], "characters: num_clips is 0, expected 1 or more"),
        (["--model", "nowhere/at/all"], "nowhere/at/all"),
    ],
)
def test_bad_commands(model, tmp_path, options, message, capsys):
    assert run(model, tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "table.md").exists()
