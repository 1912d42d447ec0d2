"""Random access to the frames of videos of many kinds, against reading them from start to end."""

import pickle

import av
import numpy as np
import pytest

from aa_jax.data import readers
from aa_jax.data.readers import ImageFrames, VideoFrames, even_out, open_frames
from aa_jax.video import read_video, write_video
from tests.datasets.videos import encode, picture

SHORT_GOP = {"g": "5", "sc_threshold": "0"}
VFR = [0, 80, 160, 400, 420, 500, 580, 660, 900, 980, 1060, 1140, 1220, 1300, 1700, 1780, 1860, 1940, 2020, 2100]
KINDS = {
    "h264": ("a.mp4", {}),
    "h264, keyframes": ("a.mp4", SHORT_GOP),
    "h264, open groups": ("a.mp4", {**SHORT_GOP, "x264-params": "open-gop=1:bframes=3:b-adapt=0"}),
    "h264, keyframes only": ("a.mov", {"g": "1"}),
    "h264 in Matroska": ("a.mkv", SHORT_GOP),
    "h264 in a stream": ("a.ts", SHORT_GOP),
    "h264, another rate": ("a.mp4", {"times": VFR, **SHORT_GOP}),
    "rotated": ("a.mp4", {"rotation": 90, **SHORT_GOP}),
    "hevc": ("a.mp4", {"codec": "libx265", "x265-params": "keyint=5:open-gop=1:log-level=none"}),
    "vp8": ("a.webm", {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "10", "g": "5"}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "auto-alt-ref": "1", "lag-in-frames": "10", "g": "5"}),
    "mpeg4": ("a.avi", {"codec": "mpeg4", "bf": "2", "g": "5"}),
    "ffv1": ("a.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
}


@pytest.mark.parametrize(("name", "options"), KINDS.values(), ids=KINDS)
def test_any_frame_is_the_one_read_in_order(tmp_path, name, options):
    path = tmp_path / name
    try:
        encode(path, picture(20), **options)
    except (av.codec.codec.UnknownCodecError, av.error.EncoderNotFoundError):
        pytest.skip("this FFmpeg lacks the encoder")
    expected = read_video(path).frames
    assert len(expected) == 20
    frames = VideoFrames(path)
    assert len(frames) == 20
    for indices in ([13], [3, 19, 0, 3], [4], [5, 6], [7], [18, 2], list(range(20)), [19], [0]):
        np.testing.assert_array_equal(frames(indices), expected[indices], err_msg=str(indices))


def test_only_what_is_needed_is_decoded(tmp_path, monkeypatch):
    encode(tmp_path / "a.mp4", picture(20), **SHORT_GOP)
    frames = VideoFrames(tmp_path / "a.mp4")
    np.testing.assert_array_equal(frames.index.keys, np.arange(20) // 5 * 5)
    decoded = []
    checked = readers._Decoder._checked
    monkeypatch.setattr(readers._Decoder, "_checked", lambda self, frame: decoded.append(1) or checked(self, frame))
    frames([12])
    assert len(decoded) == 3  # 10, 11, 12
    frames([14])
    assert len(decoded) == 5  # goes on from there
    frames([15])
    assert len(decoded) == 6
    frames([2, 18])
    assert len(decoded) == 13  # 0 to 2, 15 to 18


def test_times(tmp_path):
    encode(tmp_path / "even.mp4", picture(20))
    np.testing.assert_allclose(VideoFrames(tmp_path / "even.mp4").index.times, np.arange(20) / 12, atol=1e-6)
    encode(tmp_path / "uneven.mkv", picture(20), times=VFR)
    np.testing.assert_allclose(VideoFrames(tmp_path / "uneven.mkv").index.times, np.array(VFR) / 1000, atol=1.1e-3)


def test_there_is_no_such_frame(tmp_path):
    write_video(tmp_path / "a.mp4", picture(5), 12)
    for index in (5, -1):
        with pytest.raises(IndexError, match=f"a.mp4 has 5 frames, so there is no frame {index}"):
            VideoFrames(tmp_path / "a.mp4")([0, index])


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(5000)], ids=["empty", "text", "zeros"])
def test_no_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="a.mp4 cannot be read as a video"):
        VideoFrames(tmp_path / "a.mp4")([0])


