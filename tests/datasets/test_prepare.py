"""Preparing data sets: interrupted and gone on with, with broken videos among them, on a full disk, by command."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aa_jax.data.__main__ import main
from aa_jax.data.builders import VideoFolder
from aa_jax.data.encode import RecordConfig
from aa_jax.data.folder import FolderSource
from aa_jax.data.prepare import load_report, prepare
from aa_jax.data.records import RecordSource
from aa_jax.pose.files import save_keypoints
from aa_jax.video import read_video, write_video
from tests.datasets.videos import add_clip, encode, keypoints, picture
from tests.full_disk import largest_file

ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "aa_jax.data", "prepare", *map(str, arguments)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """200 videos, three of them broken."""
    folder = tmp_path_factory.mktemp("many")
    different = [add_clip(folder, f"{index:03d}", frames=6, seed=index).read_bytes() for index in range(8)]
    for index in range(8, 200):
        video = folder / f"{index:03d}.mp4"
        video.write_bytes(different[index % 8])
        save_keypoints(video.with_suffix(".npz"), keypoints(6, seed=index))
    (folder / "017.mp4").write_bytes(b"")
    (folder / "100.mp4").write_bytes(different[0][:700])
    (folder / "150.npz").write_bytes(b"PK")
    return folder


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory):
    """What a run without an interruption makes of them."""
    output = tmp_path_factory.mktemp("whole") / "data"
    options = ["--num-workers", "1", "--clips-per-shard", "2", "--quiet"]
    assert main(["prepare", "folder", str(many), "--output", str(output), *options]) == 0
    return output


def test_all_but_the_broken_ones(whole):
    report = load_report(whole)
    assert (report.clips, report.frames) == ({"train": 197}, {"train": 197 * 6})
    assert [name for name, _ in report.skipped] == ["017", "100", "150"]
    assert len(RecordSource(whole)) == 197
    assert RecordSource(whole)[100].name == "102"
    assert RecordSource(whole)[196].frames([5]).shape == (1, 48, 32, 3)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_started_again(many, whole, tmp_path, end):
    output = tmp_path / "data"
    # So many shards that the run is far from its end when the third is there.
    run = command("folder", many, "--output", output, "--num-workers", 2, "--clips-per-shard", 2)
    done = tmp_path / ".data.preparing" / "done"
    with subprocess.Popen(run, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (done.is_dir() and len(names(done)) >= 3):
            time.sleep(0.005)
        process.send_signal(end)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (2 if end == signal.SIGINT else -end)
    if end == signal.SIGINT:
        assert errors.splitlines()[-1] == "data: interrupted"
    assert not output.exists()
    wait_for_workers(tmp_path)
    kept = [name for name in names(done) if name.endswith(".json")]
    assert 3 <= len(kept) < 100
    before = {name: (done / name).stat().st_mtime_ns for name in kept}

    seen: dict[str, int] = {}
    with subprocess.Popen(run, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as again:
        while again.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                seen.update({name: (done / name).stat().st_mtime_ns for name in kept})
            time.sleep(0.005)
        lines = again.stdout.read().splitlines()
    assert again.returncode == 0
    # What was done is not done again; on a busy machine some may go by unseen.
    assert seen and seen.items() <= before.items()
    assert contents(output) == contents(whole)
    assert names(tmp_path) == ["data"]
    assert lines[:2] == [f"prepared  {output}", "split     train: 197 clips, 1182 frames"]
    assert lines[2] == "skipped   3"
    assert lines[3].startswith("  017: ")


def wait_for_workers(folder: Path) -> None:
    """The workers of a run that was killed end soon after it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        state = contents(folder)
        time.sleep(0.5)
        if contents(folder) == state:
            return
    raise AssertionError("something still writes")


def test_what_changed_is_prepared_again(tmp_path):
    """Clips, or the settings, between an interrupted run and the next."""
    folder, output = tmp_path / "v", tmp_path / "data"
    for index in range(4):
        add_clip(folder, str(index), seed=index)
    config = RecordConfig(clips_per_shard=1, image_format="png")

    def run(config, **options):
        splits = {"train": FolderSource(folder)}
        prepare(lambda table: VideoFolder(splits, config, config=table, data_dir=output), output, **options)

    for other in (config, dataclasses.replace(config, short_side=16)):
        with pytest.raises(KeyboardInterrupt):
            run(other, progress=_interrupt_after(3))
    add_clip(folder, "1", seed=9)
    add_clip(folder, "4", seed=4)
    run(config)
    records, clips = RecordSource(output), FolderSource(folder)
    assert len(records) == 5
    for index in range(5):
        np.testing.assert_array_equal(records[index].frames([7]), clips[index].frames([7]))


