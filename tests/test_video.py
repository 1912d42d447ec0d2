"""Reading and writing clips."""

import errno
import os
import stat
import struct
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from aa_jax.video import DEFAULT_FPS, Video, check_writable, read_video, side_by_side, write_video
from tests.full_disk import largest_file


def smooth(frames: int = 12, height: int = 96, width: int = 64) -> np.ndarray:
    """Slowly moving colour gradients."""
    t, y, x = np.meshgrid(np.arange(frames), np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    clip = np.stack([127 + 120 * np.sin(3 * x + 0.2 * t), 127 + 120 * np.cos(4 * y - 0.1 * t), 255 * x * y], -1)
    return clip.round().clip(0, 255).astype(np.uint8)


def noise(frames: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 96, 64, 3), np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def encode(path: Path, frames: np.ndarray, codec: str, pix_fmt: str, fps: int = 12, **options: str) -> None:
    """Write with FFmpeg alone, independently of `write_video`."""
    source = "rgba" if frames.shape[-1] == 4 else "rgb24"
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=source)))
        container.mux(stream.encode())


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# Writing and reading back


@pytest.mark.parametrize("fps", [8, 24, 30000 / 1001])
def test_mp4_round_trip(tmp_path, fps):
    frames = smooth()
    write_video(tmp_path / "clip.mp4", frames, fps)
    video = read_video(tmp_path / "clip.mp4")
    assert video.frames.shape == frames.shape
    assert video.frames.dtype == np.uint8
    assert video.fps == pytest.approx(fps, rel=1e-9)
    assert psnr(video.frames, frames) > 41
    assert np.abs((video.frames - frames.astype(float)).mean(axis=(0, 1, 2))).max() < 0.8  # no tint
    assert names(tmp_path) == ["clip.mp4"]


def test_mp4_is_what_players_expect(tmp_path):
    write_video(tmp_path / "clip.mp4", smooth(3), 8)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


def test_mp4_keeps_saturated_colours(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (5, 32, 32, 3))
    write_video(tmp_path / "clip.mp4", frames, 8)
    np.testing.assert_allclose(read_video(tmp_path / "clip.mp4").frames, frames, atol=3)


@pytest.mark.parametrize(("suffix", "quality"), [(".gif", 28), (".webp", 38)])
@pytest.mark.parametrize("fps", [8, 24, 30])
def test_animation_round_trip(tmp_path, suffix, quality, fps):
    frames = smooth()
    write_video(tmp_path / f"clip{suffix}", frames, fps)
    video = read_video(tmp_path / f"clip{suffix}")
    assert video.frames.shape == frames.shape
    assert video.fps == pytest.approx(fps, rel=1e-6)
    assert psnr(video.frames, frames) > quality


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_held_frames_of_an_animation_come_back(tmp_path, suffix):
    frames = np.repeat(smooth(5), [1, 3, 1, 2, 1], axis=0)
    write_video(tmp_path / f"clip{suffix}", frames, 12)
    with Image.open(tmp_path / f"clip{suffix}") as image:
        assert image.n_frames == 5
    video = read_video(tmp_path / f"clip{suffix}")
    assert video.fps == pytest.approx(12, rel=0.02)
    assert psnr(video.frames, frames) > 28


@pytest.mark.parametrize("name", ["frames", "frames/", "dotted.name/"])
def test_folder_round_trip_is_lossless(tmp_path, name):
    write_video(f"{tmp_path}/{name}", noise(11), 24)
    assert names(tmp_path) == [name.rstrip("/")]
    assert names(tmp_path / name) == [f"{index:05d}.png" for index in range(11)]
    video = read_video(tmp_path / name)
    np.testing.assert_array_equal(video.frames, noise(11))
    assert video.fps == DEFAULT_FPS


def test_existing_targets(tmp_path):
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "empty", noise(2), 8)
    assert len(read_video(tmp_path / "empty")) == 2
    with pytest.raises(ValueError, match="empty is a folder with files in it: give an empty or a new one"):
        write_video(tmp_path / "empty", noise(3), 8)
    assert len(names(tmp_path / "empty")) == 2

    write_video(tmp_path / "clip.mp4", smooth(2), 8)
    write_video(tmp_path / "clip.mp4", smooth(3), 8)
    assert len(read_video(tmp_path / "clip.mp4")) == 3
    assert names(tmp_path) == ["clip.mp4", "empty"]


