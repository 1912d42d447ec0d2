"""The synthetic characters as a source of clips, and as a folder of videos."""

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

from aa_jax.data.folder import FolderSource
from aa_jax.data.synthetic import SyntheticSource, export, perturb
from aa_jax.data.synthetic.source import HELD_OUT, HELD_OUT_FAMILIES, TRAIN_FAMILIES

SIZE = {"num_frames": 4, "height": 96, "width": 72}


def source(split="train", count=8, **options) -> SyntheticSource:
    return SyntheticSource(**({"split": split, "num_clips": count} | SIZE | options))


def test_clips_are_what_sources_give():
    clips = source()
    assert len(clips) == 8 and len({clip.name for clip in (clips[i] for i in range(8))}) == 8
    clip = clips[3]
    keypoints = clip.keypoints
    assert len(keypoints) == 4 and (keypoints.height, keypoints.width, keypoints.fps) == (96, 72, 12)
    frames = clip.frames([3, 0, 3])
    assert frames.shape == (3, 96, 72, 3) and frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[0], frames[2])
    assert (frames[0] != frames[1]).any()
    assert clip.frames([]).shape == (0, 96, 72, 3)
    for wrong in ([4], [-1]):
        with pytest.raises(IndexError, match="train_000003 has 4"):
            clip.frames(wrong)
    for wrong in (8, -1):
        with pytest.raises(IndexError, match="there are 8"):
            clips[wrong]


def test_a_clip_is_a_function_of_its_number():
    """The same in another source, another process, and after pickling; no matter how many frames are asked for."""
    clip = source()[5]
    again = pickle.loads(pickle.dumps(source(count=800)))[5]
    np.testing.assert_array_equal(clip.frames(range(4)), again.frames([0, 1, 2, 3]))
    np.testing.assert_array_equal(clip.frames([2])[0], clip.frames(range(4))[2])
    np.testing.assert_array_equal(clip.keypoints.points, pickle.loads(pickle.dumps(clip)).keypoints.points)
    code = f"""
from aa_jax.data.synthetic import SyntheticSource
clip = SyntheticSource(split="train", num_clips=8, **{SIZE})[5]
print(float(clip.keypoints.points.sum()), clip.scene.person.digit, clip.motion)
"""
    words = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(
        " ", 2
    )
    assert float(words[0]) == pytest.approx(float(clip.keypoints.points.sum()), rel=1e-5)
    assert int(words[1]) == int(clip.scene.person.digit) and words[2].strip() == str(clip.motion)


def test_the_reference_is_the_same_character_elsewhere():
    for clip in (source(count=20)[index] for index in range(20)):
        other = clip.reference
        assert (other.identity, other.camera, other.background) == (clip.identity, clip.camera, clip.background)
        assert other.motion != clip.motion and other.reference == clip and other.name != clip.name
    np.testing.assert_array_equal(clip.look, other.look)
    assert np.abs(clip.keypoints.points - other.keypoints.points).max() > 0.02


def test_splits_share_what_they_should():
    """Characters, families and numbers of motion are held out as the split says."""
    of = {split: [source(split, count=60)[i] for i in range(60)]
          for split in ("train", "identity", "motion", "both", "driving")}  # fmt: skip
    for split, clips in of.items():
        held_out = split in ("identity", "both", "driving")
        assert all((clip.identity >= HELD_OUT) == held_out for clip in clips), split
        families = {clip.motion.family for clip in clips}
        assert families == set(HELD_OUT_FAMILIES if split in ("motion", "both") else TRAIN_FAMILIES), split
        assert {clip.reference_motion.family for clip in clips} <= set(TRAIN_FAMILIES)
        assert {clip.driver == clip.identity for clip in clips} == {split != "driving"}
    for what in ("motion", "reference_motion", "camera", "background"):
        numbers = [
            getattr(getattr(clip, what), "number", None) or getattr(clip, what)
            for clips in of.values()
            for clip in clips
        ]
        assert len({str(number) for number in numbers}) == len(numbers), what
    shared = source(count=12, num_identities=3)
    assert [shared[i].identity for i in range(12)] == [0, 1, 2] * 4


