"""What becomes of an upload, without a page: good ones of every kind, and bad ones in one line without our folders."""

import json
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from aa_jax.pose import Keypoints
from aa_jax.video import Video, read_video, write_video
from aa_jax.web import examples, job, studio
from aa_jax.web.uploads import Limits


def prepared(request, animator, limits):
    return job.prepare(request, animator.config, limits)


def test_an_animation_is_the_library_s(small_animator, limits, request_of, uploads, tmp_path):
    checked = prepared(request_of(), small_animator, limits)
    steps = []
    frames = job.animate(small_animator, checked, lambda done, total: steps.append((done, total)))
    again = small_animator(
        uploads / "person.png", uploads / "drawn.mp4", num_frames=3, num_inference_steps=2, guidance_scale=2.0
    )
    assert np.array_equal(frames, again)
    assert steps == [(0, 2), (1, 2), (2, 2)]
    result = job.write(tmp_path, checked, frames, 0.0, 1.5)
    assert (result.frames, result.height, result.width, result.fps, result.compiling) == (3, 64, 48, 10, 1.5)
    video = read_video(result.video)
    assert video.frames.shape == (3, 64, 48, 3) and video.fps == 10
    factor = job.SHOWN_HEIGHT // 64
    beside = read_video(result.beside).frames
    assert beside.shape == (3, 64 * factor, 3 * 48 * factor, 3)
    left = np.abs(beside[0, :, : 48 * factor : factor][::factor].astype(int) - checked.character).mean()
    right = np.abs(beside[0, :, : 48 * factor : factor][::factor].astype(int) - frames[0]).mean()
    assert left < 12 < right


@pytest.mark.parametrize("kind", ["drawn.mp4", "frames", "dance.npz"])
def test_poses_of_every_kind(small_animator, limits, request_of, uploads, kind):
    path = uploads / kind
    files = sorted(path.iterdir(), reverse=True) if path.is_dir() else [path]
    checked = prepared(request_of(pose=files, frames=5), small_animator, limits)
    assert checked.drawn.shape == (5, 64, 48, 3) and len(checked.pose) == 5
    assert isinstance(checked.pose, Keypoints if kind == "dance.npz" else Video)
    if kind == "frames":
        assert np.array_equal(checked.drawn, read_video(path).frames[:5])


def test_a_short_pose_is_animated_as_long_as_it_is(small_animator, limits, request_of, uploads):
    files = sorted((uploads / "frames").iterdir())[:2]
    assert len(prepared(request_of(pose=files, frames=6), small_animator, limits).drawn) == 2


def test_retargeting(small_animator, limits, request_of):
    options = {"reference": examples.picture("character_1"), "pose": [examples.keypoints("squat")]}
    plain = prepared(request_of(**options), small_animator, limits)
    with pytest.raises(ValueError, match="no reference_pose"):
        prepared(request_of(**options, retarget="bones"), small_animator, limits)
    own = examples.keypoints("character_1")
    fitted = prepared(request_of(**options, retarget="bones", reference_pose=own), small_animator, limits)
    moved = np.abs(plain.pose.points - fitted.pose.points)[:, :18].max()
    assert 0.01 < moved < 0.5


def test_warnings_are_notes(small_animator, limits, request_of, uploads, monkeypatch):
    def warn(pose, *_):
        warnings.warn("retargeting: no neck", UserWarning, stacklevel=2)
        return pose

    monkeypatch.setattr("aa_jax.preprocess.retarget_pose", warn)
    assert prepared(request_of(), small_animator, limits).notes == ("retargeting: no neck",)


NUMBERS = [
    ({"frames": 7}, "7 frames were asked for, expected 1 to 6"),
    ({"frames": 0}, "0 frames were asked for, expected 1 to 6"),
    ({"steps": 5}, "5 steps were asked for, expected 1 to 4"),
    ({"height": 62}, "height is 62, expected a positive multiple of 4"),
    ({"height": 512}, "a video of 48x512 .* at most 4 times the pixels of the model's own 48x64"),
    ({"fps": 1000.0}, "1000 frames per second"),
    ({"reference": None}, "there is no reference image: upload one"),
    ({"pose": []}, "there is no pose: choose"),
]


@pytest.mark.parametrize("changes, message", NUMBERS)
def test_bad_numbers(small_animator, limits, request_of, changes, message):
    with pytest.raises(ValueError, match=message):
        prepared(request_of(**changes), small_animator, limits)


def test_another_aspect(small_animator, limits, request_of):
    assert prepared(request_of(width=64), small_animator, limits).drawn.shape == (3, 64, 64, 3)
    with pytest.raises(ValueError, match="choose resize 'crop', 'letterbox' or 'stretch'"):
        prepared(request_of(width=64, resize=None), small_animator, limits)