def test_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_video(tmp_path / "clip.gif", smooth(2), 8)
    assert (tmp_path / "clip.gif").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert stat.S_ISREG((tmp_path / "clip.gif").stat().st_mode)


# Writing that cannot be done

REFUSED = {
    "suffix": ("clip.mov", 8, ValueError, r"suffix \.mov, expected one of \.mp4, \.gif, \.webp, or a folder"),
    "parent": ("none/clip.mp4", 8, FileNotFoundError, "none is not an existing folder.*create it first"),
    "parent is a file": ("file/clip.mp4", 8, FileNotFoundError, "file is not an existing folder"),
    "folder for file": ("folder.mp4", 8, ValueError, "folder.mp4 is a folder: to write PNGs into it, end it in /"),
    "file for folder": ("file", 8, ValueError, "file is a file, expected a folder"),
    "full folder": ("full", 8, ValueError, "full is a folder with files in it"),
    "rate": ("clip.gif", 60, ValueError, "clip.gif cannot hold 60 frames per second, expected at most 33"),
}


@pytest.mark.parametrize(("name", "fps", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_before_and_at_writing(tmp_path, name, fps, error, message):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "file").touch()
    before = names(tmp_path)
    for attempt in (lambda path: check_writable(path, fps), lambda path: write_video(path, smooth(2), fps)):
        with pytest.raises(error, match=message) as caught:
            attempt(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", ["clip.mp4", "clip.GIF", "clip.webp", "frames", "frames/"])
def test_check_writable_leaves_no_trace(tmp_path, name):
    check_writable(f"{tmp_path}/{name}", 24)
    assert names(tmp_path) == []


def test_folder_without_permission():
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o555)
    root = os.geteuid() == 0
    try:
        if root:  # root may write anywhere
            os.seteuid(65534)
        for attempt in (check_writable, lambda path: write_video(path, smooth(2), 8)):
            with pytest.raises(PermissionError, match=r"cannot write .*clip\.mp4: Permission denied"):
                attempt(f"{folder}/clip.mp4")
    finally:
        if root:
            os.seteuid(0)
        os.rmdir(folder)  # fails if anything was left in it


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "frames"])
def test_full_disk_leaves_nothing(tmp_path, name):
    with largest_file(4096), pytest.raises(OSError, match=f"cannot write .*{name}: File too large") as caught:
        write_video(tmp_path / name, noise(), 8)
    assert caught.value.errno == errno.EFBIG
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_full_disk_keeps_the_old_file(tmp_path, name):
    write_video(tmp_path / name, smooth(2), 8)
    before = (tmp_path / name).read_bytes()
    with largest_file(4096), pytest.raises(OSError, match="File too large"):
        write_video(tmp_path / name, noise(), 8)
    assert (tmp_path / name).read_bytes() == before
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["clip.mp4", "frames"])
def test_failure_of_the_last_step_leaves_nothing(tmp_path, monkeypatch, name):
    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match=f"cannot write .*{name}: No space left on device") as caught:
        write_video(tmp_path / name, smooth(2), 8)
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_frames_that_are_no_clip(tmp_path):
    for frames in (smooth(2).astype(np.float32), smooth(2)[0], smooth(2)[:0], smooth(2)[..., :1]):
        with pytest.raises(ValueError, match=r"expected uint8 \(t, h, w, 3\)"):
            write_video(tmp_path / "clip.mp4", frames, 8)
    for fps in (0, -8, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps .* given, expected a positive number"):
            Video(frames=smooth(2), fps=fps)
    with pytest.raises(ValueError, match=r"95x64 \(height x width\) cannot be written as MP4, expected an even"):
        write_video(tmp_path / "clip.mp4", smooth(2, 95), 8)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "frames/"])
