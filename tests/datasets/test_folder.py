"""Clips from folders of videos and poses."""

import json
import pickle
import shutil

import numpy as np
import pytest

from aa_jax.data.clips import count_frames, is_drawn
from aa_jax.data.folder import FolderClip, FolderSource, find_clips
from aa_jax.pose.disco import save_disco
from aa_jax.pose.files import save_keypoints
from aa_jax.video import read_video, write_video
from tests.datasets.videos import add_clip, keypoints, picture


def test_clips_of_a_folder(tmp_path):
    for seed, name in enumerate(("b", "inner/c", "inner/deep/a.b", "a")):
        add_clip(tmp_path, name, frames=5 + seed, seed=seed)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    source = FolderSource(tmp_path)
    assert [source[index].name for index in range(len(source))] == ["a", "b", "inner/c", "inner/deep/a.b"]
    clip = source[2]
    assert count_frames(clip) == 6
    np.testing.assert_array_equal(clip.frames([4, 0, 4]), read_video(tmp_path / "inner/c.mp4").frames[[4, 0, 4]])
    np.testing.assert_array_equal(clip.keypoints.points, keypoints(6, seed=1).points)
    assert clip.reference is clip
    assert not is_drawn(clip)


def test_folder_of_images(tmp_path):
    write_video(tmp_path / "a", picture(4), 12)
    save_keypoints(tmp_path / "a.npz", keypoints(4))
    (clip,) = _clips(FolderSource(tmp_path))
    assert clip.name == "a"
    np.testing.assert_array_equal(clip.frames([3, 1]), picture(4)[[3, 1]])


def test_clips_of_disco(tmp_path):
    write_video(tmp_path / "001", picture(4), 12)
    save_disco(tmp_path / "001" / "openpose_json", keypoints(4))
    for index in range(4):
        (tmp_path / "001" / f"{index:05d}.png").rename(tmp_path / "001" / f"{index:04d}.png")
    (clip,) = _clips(FolderSource(tmp_path))
    assert clip.name == "001"
    assert (clip.keypoints.height, clip.keypoints.width, len(clip.keypoints)) == (48, 32, 4)
    np.testing.assert_allclose(clip.keypoints.points[:, 0], keypoints(4).points[:, 0], atol=1e-5)


def test_drawn_poses(tmp_path):
    add_clip(tmp_path, "both")
    write_video(tmp_path / "both_kps.mp4", picture(12, seed=9), 12)
    write_video(tmp_path / "drawn.mp4", picture(12), 12)
    write_video(tmp_path / "drawn_kps.mp4", picture(12, 24, 16, seed=5), 12)
    both, drawn = _clips(FolderSource(tmp_path))
    assert isinstance(both, FolderClip)  # keypoints are better than drawings
    assert is_drawn(drawn)
    assert not hasattr(drawn, "keypoints")
    assert (drawn.name, drawn.num_frames, count_frames(drawn)) == ("drawn", 12, 12)
    np.testing.assert_array_equal(drawn.drawn([7, 2]), read_video(tmp_path / "drawn_kps.mp4").frames[[7, 2]])
    np.testing.assert_array_equal(drawn.frames([7, 2]), read_video(tmp_path / "drawn.mp4").frames[[7, 2]])
    assert drawn.reference is drawn
    write_video(tmp_path / "drawn_kps.mp4", picture(11), 12)
    with pytest.raises(ValueError, match="drawn has 12 frames, but 11 drawn poses"):
        _clips(FolderSource(tmp_path))[1].drawn([0])


def test_meta_json(tmp_path, monkeypatch):
    for name in ("a", "b"):
        add_clip(tmp_path / "videos", f"x/{name}")
        add_clip(tmp_path / "videos_dwpose", f"x/{name}", seed=4)
    entries = [{"video_path": f"videos/x/{name}.mp4", "kps_path": f"videos_dwpose/x/{name}.mp4"} for name in "ba"]
    (tmp_path / "meta.json").write_text(json.dumps(entries))
    first, second = _clips(FolderSource(tmp_path / "meta.json"))
    assert (first.name, second.name) == ("a", "b")
    np.testing.assert_array_equal(first.drawn([3]), read_video(tmp_path / "videos_dwpose/x/a.mp4").frames[[3]])
    monkeypatch.chdir(tmp_path.parent)  # paths may also be from where the command runs
    for entry in entries:
        entry.update({key: f"{tmp_path.name}/{path}" for key, path in entry.items()})
    (tmp_path / "videos" / "meta.json").write_text(json.dumps(entries))
    assert _clips(FolderSource(tmp_path / "videos" / "meta.json"))[0].num_frames == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "meta.json is no meta JSON, expected a list"),
        ("[]", "meta.json is no meta JSON"),
        ('[{"video_path": "a.mp4"}]', "meta.json, entry 0: expected"),
        ('[{"video_path": "a.mp4", "kps_path": 3}]', "entry 0"),
        ('["a.mp4"]', "entry 0"),
        ('[{"video_path"', "meta.json is no JSON or is cut short"),
        ("", "meta.json is empty"),
    ],
)
def test_broken_meta_json(tmp_path, text, message):
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        FolderSource(tmp_path / "meta.json")


def test_reference_clips(tmp_path):
    add_clip(tmp_path, "x/a", seed=1)
    add_clip(tmp_path, "b", seed=2)
    add_clip(tmp_path, "references/x/a", frames=7, seed=3)
    a, b = reversed(_clips(FolderSource(tmp_path)))
    assert (a.name, a.reference.name) == ("x/a", "references/x/a")
    assert len(a.reference.keypoints) == 7
    np.testing.assert_array_equal(a.reference.frames([6]), read_video(tmp_path / "references/x/a.mp4").frames[[6]])
    assert a.reference.reference.name == a.reference.name
    assert b.reference is b


def test_videos_without_poses(tmp_path):
    add_clip(tmp_path, "a")
    write_video(tmp_path / "b.mp4", picture(), 12)
    assert [files.poses is None for files in find_clips(tmp_path)] == [False, True]
    with pytest.warns(UserWarning, match="1 videos without poses are left out, b among them"):
        assert len(FolderSource(tmp_path)) == 1
    (tmp_path / "a.npz").unlink()
    with pytest.raises(ValueError, match="no video with poses: beside NAME.mp4, NAME.npz was expected"):
        FolderSource(tmp_path)


def test_missing_and_ambiguous_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="none does not exist, expected a folder of videos"):
        FolderSource(tmp_path / "none")
    video = add_clip(tmp_path, "a")
    shutil.copy(video, tmp_path / "a.mov")
    with pytest.raises(ValueError, match="would both be the clip a: rename one"):
        FolderSource(tmp_path)


def test_keypoints_of_another_video(tmp_path):
    video = add_clip(tmp_path, "a")
    save_keypoints(video.with_suffix(".npz"), keypoints(11))
    with pytest.raises(ValueError, match="a.mp4 has 12 frames, but .*a.npz has 11: extract the keypoints again"):
        FolderSource(tmp_path)[0].frames([0])


def test_pickles(tmp_path):
    add_clip(tmp_path, "a", frames=30)
    source = FolderSource(tmp_path)
    clip = source[0]
    expected = clip.frames([3, 8])
    for copy in (pickle.loads(pickle.dumps(source))[0], pickle.loads(pickle.dumps(clip))):
        np.testing.assert_array_equal(copy.frames([3, 8]), expected)
    assert len(pickle.dumps(clip)) < 2000  # neither keypoints nor frames travel


def _clips(source) -> list:
    return [source[index] for index in range(len(source))]