def _interrupt_after(clips: int):
    def progress(done, total):
        if done >= clips:
            raise KeyboardInterrupt

    return progress


def test_strange_videos(tmp_path):
    """Each is skipped or handled, and listed."""
    folder, output = tmp_path / "v", tmp_path / "data"
    add_clip(folder, "ordinary")
    for name in ("broken", "cut", "empty", "no_pose", "other_length", "other_shape", "single", "text_pose"):
        add_clip(folder, name)
    (folder / "broken.mp4").write_bytes(os.urandom(3000))
    (folder / "cut.mp4").write_bytes((folder / "cut.mp4").read_bytes()[:-400])
    (folder / "empty.mp4").write_bytes(b"")
    nobody = keypoints()
    nobody.scores[:] = 0
    save_keypoints(folder / "no_pose.npz", nobody)
    save_keypoints(folder / "other_length.npz", keypoints(9))
    save_keypoints(folder / "other_shape.npz", keypoints(12, 32, 48))
    add_clip(folder, "single", frames=1)
    (folder / "text_pose.npz").write_text("no poses")
    encode(folder / "odd.mp4", picture(12, 47, 33), pix_fmt="yuv444p")
    save_keypoints(folder / "odd.npz", keypoints(12, 47, 33))
    encode(folder / "rotated.mp4", picture(12, 32, 48), rotation=90)
    save_keypoints(folder / "rotated.npz", keypoints(12, 48, 32))
    times = [0, 100, 200, 500, 600, 640, 700, 800, 900, 1000, 1100, 1200]
    encode(folder / "variable.mkv", picture(12), times=times)
    save_keypoints(folder / "variable.npz", keypoints(12, fps=None))
    write_video(folder / "uneven_sizes", picture(3), 12)
    Image.fromarray(picture(1, 20, 20)[0]).save(folder / "uneven_sizes" / "00001.png")
    save_keypoints(folder / "uneven_sizes.npz", keypoints(3))
    write_video(folder / "without.mp4", picture(), 12)

    assert main(["prepare", "folder", str(folder), "--output", str(output), "--image-format", "png", "--quiet"]) == 0
    report = load_report(output)
    skipped, handled = dict(report.skipped), dict(report.handled)
    reasons = {
        "broken": "broken.mp4 cannot be read as a video",
        "cut": "cut.mp4 ",
        "empty": "empty.mp4 cannot be read as a video",
        "no_pose": "no_pose has no visible keypoint in any of its 12 frames",
        "other_length": "has 12 frames, but",
        "other_shape": "other_shape is 32x48 (width x height), but its keypoints are of images of 48x32",
        "single": "single has 1 frame, fewer than 2",
        "text_pose": "text_pose.npz ",
        "uneven_sizes": "frames of different sizes",
        "without": "it has no keypoints: give --detector and --pose-model",
    }
    assert set(skipped) == set(reasons)
    for name, reason in reasons.items():
        assert reason in skipped[name]
        assert "\n" not in skipped[name]
    assert handled["odd"] == "odd size, 33x47 (width x height)"
    assert handled["rotated"] == "rotated by 90 degrees, stored upright"
    assert handled["variable"] == "variable frame rate, 40 to 300 ms a frame: 13 frames at 10 per second made of 12"
    assert set(handled) == {"odd", "rotated", "variable"}

    source = RecordSource(output)
    clips = {source[index].name: source[index] for index in range(len(source))}
    assert sorted(clips) == ["odd", "ordinary", "rotated", "variable"]
    for name in ("odd", "ordinary", "rotated"):
        frames = read_video(folder / f"{name}.mp4").frames
        np.testing.assert_array_equal(clips[name].frames(range(12)), frames)
        assert (clips[name].keypoints.height, clips[name].keypoints.width) == frames.shape[1:3]
    shown = [0, 1, 2, 2, 2, 3, 5, 6, 7, 8, 9, 10, 11]  # at 0, 100, ... 1200 ms
    np.testing.assert_array_equal(
        clips["variable"].frames(range(13)), read_video(folder / "variable.mkv").frames[shown]
    )
    np.testing.assert_array_equal(clips["variable"].keypoints.points, keypoints(12).points[shown])
    assert clips["variable"].keypoints.fps == pytest.approx(10, rel=0.02)