def test_numbers_of_a_clip_are_independent():
    """Another number of one thing changes that thing alone."""
    clip = source()[2]
    changed = {name: dataclasses.replace(clip, **{name: 777}) for name in ("identity", "camera", "background")}
    assert not np.array_equal(clip.look, changed["identity"].look)
    for name in ("camera", "background"):
        np.testing.assert_array_equal(clip.look, changed[name].look)
    np.testing.assert_array_equal(clip.keypoints.points, changed["background"].keypoints.points)
    np.testing.assert_array_equal(clip.masks([1]), changed["background"].masks([1]))
    assert (clip.frames([1]) != changed["background"].frames([1])).mean() > 0.5


def test_driving_is_the_same_motion_of_another_body():
    clip = source("driving")[1]
    assert clip.driver != clip.identity
    driving, answer = clip.driving, clip.keypoints
    assert np.abs(driving.points - answer.points)[:, :18].mean() > 0.002
    # The body is another, its motion the same: places relative to the neck move together.
    moves = [np.diff(k.points[:, [4, 7, 10, 13]] - k.points[:, [1]], axis=0).ravel() for k in (driving, answer)]
    assert np.corrcoef(*moves)[0, 1] > 0.9
    own = source()[1]
    assert own.driving is own.keypoints


def test_frame_rate_and_length_do_not_change_the_motion():
    """At another rate the same moments show the same pose, hair aside."""
    slow, fast = source(fps=6)[0], source(fps=12)[0]
    np.testing.assert_allclose(slow.keypoints.points[1], fast.keypoints.points[2], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "split 'test' given, expected one of train, identity, motion, both, driving"),
        ({"num_clips": 0}, "num_clips 0 given, expected a whole number from 1"),
        ({"num_frames": 2.5}, "num_frames 2.5 given"),
        ({"height": 16}, "frames of 72x16 .* expected 32 or more"),
        ({"fps": 0}, "fps 0 given"),
        ({"num_identities": 9}, r"num_identities 9 given, expected 1 to num_clips \(8\)"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        source(**({"count": options.pop("num_clips")} if "num_clips" in options else {}), **options)


def test_noisy_keypoints():
    keypoints = source()[0].keypoints
    noisy = perturb(keypoints, seed=3, jitter=2.0, dropout=0.2)
    shift = (noisy.points - keypoints.points) * (keypoints.width, keypoints.height)
    assert shift.std() == pytest.approx(2.0, rel=0.1)
    assert (noisy.scores < keypoints.scores).sum() / (keypoints.scores > 0).sum() == pytest.approx(0.2, abs=0.06)
    np.testing.assert_array_equal(noisy.points, perturb(keypoints, seed=3, jitter=2.0, dropout=0.2).points)
    with pytest.raises(ValueError, match="dropout 2 given"):
        perturb(keypoints, seed=0, dropout=2)


def test_exported_clips_are_read_as_a_folder(tmp_path):
    clips = source(count=3)
    videos = export(tmp_path / "data", clips)
    assert [video.name for video in videos] == [f"train_00000{i}.mp4" for i in range(3)]
    folder = FolderSource(tmp_path / "data")
    assert len(folder) == 3
    for index in range(3):
        read, clip = folder[index], clips[index]
        np.testing.assert_allclose(read.keypoints.points, clip.keypoints.points, atol=1e-6)
        assert read.keypoints.fps == 12
        for one, other in ((read, clip), (read.reference, clip.reference)):
            error = one.frames(range(4)).astype(float) - other.frames(range(4))
            assert np.sqrt((error**2).mean()) < 12


def test_an_interrupted_export_is_taken_up(tmp_path):
    clips = source(count=2)
    video, _ = export(tmp_path, clips, references=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"train_00000{i}.{end}" for i in (0, 1) for end in ("mp4", "npz")
    ]
    before = video.stat().st_mtime_ns
    video.with_name("train_000001.npz").unlink()
    export(tmp_path, clips, references=False)
    assert video.stat().st_mtime_ns == before and video.with_name("train_000001.npz").exists()
