"""Which clips are compared: nothing that does not fit is left out silently."""

import dataclasses

import numpy as np
import pytest

from aa_jax.evaluation.footage import open_folder
from aa_jax.evaluation.pairs import ProblemsError, check, find_pairs, read_pair
from aa_jax.evaluation.protocols import PROTOCOLS
from aa_jax.video import write_video
from tests.datasets.videos import encode, picture

VIDEOS = PROTOCOLS["videos"]
RESIZING = dataclasses.replace(VIDEOS, height=32, width=32, sizes="resize", lengths="shorter")


@pytest.fixture
def folders(tmp_path):
    """Two clips each, a video and a folder of images, the predicted ones the other way round."""
    predicted, truth = tmp_path / "predicted", tmp_path / "true"
    for folder in (predicted, truth):
        (folder / "more").mkdir(parents=True)
    write_video(truth / "one.mp4", picture(6), 12)
    write_video(f"{predicted}/one/", picture(6, seed=1), 12)
    write_video(f"{truth}/more/two/", picture(5), 12)
    write_video(predicted / "more" / "two.mp4", picture(5, seed=1), 12)
    return predicted, truth


def pairs_of(folders, protocol=VIDEOS):
    return find_pairs(*map(open_folder, folders), protocol)


def test_names_belong_together(folders):
    found = pairs_of(folders)
    assert [pair.name for pair in found.pairs] == ["more/two", "one"] and not found.problems and not found.handled
    predicted, truth, handled = read_pair(found.pairs[0], VIDEOS)
    np.testing.assert_array_equal(truth, picture(5))
    assert predicted.shape == truth.shape and np.abs(predicted - picture(5, seed=1).astype(int)).mean() < 3
    assert handled == []
    check(found, skip_bad=False)


def test_each_that_does_not_fit_is_named(folders):
    predicted, truth = folders
    write_video(truth / "missing.mp4", picture(4), 12)
    write_video(predicted / "surplus.mp4", picture(4), 12)
    write_video(truth / "longer.mp4", picture(6), 12)
    write_video(predicted / "longer.mp4", picture(9), 12)
    write_video(truth / "faster.mp4", picture(6), 12)
    write_video(predicted / "faster.mp4", picture(6), 24)
    (predicted / "broken.mp4").write_bytes(b"no video")
    write_video(truth / "broken.mp4", picture(4), 12)
    found = pairs_of(folders)
    assert [pair.name for pair in found.pairs] == ["more/two", "one"]
    problems = dict(line.split(": ", 1) for line in found.problems)
    assert problems.pop("broken").startswith(f"{predicted / 'broken.mp4'} cannot be read as a video")
    assert problems == {
        "missing": "there is no predicted clip of that name",
        "surplus": "there is no true clip of that name",
        "longer": "9 frames predicted, 6 true: videos compares clips of one length",
        "faster": "24 frames per second (predicted), but 12 (true): write both at one rate",
    }
    with pytest.raises(ProblemsError, match="5 clips cannot be compared"):
        check(found, skip_bad=False)
    check(found, skip_bad=True)


def test_a_rate_of_the_protocol(folders):
    found = pairs_of(folders, dataclasses.replace(VIDEOS, fps=30.0))
    assert not found.pairs and len(found.problems) == 2
    assert "12 frames per second (true), but 30 (videos)" in found.problems[1]
    with pytest.raises(ValueError, match=r"no clips to compare: more/two: .*; one: "):
        check(found, skip_bad=True)


def test_what_a_protocol_handles_is_told(folders):
    predicted, truth = folders
    write_video(truth / "longer.mp4", picture(6, 64, 64), 12)
    write_video(predicted / "longer.mp4", picture(9, 48, 48), 12)
    found = pairs_of(folders, RESIZING)
    assert not found.problems and found.handled == ("longer: 9 frames predicted, 6 true, compared 6",)
    predicted_frames, true_frames, handled = read_pair(found.pairs[0], RESIZING)
    assert predicted_frames.shape == true_frames.shape == (6, 32, 32, 3)
    assert handled == ["longer: predicted 48x48, resized to 32x32"]


def test_other_sizes_are_refused(folders):
    predicted, truth = folders
    write_video(truth / "wide.mp4", picture(6, 48, 64), 12)
    write_video(predicted / "wide.mp4", picture(6, 48, 32), 12)
    pair = pairs_of(folders).pairs[-1]
    with pytest.raises(ValueError, match=r"predicted frames of 32x48, videos compares at 64x48 \(width x height\)"):
        read_pair(pair, VIDEOS)


def test_a_video_that_is_damaged(folders):
    """Told when the headers are read, or when the frames are."""
    predicted, truth = folders
    encode(predicted / "cut.mp4", picture(48), index_first=True)
    data = (predicted / "cut.mp4").read_bytes()
    (predicted / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    write_video(truth / "cut.mp4", picture(48), 12)
    (problem,) = pairs_of(folders).problems
    assert problem.startswith("cut: ") and "cut.mp4" in problem and "cut short" in problem
    (image,) = (predicted / "one").glob("00003.png")
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"00003\.png"):
        read_pair(pairs_of(folders).pairs[-1], VIDEOS)


@pytest.mark.parametrize(("name", "message"), [("nowhere", "does not exist"), ("empty", "holds no videos")])
def test_folders_without_clips(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        open_folder(tmp_path / name)