def test_frames_one_after_another(name, tmp_path):
    write_video(tmp_path / "whole" if name == "frames/" else tmp_path / f"whole_{name}", smooth(5), 8)
    whole = read_video(tmp_path / "whole" if name == "frames/" else tmp_path / f"whole_{name}").frames
    write_video(f"{tmp_path}/{name}", iter(smooth(5)), 8)
    np.testing.assert_array_equal(read_video(f"{tmp_path}/{name}").frames, whole)
    before = names(tmp_path)
    for bad in (smooth(1)[0, :-2], smooth(1)[0].astype(np.float32)):
        with pytest.raises(ValueError, match="frame 2 is .* as the first"):
            write_video(f"{tmp_path}/other_{name}", iter([*smooth(2), bad]), 8)
    assert names(tmp_path) == before


def test_the_same_frames_give_the_same_file(tmp_path):
    files = set()
    for size in range(30):
        left = [bytes(10_000 * size) for _ in range(size)]  # so that each time finds other things in its memory
        write_video(tmp_path / "clip.mp4", smooth(5), 8)
        files.add((tmp_path / "clip.mp4").read_bytes())
        del left
    assert len(files) == 1


# Reading what others wrote


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("clip.webm", "libvpx-vp9", "yuv420p"),
        ("clip.mkv", "libx264", "yuv420p"),
        ("clip.mov", "libx264", "yuv444p"),
        ("clip.avi", "mpeg4", "yuv420p"),
        ("clip.ts", "libx264", "yuv420p"),
        ("no_suffix", "libx264", "yuv420p"),
    ],
)
def test_other_containers(tmp_path, name, codec, pix_fmt):
    encoded = tmp_path / ("clip.mp4" if name == "no_suffix" else name)
    encode(encoded, smooth(), codec, pix_fmt)
    encoded.rename(tmp_path / name)
    video = read_video(tmp_path / name)
    assert video.frames.shape == (12, 96, 64, 3)
    assert video.fps == pytest.approx(12)
    assert psnr(video.frames, smooth()) > 28