def test_missing_video(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.mp4 does not exist, expected a video"):
        VideoFrames(tmp_path / "a.mp4")([0])


@pytest.mark.parametrize(
    ("name", "index_first"), [("a.mp4", False), ("a.mp4", True), ("a.mkv", False), ("a.ts", False)]
)
def test_a_video_cut_short_is_never_taken_for_whole(tmp_path, name, index_first):
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 32, 3), np.uint8)
    encode(tmp_path / name, noise, index_first=index_first, **SHORT_GOP)
    data = (tmp_path / name).read_bytes()
    for share in (0.3, 0.6, 0.9):
        (tmp_path / name).write_bytes(data[: int(share * len(data))])
        if name == "a.ts" or (name == "a.mkv" and share == 0.9):
            # A stream does not say how long it is, and headers may be off by a tenth: the keypoints have more frames.
            assert len(VideoFrames(tmp_path / name)) < 40
        else:
            with pytest.raises(ValueError, match=f"{name} (cannot be read|is damaged|is cut short|holds)"):
                VideoFrames(tmp_path / name)(range(40))


def test_damage_in_the_middle_is_found(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 32, 3), np.uint8)
    encode(tmp_path / "a.mp4", noise, **SHORT_GOP)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(ValueError, match="a.mp4 (cannot be read|is damaged)"):
        VideoFrames(tmp_path / "a.mp4")(range(40))


def test_pickles_while_it_is_read(tmp_path):
    write_video(tmp_path / "a.mp4", picture(8), 12)
    frames = VideoFrames(tmp_path / "a.mp4")
    first = frames([5])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))([5]), first)
    assert len(pickle.dumps(frames)) < 500


def test_folder_of_images(tmp_path):
    write_video(tmp_path / "frames", picture(12), 12)
    for index in range(12):
        (tmp_path / "frames" / f"{index:05d}.png").rename(tmp_path / "frames" / f"{index}.png")
    (tmp_path / "frames" / "notes.txt").write_text("no image")
    frames = open_frames(tmp_path / "frames")
    assert isinstance(frames, ImageFrames)
    np.testing.assert_array_equal(frames([11, 2, 11]), picture(12)[[11, 2, 11]])
    (tmp_path / "frames" / "3.png").write_bytes(b"damaged")
    frames([2])
    with pytest.raises(ValueError, match="3.png cannot be read as an image"):
        frames([3])
    write_video(tmp_path / "other", picture(1, 20, 20), 12)
    (tmp_path / "other" / "00000.png").replace(tmp_path / "frames" / "3.png")
    with pytest.raises(ValueError, match="frames of different sizes"):
        frames([2, 3])


def test_even_times_stay():
    assert even_out(np.arange(30) / 30) is None
    jitter = np.random.default_rng(0).uniform(-0.2, 0.2, 30)
    assert even_out((np.arange(30) + jitter) / 30) is None
    assert even_out(np.zeros(1)) is None


def test_uneven_times_are_evened_out():
    times = np.array([0, 1, 2, 5, 6, 6.2, 7, 8, 9.0]) / 10  # 3 and 4 are missing, one comes at 6.2
    shown, fps = even_out(times)
    assert fps == pytest.approx(10)
    np.testing.assert_array_equal(shown, [0, 1, 2, 2, 2, 3, 5, 6, 7, 8])
    # Every tick shows the latest frame that is due by half a tick later.
    ticks = np.arange(len(shown)) / fps
    assert (times[shown] <= ticks + 0.5 / fps).all()
    assert (ticks - times[shown] <= 3 / fps).all()


def test_times_that_are_no_videos():
    with pytest.raises(ValueError, match="too irregular for a constant frame rate"):
        even_out(np.array([0, 0.01, 0.02, 0.03, 100]))