def bad_files(folder):
    """Names of bad files: the field that each is given to, and what is said."""
    (folder / "notes.txt").write_text("hello")
    (folder / "text.png").write_text("hello")
    (folder / "text.npz").write_text("hello")
    (folder / "text.mp4").write_text("hello")
    (folder / "empty.json").write_text("")
    (folder / "other.json").write_text(json.dumps({"a": 1}))
    (folder / "large.npz").write_bytes(bytes(3_000_000))
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", bytes(3_000_000))
    Image.new("1", (10_000, 7_000)).save(folder / "huge.png")
    return [
        ("reference", "text.png", "text.png cannot be read as an image: its format is not known"),
        ("reference", "notes.txt", r"the reference image notes.txt is of another kind than expected: \.png"),
        ("reference", "huge.png", "the reference image has 70 million pixels, expected at most 60"),
        ("pose", "notes.txt", r"the pose notes.txt is of another kind than expected: \.npz, \.json, \.mp4"),
        ("pose", "text.npz", "text.npz is damaged or no NumPy archive"),
        ("pose", "text.mp4", "text.mp4 cannot be read as a video"),
        ("pose", "empty.json", "empty.json is empty"),
        ("pose", "other.json", "other.json holds no keypoints that are known"),
        ("pose", "large.npz", "the pose is 3.0 MB, expected at most 2 MB"),
        ("pose", "bomb.npz", "the pose bomb.npz unpacks to 3 MB, expected at most 2"),
        ("pose", "deleted.npz", "the pose deleted.npz is here no more: .* upload it again"),
        ("reference_pose", "text.npz", "text.npz is damaged"),
        ("reference_pose", "notes.txt", "the reference's keypoints notes.txt is of another kind"),
    ]


def test_bad_files(small_animator, limits, request_of, uploads, tmp_path, monkeypatch):
    monkeypatch.setattr("aa_jax.web.uploads.MOST_ARRAY_BYTES", 2_000_000)
    for field, name, message in bad_files(tmp_path):
        changes = {field: [tmp_path / name] if field == "pose" else tmp_path / name}
        if field == "reference_pose":
            changes |= {"pose": [uploads / "dance.npz"], "retarget": "bones"}
        with pytest.raises(ValueError, match=f"^{message}") as caught:
            prepared(request_of(**changes), small_animator, limits)
        said = job.explain(caught.value)
        assert str(tmp_path) not in said and "\n" not in said


def test_bad_sets_of_files(small_animator, limits, request_of, uploads, tmp_path):
    frame = uploads / "frames" / "00000.png"
    other = tmp_path / "00000.png"
    Image.new("RGB", (20, 20)).save(other)
    damaged = tmp_path / "00001.png"
    damaged.write_bytes(frame.read_bytes()[:200])
    sets = [
        ([frame, other], "two files of the pose are called 00000.png"),
        ([frame, uploads / "drawn.mp4"], "the pose is 2 files, expected drawn frames or JSON alone"),
        ([frame, damaged], "00001.png cannot be read as an image"),
        ([other, *sorted((uploads / "frames").iterdir())[1:2]], "the pose holds frames of different sizes"),
    ]
    for files, message in sets:
        with pytest.raises(ValueError, match=f"^{message}"):
            prepared(request_of(pose=files), small_animator, limits)


def test_frames_that_would_fill_the_memory(small_animator, limits, request_of, uploads, monkeypatch, tmp_path):
    monkeypatch.setattr("aa_jax.web.uploads.MOST_POSE_PIXELS", 4 * 64 * 48)
    write_video(tmp_path / "drawn.gif", read_video(uploads / "drawn.mp4").frames, 10)
    for pose in ([uploads / "drawn.mp4"], sorted((uploads / "frames").iterdir()), [tmp_path / "drawn.gif"]):
        assert len(prepared(request_of(pose=pose, frames=4), small_animator, limits).drawn) == 4
        with pytest.raises(ValueError, match="million pixels in 5 frames.*choose fewer frames"):
            prepared(request_of(pose=pose, frames=5), small_animator, limits)


def test_what_is_explained():
    assert job.explain(ValueError("a\n b")) == "a b"
    assert job.explain(FileNotFoundError("x does not exist")) == "x does not exist"
    assert "choose fewer frames" in job.explain(RuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 9 bytes"))
    assert job.explain(RuntimeError("else")) is None and job.explain(TypeError("else")) is None


def test_limits_are_positive():
    with pytest.raises(ValueError, match="upload mb is limited to 0, expected 1 or more"):
        Limits(upload_mb=0)


def test_the_shown_pose_has_the_pose_s_aspect(small_animator, uploads, limits):
    config = small_animator.config.inference
    for name in ("drawn.mp4", "dance.npz"):
        shown = job.shown_pose(job.read_pose([uploads / name], 2, limits), config)
        assert shown.shape == (2, 320, 240, 3)


def test_too_many_programs_are_dropped(small_animator, limits, request_of, tmp_path, monkeypatch):
    monkeypatch.setattr(studio, "MOST_PROGRAMS", 0)
    of = studio.Studio(small_animator, limits, tmp_path)
    with of.turns.join() as turn:
        result, _ = of.animate(request_of(), turn)  # as the first test's, which is compiled
    assert result.video.is_file() and result.frames == 3
    assert small_animator.programs.compiled > 0 == of._animator.programs.compiled
    kept = zip(of._animator.leaves(), small_animator.leaves(), strict=True)
    assert all(new is old for new, old in kept)