@pytest.mark.parametrize(("degrees", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_rotation_of_phone_videos_is_applied(tmp_path, degrees, matrix):
    encode(tmp_path / "clip.mp4", smooth(), "libx264", "yuv420p")
    data = bytearray((tmp_path / "clip.mp4").read_bytes())
    plain = read_video(tmp_path / "clip.mp4").frames
    # The track header's matrix (a b u, c d v, x y w) maps x, y to ax + cy, bx + dy: clockwise, as y points down.
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (value * 65536 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "clip.mp4").write_bytes(data)
    np.testing.assert_array_equal(
        read_video(tmp_path / "clip.mp4").frames, np.rot90(plain, -degrees // 90, axes=(1, 2))
    )


def test_transparent_video_is_composited_on_white(tmp_path):
    frames = np.concatenate([smooth(3), np.zeros((3, 96, 64, 1), np.uint8)], axis=-1)
    frames[:, 48:, :, 3] = 255
    encode(tmp_path / "clip.mov", frames, "png", "rgba")
    video = read_video(tmp_path / "clip.mov")
    np.testing.assert_array_equal(video.frames[:, 48:], frames[:, 48:, :, :3])
    assert (video.frames[:, :48] == 255).all()


def test_animated_png_and_still_image(tmp_path):
    first, *others = [Image.fromarray(frame) for frame in noise(4)]
    first.save(tmp_path / "clip.png", save_all=True, append_images=others, duration=50)
    video = read_video(tmp_path / "clip.png")
    np.testing.assert_array_equal(video.frames, noise(4))
    assert video.fps == pytest.approx(20)
    first.save(tmp_path / "still.png")
    still = read_video(tmp_path / "still.png")
    np.testing.assert_array_equal(still.frames, noise(4)[:1])
    assert still.fps == DEFAULT_FPS
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    np.testing.assert_array_equal(read_video(tmp_path / "pages.tif").frames, noise(4)[:1])


def test_folder_is_in_natural_order_and_images_only(tmp_path):
    frames = noise(12)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    np.testing.assert_array_equal(read_video(tmp_path).frames, frames)
    np.testing.assert_array_equal(read_video(tmp_path, max_frames=3).frames, frames[:3])
    Image.fromarray(frames[0, :50]).save(tmp_path / "frame_99.png")
    with pytest.raises(ValueError, match=r"different sizes, .*\(50, 64\) and \(96, 64\): expected one size"):
        read_video(tmp_path)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "clip"])
def test_max_frames(tmp_path, name):
    write_video(tmp_path / name, smooth(), 8)
    whole = read_video(tmp_path / name)
    np.testing.assert_array_equal(read_video(tmp_path / name, max_frames=5).frames, whole.frames[:5])
    np.testing.assert_array_equal(read_video(tmp_path / name, max_frames=99).frames, whole.frames)
    with pytest.raises(ValueError, match="max_frames 0"):
        read_video(tmp_path / name, max_frames=0)


# Reading what is broken


def first_packets(path: Path, count: int) -> int:
    """Where in the file the packet after the first `count` begins."""
    with av.open(str(path)) as container:
        return sorted(packet.pos for packet in container.demux(video=0) if packet.size)[count]


def test_cut_short_files_are_refused(tmp_path):
    whole = {name: tmp_path / f"whole_{name}" for name in ("end.mp4", "start.mp4", "clip.webm", "clip.mkv", "clip.avi")}
    for name, path in whole.items():
        codec = {".webm": "libvpx", ".avi": "mpeg4"}.get(path.suffix, "libx264")
        encode(path, noise(), codec, "yuv420p", **({"movflags": "+faststart"} if name == "start.mp4" else {}))
        assert len(read_video(path)) == 12
    for name in ("clip.gif", "clip.webp"):
        whole[name] = tmp_path / f"whole_{name}"
        write_video(whole[name], noise(), 8)
    cuts = [(name, path.stat().st_size * part // 4) for name, path in whole.items() for part in (1, 2, 3)]
    cuts.append(("start.mp4", first_packets(whole["start.mp4"], 6)))  # between frames, where each frame is intact
    for name, size in cuts:
        (tmp_path / name).write_bytes(whole[name].read_bytes()[:size])
        with pytest.raises(ValueError, match=f"{tmp_path / name} ") as caught:
            read_video(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_damaged_frames_are_refused(tmp_path):
    encode(tmp_path / "clip.mp4", noise(), "libx264", "yuv420p", movflags="+faststart")
    data = bytearray((tmp_path / "clip.mp4").read_bytes())
    for place in range(data.index(b"mdat") + 1000, len(data), 500):
        data[place] ^= 0xFF
    (tmp_path / "clip.mp4").write_bytes(data)
    with pytest.raises(ValueError, match=r"clip\.mp4 (is damaged or cut short|cannot be read as a video)"):
        read_video(tmp_path / "clip.mp4")


def test_files_that_are_no_video(tmp_path):
    for name, content in {"text.mp4": b"hello" * 100, "empty.mp4": b"", "text.gif": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} cannot be read as an? (video|image): ") as caught:
            read_video(tmp_path / name)
        assert "\n" not in str(caught.value)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"sound\.mp4 holds no video stream"):
        read_video(tmp_path / "sound.mp4")
    with pytest.raises(FileNotFoundError, match=r"none\.mp4 does not exist"):
        read_video(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no images \(\.png"):
        read_video(tmp_path / "empty")


def test_a_name_is_never_taken_for_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("plain.mp4", smooth(2), 8)
    (tmp_path / "plain.mp4").rename(tmp_path / "concat:a.mp4")
    assert len(read_video("concat:a.mp4")) == 2


# Side by side


def test_side_by_side():
    reference, pose, result = noise(1)[0], noise(4)[..., :40, :], smooth(4)
    joined = side_by_side(reference, pose, result)
    assert joined.shape == (4, 96, 64 + 40 + 64, 3)
    assert joined.dtype == np.uint8
    for frame in range(4):
        np.testing.assert_array_equal(joined[frame, :, :64], reference)
        np.testing.assert_array_equal(joined[frame, :, 64:104], pose[frame])
        np.testing.assert_array_equal(joined[frame, :, 104:], result[frame])
    for bad in ((reference[:50], pose, result), (reference, pose[:3], result), (reference, pose, result[:, :50])):
        with pytest.raises(ValueError, match="of one height and number of frames"):
            side_by_side(*bad)
