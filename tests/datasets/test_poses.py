"""Data sets without keypoints: `prepare` extracts them."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from aa_jax.data.__main__ import main
from aa_jax.data.folder import find_clips
from aa_jax.data.poses import extract_missing
from aa_jax.data.prepare import load_report
from aa_jax.data.records import RecordSource
from aa_jax.pose.dwpose import DWPose
from aa_jax.pose.files import load_keypoints, save_keypoints
from aa_jax.video import write_video
from tests.datasets.videos import keypoints, picture
from tests.pose import onnx_models as nets

SIZE = (192, 144)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return nets.write_spots(tmp_path_factory.mktemp("networks"), SIZE)


@pytest.fixture
def videos(tmp_path):
    """One with keypoints; a video and a folder of images without; one that is broken."""
    folder = tmp_path / "v"
    folder.mkdir()
    for seed, name in enumerate(("a.mp4", "b.mp4", "c")):
        write_video(folder / name, picture(5, seed=seed), 12)
    save_keypoints(folder / "a.npz", keypoints(5))
    (folder / "d.mp4").write_bytes(b"")
    return folder


def test_prepare_extracts_what_is_missing(videos, networks, tmp_path, capsys):
    models = ["--detector", str(networks[0]), "--pose-model", str(networks[1])]
    assert main(["prepare", "folder", str(videos), "--output", str(tmp_path / "data"), *models]) == 0
    report = load_report(tmp_path / "data")
    assert report.clips == {"train": 3}
    assert [name for name, _ in report.skipped] == ["d"]
    assert "extract" in capsys.readouterr().err
    source = RecordSource(tmp_path / "data")
    assert [source[index].name for index in range(3)] == ["a", "b", "c"]
    np.testing.assert_array_equal(source[0].keypoints.points, keypoints(5).points)
    for index, name in ((1, "b"), (2, "c")):
        extracted = load_keypoints(videos / f"{name}.npz")
        assert len(extracted) == 5
        np.testing.assert_array_equal(source[index].keypoints.points, extracted.points)
    # The red of the second pattern is brightest in the middle, and stays there.
    red = load_keypoints(videos / "b.npz").points[:, 92 + 2 :: 3]
    assert np.ptp(red, axis=0).max() < 0.2


def test_without_models_the_rest_is_prepared(videos, tmp_path):
    assert main(["prepare", "folder", str(videos), "--output", str(tmp_path / "data"), "--quiet"]) == 0
    report = load_report(tmp_path / "data")
    assert report.clips == {"train": 1}
    assert [name for name, _ in report.skipped] == ["b", "c", "d"]
    assert "`python -m aa_jax.pose extract` first" in report.skipped[0][1]


def test_what_is_done_is_not_done_again(videos, networks, monkeypatch):
    model = DWPose(*networks, device="cpu")
    told: list[tuple[int, int]] = []

    def interrupt(done, total):
        told.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_missing({"train": find_clips(videos)}, model, progress=interrupt)
    assert told == [(1, 4), (2, 4)]
    before = (videos / "b.npz").stat().st_mtime_ns
    found, broken = extract_missing({"train": find_clips(videos)}, model)
    assert (videos / "b.npz").stat().st_mtime_ns == before
    assert [files.name for files in found["train"]] == ["a", "b", "c"]
    assert all(files.poses.is_file() for files in found["train"])
    assert list(broken) == ["d"]
    assert not list(videos.glob(".*"))