def test_a_clip_of_drawings_among_keypoints_is_skipped(tmp_path):
    add_clip(tmp_path / "v", "a")
    for name in ("b", "b_kps"):
        write_video(tmp_path / "v" / f"{name}.mp4", picture(), 12)
    assert main(["prepare", "folder", str(tmp_path / "v"), "--output", str(tmp_path / "data"), "--quiet"]) == 0
    assert [name for name, _ in load_report(tmp_path / "data").skipped] == ["b"]


def test_splits_of_a_folder(tmp_path, capsys):
    for name in ("train/a", "train/b", "test/c"):
        add_clip(tmp_path / "v", name)
    assert main(["prepare", "folder", str(tmp_path / "v"), "--output", str(tmp_path / "data")]) == 0
    printed = capsys.readouterr()
    assert "split     test: 1 clips, 12 frames\nsplit     train: 2 clips, 24 frames" in printed.out
    assert "3/3" in printed.err
    assert [RecordSource(tmp_path / "data", split="train")[i].name for i in (0, 1)] == ["train/a", "train/b"]


def test_nothing_can_be_used(tmp_path, capsys):
    add_clip(tmp_path / "v", "a")
    (tmp_path / "v" / "a.mp4").write_bytes(b"")
    assert main(["prepare", "folder", str(tmp_path / "v"), "--output", str(tmp_path / "data")]) == 2
    assert "data: no clip can be used; a: " in capsys.readouterr().err
    assert names(tmp_path) == ["v"]


REFUSED = {
    "output exists": ([], "taken exists already: remove it, or choose another output folder"),
    "no source": (["none"], "none does not exist, expected a folder of videos, or a meta JSON"),
    "no poses": (["bare"], "none of 1 clips in .*bare has keypoints: give --detector and --pose-model .* or run"),
    "empty": (["nothing"], "no clip can be used; there are none"),
    "one model": (["v", "--detector", "d.onnx"], "--detector and --pose-model go together"),
    "no model": (["bare", "--detector", "d.onnx", "--pose-model", "p.onnx"], "d.onnx"),
    "quality": (["v", "--quality", "101"], "quality 101 given, expected 1 to 100"),
    "short side": (["v", "--short-side", "0"], "short_side 0 given, expected 1 or more"),
    "workers": (["v", "--num-workers", "0"], "num-workers is 0, expected 1 or more"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    add_clip(tmp_path / "v", "a")
    for name in ("taken", "nothing", "bare"):
        (tmp_path / name).mkdir()
    write_video(tmp_path / "bare" / "a.mp4", picture(), 12)
    output = "data" if arguments else "taken"
    assert main(["prepare", "folder", *(arguments or ["v"]), "--output", output]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("data:")]
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert not (tmp_path / "data").exists()


def test_full_disk_is_no_broken_video(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for index in range(3):
        video = add_clip(tmp_path / "v", str(index), frames=12, height=96, width=96)
        write_video(video, rng.integers(0, 256, (12, 96, 96, 3), np.uint8), 12)
    arguments = ["prepare", "folder", str(tmp_path / "v"), "--output", str(tmp_path / "data"), "--num-workers", "1"]
    with largest_file(150_000):
        assert main([*arguments, "--image-format", "png", "--quiet"]) == 2
    line = capsys.readouterr().err
    assert "cannot write" in line
    assert not (tmp_path / "data").exists()
    assert not list((tmp_path / ".data.preparing").rglob("*.partial"))
    assert main([*arguments, "--image-format", "png", "--quiet"]) == 0
    assert load_report(tmp_path / "data").clips == {"train": 3}
    assert names(tmp_path) == ["data", "v"]


def test_report_lists_everything(whole):
    report = json.loads((whole / "report.json").read_text())
    assert report["clips"] == {"train": 197}
    assert {"clip", "why"} == set(report["skipped"][0])
