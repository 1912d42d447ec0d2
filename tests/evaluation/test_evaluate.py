"""The command: two folders of videos, and a model on synthetic characters."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from aa_jax.evaluate import main
from aa_jax.evaluation import score
from aa_jax.video import write_video
from tests.datasets.videos import picture

NAMES = [f"clip{number}" for number in range(6)]


def noisy(frames, seed):
    noise = np.random.default_rng(seed).normal(0, 4 + 2 * seed, frames.shape)
    return (frames + noise).round().clip(0, 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path):
    predicted, truth = tmp_path / "predicted", tmp_path / "true"
    for folder in (predicted, truth):
        folder.mkdir()
    for number, name in enumerate(NAMES):
        frames = picture(4 + number % 2, seed=number)
        write_video(f"{truth}/{name}/", frames, 12)
        write_video(f"{predicted}/{name}/", noisy(frames, number), 12)
    return predicted, truth


def run(folders, output, *options, protocol="videos"):
    predicted, truth = folders
    arguments = ["--protocol", protocol, "--predicted", str(predicted), "--truth", str(truth), "--output", str(output)]
    return main([*arguments, "--quiet", *options])


def results(output):
    return json.loads((output / "scores.json").read_text())


def test_scores_of_two_folders(folders, tmp_path, capsys):
    output = tmp_path / "scores"
    assert run(folders, output) == 0
    found = results(output)
    psnrs, ssims = [], []
    for number, name in enumerate(NAMES):
        frames = picture(4 + number % 2, seed=number)
        error = ((noisy(frames, number).astype(float) - frames) ** 2).mean(axis=(1, 2, 3))
        psnrs.append((10 * np.log10(255**2 / error)).mean())
        assert found["clips"][name]["psnr"] == pytest.approx(psnrs[-1], rel=1e-5)
        gray = [np.round(each @ [0.299, 0.587, 0.114]).astype(np.uint8) for each in (frames, noisy(frames, number))]
        ssims.append(np.mean([structural_similarity(*pair) for pair in zip(*gray, strict=True)]))
    psnr, ssim = (found["estimates"][name] for name in ("psnr", "ssim"))
    assert psnr["value"] == pytest.approx(np.mean(psnrs), rel=1e-5)
    assert psnr["interval"][0] < psnr["value"] < psnr["interval"][1]
    assert (psnr["clips"], psnr["samples"]) == (6, 27)
    assert ssim["value"] == pytest.approx(np.mean(ssims), rel=1e-3)
    assert found["unavailable"]["fvd"] == "needs i3d.safetensors"
    assert found["card"]["protocol"]["name"] == "videos" and found["card"]["versions"]["jax"]
    printed = capsys.readouterr().out
    assert re.search(rf"PSNR, dB +{np.mean(psnrs):.2f} +", printed)
    assert re.search(r"FVD +n/a +needs i3d.safetensors", printed)
    assert run(folders, output, "--json") == 0
    assert json.loads(capsys.readouterr().out) == results(output)


def test_the_page_shows_best_and_worst(folders, tmp_path):
    output = tmp_path / "scores"
    assert run(folders, output) == 0
    page = (output / "report.html").read_text()
    # Noise grows with the clip's number.
    assert page.index("Worst clips") < page.index("clip5: ") < page.index("Best clips") < page.index("clip0: ")
    assert page.count("data:image/webp;base64,") == 6 and "http" not in page.replace("https://", "")


def test_warping_along_given_flow(folders, tmp_path):
    """Still frames along no flow differ by nothing, and a step to the side is undone by its flow."""
    predicted, truth = tmp_path / "moving", tmp_path / "flow"
    truth.mkdir()
    wide = picture(1, 48, 40)[0]
    moving = np.stack([wide[:, step : step + 32] for step in range(4)])
    predicted.mkdir()
    for name in ("a", "b"):
        write_video(f"{predicted}/{name}/", moving, 12)
    np.save(truth / "a.npy", np.broadcast_to(np.float32([-1, 0]), (3, 48, 32, 2)))
    np.save(truth / "b.npy", np.zeros((3, 48, 32, 2), np.float32))
    output = tmp_path / "scores"
    assert run((predicted, predicted), output, "--metrics", "warping_error", "--flow", str(truth)) == 0
    clips = results(output)["clips"]
    assert clips["a"]["warping_error"] < 1e-8 < 1e-5 < clips["b"]["warping_error"]
    np.save(truth / "b.npy", np.zeros((3, 40, 32, 2), np.float32))
    assert run((predicted, predicted), tmp_path / "other", "--metrics", "warping_error", "--flow", str(truth)) == 2


def test_frames_weigh_alike_where_the_protocol_says_so(folders, tmp_path):
    """Of DisCo's protocol, the mean is over frames, whichever clip they are of."""
    output = tmp_path / "scores"
    assert run(folders, output, "--metrics", "l1", "--num-clips", "6", protocol="tiktok-disco") == 0
    found = results(output)
    frames = [4 + number % 2 for number in range(6)]
    values = [found["clips"][name]["l1"] for name in NAMES]
    assert found["estimates"]["l1"]["value"] == pytest.approx(np.average(values, weights=frames), rel=1e-5)
    low, high = found["estimates"]["l1"]["interval"]
    assert low < found["estimates"]["l1"]["value"] < high
    assert "clip0: predicted 32x48, resized to 256x256" in found["handled"]
    page = (output / "report.html").read_text()
    assert "Animate Anyone (arXiv 2311.17117)" in page and "<td>171.9</td>" in page  # its FVD, as printed


def test_problems_are_named_one_by_one(folders, tmp_path, capsys):
    predicted, truth = folders
    write_video(f"{truth}/alone/", picture(4), 12)
    write_video(truth / "wide.mp4", picture(4, 48, 64), 12)
    write_video(predicted / "wide.mp4", picture(4, 48, 32), 12)
    output = tmp_path / "scores"
    assert run(folders, output) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines == ["evaluate: alone: there is no predicted clip of that name"]
    assert last == (
        "evaluate: 1 clips cannot be compared, so nothing is written: mend them, or leave them out (--skip-bad)"
    )
    assert not (output / "scores.json").exists()
    assert run(folders, output, "--skip-bad") == 0
    problems = results(output)["problems"]
    assert problems[0] == "alone: there is no predicted clip of that name"
    assert problems[1].startswith("wide: predicted frames of 32x48, videos compares at 64x48")
    assert "left out: wide" in capsys.readouterr().err and len(results(output)["clips"]) == 6


def test_killed_and_started_again(folders, tmp_path, monkeypatch):
    """What is scored stays; the result is that of an uninterrupted run; and other frames are scored anew."""
    output, whole = tmp_path / "scores", tmp_path / "whole"
    scored = []
    original = score.score

    def counting(pair, *rest):
        if len(scored) == 3:
            raise KeyboardInterrupt
        scored.append(pair.name)
        return original(pair, *rest)

    monkeypatch.setattr(score, "score", counting)
    assert run(folders, output) == 2 and not (output / "scores.json").exists()
    monkeypatch.setattr(score, "score", lambda pair, *rest: scored.append(pair.name) or original(pair, *rest))
    assert run(folders, output) == 0
    assert scored == NAMES
    assert run(folders, whole) == 0
    assert results(output)["estimates"] == results(whole)["estimates"]
    scored.clear()
    write_video(f"{folders[0]}/other/", picture(5, seed=7), 12)
    (folders[0] / "clip1").rename(tmp_path / "gone")
    (folders[0] / "other").rename(folders[0] / "clip1")
    assert run(folders, output) == 0
    assert scored == ["clip1"]


def test_memory_does_not_grow_with_the_clips(tmp_path):
    """A thousand clips of 5 MB each, were they kept; files that share their frames are links."""
    predicted, truth = tmp_path / "predicted", tmp_path / "true"
    for folder, seed in ((predicted, 0), (truth, 1)):
        write_video(f"{folder}_frames/", np.random.default_rng(seed).integers(0, 256, (4, 96, 96, 3), np.uint8), 12)
        folder.mkdir()
        for number in range(1000):
            (folder / f"{number:04}").symlink_to(f"{folder}_frames")
    script = f"""
import resource, sys
from aa_jax.evaluate import main
from aa_jax.evaluation import score
peaks, original = [], score.score
def watched(*arguments):
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return original(*arguments)
score.score = watched
files = "--predicted {predicted} --truth {truth} --output {tmp_path}/out"
code = main(f"--protocol videos {{files}} --metrics psnr l1 --quiet".split())
print(code, len(peaks), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peaks[100]) // 1024)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, clips, grown = map(int, found.stdout.split()[-3:])
    assert (code, clips) == (0, 1000) and grown < 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-clips", "9"], "num_clips is 9, but .* has 6"),
        (["--num-clips", "0"], "num_clips is 0, expected 1 or more"),
        (["--metrics", "emblem_bits"], "videos has no metric emblem_bits, expected psnr, "),
        (["--networks", "nowhere"], "nowhere is no folder"),
    ],
)
def test_bad_commands(folders, tmp_path, options, message, capsys):
    assert run(folders, tmp_path / "scores", *options) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "scores").exists()
