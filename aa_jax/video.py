"""Clips: reading and writing videos, animated images and folders of images.

Frames are uint8 RGB (t, h, w, 3). What is written appears under its final name whole, or not at all.
"""

import contextlib
import dataclasses
import io
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from aa_jax.atomic import StrPath, aside, cannot_write, temporary
from aa_jax.image import load_image, to_rgb

# The rate of what carries none: a folder of images, or a still image.
DEFAULT_FPS = 8.0
IMAGE_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".gif", ".webp")
# Milliseconds in which an animated image counts time, and the most frames per second that it holds without stutter.
ANIMATION_LIMITS = {".gif": (10, 33), ".webp": (1, 90)}
# libswscale's default conversion between RGB and YUV darkens by about one level of 255 and costs 10 dB.
ACCURATE = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)

# libswscale puts a chroma sample amid its four pixels; unless the file says so, colours are read half a pixel off.
# With x264's macroblock tree, the same frames of some widths (64, 72, 1164) give other files each time.
H264_OPTIONS = {"crf": "17", "chroma_sample_location": "center", "x264-params": "mbtree=0"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Video:
    """A clip.

    Attributes:
      frames: (t, h, w, 3) RGB, uint8, at least one frame.
      fps: frames per second.

    Raises:
      ValueError: frames of another shape or dtype, or a rate that is not positive.
    """

    frames: UInt8[np.ndarray, "t h w 3"]
    fps: float

    def __post_init__(self) -> None:
        shape, dtype = self.frames.shape, self.frames.dtype
        if dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or self.frames.size == 0:
            raise ValueError(
                f"frames of shape {shape} and dtype {dtype} given, expected uint8 (t, h, w, 3) with at least one frame"
            )
        if not 0 < self.fps < float("inf"):
            raise ValueError(f"fps {self.fps!r} given, expected a positive number")

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)


def read_video(path: StrPath, *, max_frames: int | None = None) -> Video:
    """Read a clip.

    Args:
      path: a video of any format FFmpeg decodes; an animated GIF, WebP or PNG; a still image (one frame); or a folder
        of images, which are ordered naturally (2 before 10), other files in it being left out.
      max_frames: read only so many frames from the start.

    Returns:
      Every frame, with the rotation of phone videos applied and transparency composited on white. The rate is a video's
      average rate. Images of an animation that stay longer than the others are repeated, so that the clip has a
      constant rate. A folder or a still image has `DEFAULT_FPS`.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: the file is no video, is damaged or cut short, or a folder's images are missing or differ in size.
    """
    path = Path(path)
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"max_frames {max_frames} given, expected a positive number or None")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist, expected a video, an animated image or a folder of images")
    if path.is_dir():
        frames, fps = _read_folder(path, max_frames)
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        frames, fps = _read_animation(path, max_frames)
    else:
        frames, fps = _read_stream(path, max_frames)
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        raise ValueError(
            f"{path} holds frames of different sizes, (height, width) {sizes[0]} and {sizes[1]}: expected one size"
        )
    return Video(frames=np.stack(frames), fps=fps)


def _read_folder(path: Path, max_frames: int | None) -> tuple[list[np.ndarray], float]:
    return [load_image(file) for file in image_files(path)[:max_frames]], DEFAULT_FPS


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, in natural order.

    Raises:
      ValueError: there are none.
    """
    files = [file for file in folder.iterdir() if is_image(file)]
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}), expected a folder of frames")
    return sorted(files, key=natural_order)


def is_image(file: Path) -> bool:
    """Whether a file's name is an image's, and not hidden."""
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def natural_order(path: Path) -> list[str | int]:
    """Sorts names as people do, 2 before 10."""
    # Splitting by digits puts text at even and numbers at odd places, so that only like is compared with like.
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", path.name))]


def _read_animation(path: Path, max_frames: int | None) -> tuple[list[np.ndarray], float]:
    images, delays = [], []
    with open(path, "rb") as file:
        try:
            with Image.open(file) as animation:
                # Other formats hold pages or previews, of which only the first is the image.
                pages = None if animation.format in ("GIF", "WEBP", "PNG") else 1
                for image in itertools.islice(ImageSequence.Iterator(animation), pages or max_frames):
                    images.append(to_rgb(image))
                    delays.append(image.info.get("duration"))
        except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them run into
            reason = "its format is not known" if isinstance(error, Image.UnidentifiedImageError) else str(error)
            raise ValueError(f"{path} cannot be read as an image: {reason}") from error
    if len(images) == 1 and not delays[0]:
        return images, DEFAULT_FPS
    # Browsers show an image that states no delay for 100 ms.
    milliseconds = np.array([delay or 100 for delay in delays], np.float64)
    usual = milliseconds[milliseconds <= 1.5 * milliseconds.min()].mean()
    repeats = np.maximum(1, np.round(milliseconds / usual).astype(int))
    frames = [image for image, count in zip(images, repeats, strict=True) for _ in range(count)]
    return frames[:max_frames], 1000 * float(repeats.sum() / milliseconds.sum())


class TimedFrame(NamedTuple):
    """A frame and when it is shown, in seconds."""

    rgb: UInt8[np.ndarray, "h w 3"]
    begin: float
    end: float


def _read_stream(path: Path, max_frames: int | None) -> tuple[list[np.ndarray], float]:
    _, fps = video_header(path)
    frames = list(itertools.islice(stream_video(path), max_frames))
    seconds = max(frame.end for frame in frames) - min(frame.begin for frame in frames)
    return [frame.rgb for frame in frames], fps or (len(frames) / seconds if seconds else DEFAULT_FPS)


def video_header(path: Path) -> tuple[int | None, float | None]:
    """Number of frames and frames per second as a video's header states them, None where it does not.

    Raises:
      ValueError: the file is no video.
    """
    with _open_stream(path) as (_, stream):
        return stream.frames or None, float(stream.average_rate) if stream.average_rate else None


def stream_video(path: Path) -> Iterator[TimedFrame]:
    """A video's frames, one at a time.

    Raises:
      ValueError: it cannot be read, or is damaged, which may come after many frames, or cut short, which comes last.
    """
    begin, end = math.inf, -math.inf
    with _open_stream(path) as (container, stream):
        announced = announced_seconds(stream)
        for frame in _decode(path, container, stream):
            time = _seconds(frame.pts or 0, frame.time_base)
            timed = TimedFrame(frame_to_rgb(frame), time, time + _seconds(frame.duration, frame.time_base))
            begin, end = min(begin, timed.begin), max(end, timed.end)
            yield timed
    if end < begin:
        raise ValueError(f"{path} holds a video stream without frames: it is damaged or cut short")
    if end - begin < 0.9 * announced - 0.1:
        raise ValueError(f"{path} is cut short: it announces {announced:.2f} s of video and holds {end - begin:.2f} s")


@contextlib.contextmanager
def _open_stream(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    # An open file, not a name, which FFmpeg could take for an address.
    with open(path, "rb") as file:
        try:
            with av.open(file, "r") as container:
                if not container.streams.video:
                    raise ValueError(f"{path} holds no video stream")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                yield container, stream
        except (av.FFmpegError, OSError) as error:  # OSError: a damaged file sends FFmpeg to places outside of it
            raise ValueError(f"{path} cannot be read as a video: {error.strerror}") from error


def _decode(path: Path, container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        frames = [] if packet.is_corrupt else packet.decode()
        if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
            raise ValueError(
                f"{path} is damaged or cut short, near {_seconds(packet.pts or 0, packet.time_base):.2f} s"
            )
        yield from frames


def _seconds(ticks: int, tick: Fraction | None) -> float:
    return float(ticks * tick) if tick else 0.0


def announced_seconds(stream: av.VideoStream) -> float:
    """The length of the stream that the file's header states, also where the file ends early; 0 if it states none."""
    if stream.duration:
        return _seconds(stream.duration, stream.time_base)
    clock = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))  # Matroska and WebM
    return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else 0.0


def frame_to_rgb(frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    """A decoded frame as RGB, turned upright, transparency on white."""
    if any(component.is_alpha for component in frame.format.components):
        rgb = to_rgb(Image.fromarray(frame.to_ndarray(format="rgba", interpolation=ACCURATE)))
    else:
        rgb = frame.to_ndarray(format="rgb24", interpolation=ACCURATE)
    return np.rot90(rgb, round(frame.rotation / 90))  # degrees counterclockwise, in both


def check_writable(path: StrPath, fps: float | None = None) -> None:
    """Fail now rather than after a long computation: raise what `write_video` would for this path and rate.

    Raises:
      ValueError: the suffix is not supported, its format cannot hold that rate, or the path is a folder with files in
        it, or a file where a folder is to be, or the reverse.
      OSError: the folder that is to hold it does not exist (FileNotFoundError) or cannot be written to
        (PermissionError, ...).
    """
    target = Path(path)
    if target.name in ("", ".."):
        raise ValueError(f"{path} names no file or folder to write, expected a path such as video.mp4")
    if _is_folder(path):
        if target.is_dir() and any(target.iterdir()):
            raise ValueError(f"{path} is a folder with files in it: give an empty or a new one")
        if target.exists() and not target.is_dir():
            raise ValueError(
                f"{path} is a file, expected a folder for the frames, or a name ending in {', '.join(VIDEO_SUFFIXES)}"
            )
    elif target.suffix.lower() not in VIDEO_SUFFIXES:
        raise ValueError(
            f"{path} has the suffix {target.suffix}, expected one of {', '.join(VIDEO_SUFFIXES)}, "
            "or a folder for PNGs: a name without a suffix, or ending in /"
        )
    elif target.is_dir():
        raise ValueError(f"{path} is a folder: to write PNGs into it, end it in /")
    _, fastest = ANIMATION_LIMITS.get(target.suffix.lower(), (None, None))
    if fps is not None and fastest is not None and fps > fastest:
        raise ValueError(f"{path} cannot hold {fps:g} frames per second, expected at most {fastest}, or an .mp4")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{target.parent} is not an existing folder, so {path} cannot be written: create it first"
        )
    probe = temporary(target)
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        raise cannot_write(path, error) from error
    probe.unlink()


def write_video(
    path: StrPath, frames: UInt8[np.ndarray, "t h w 3"] | Iterable[UInt8[np.ndarray, "h w 3"]], fps: float
) -> None:
    """Write a clip, in the form that the path's suffix names; an existing file is replaced.

    `.mp4`: H.264, yuv420p, BT.709, constant quality (CRF 17); height and width must be even. `.gif`, `.webp`: looped
    animations, of 256 colours and at quality 90; delays are rounded so that the average rate is `fps`, and a run of
    equal frames is stored once. No suffix, or ending in `/`: a new or empty folder of lossless PNGs, `00000.png` and
    on, which hold no rate.

    Args:
      path: where to; the folder that holds it must exist.
      frames: RGB; one after another they need not be in memory all at once (those of animations are).
      fps: frames per second.

    Raises:
      ValueError: see `check_writable` and `Video`; frames of several sizes; or an odd size for MP4, or a rate that a
        GIF or WebP cannot hold.
      OSError: it could not be written. Nothing is left behind, and an existing file is as it was.
    """
    frames = _alike(frames, fps)
    check_writable(path, fps)
    if _is_folder(path):
        with aside(path) as partial:
            partial.mkdir()
            for index, frame in enumerate(frames):
                (partial / f"{index:05d}.png").write_bytes(_encode_png(frame))
        return
    suffix = Path(path).suffix.lower()
    data = _encode_mp4(frames, fps) if suffix == ".mp4" else _encode_animation(frames, fps, suffix)
    with aside(path) as partial:
        partial.write_bytes(data)


def _alike(frames: Iterable[np.ndarray], fps: float) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The frames; the first is taken at once, so that what is wrong with it is said before anything is written."""
    rest = iter(frames)
    try:
        first = np.asarray(next(rest))
    except StopIteration:
        raise ValueError("no frames given, expected uint8 (t, h, w, 3) with at least one frame") from None
    Video(frames=first[None], fps=fps)

    def checked() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        yield first
        for index, frame in enumerate(rest, start=1):
            if frame.shape != first.shape or frame.dtype != first.dtype:
                raise ValueError(
                    f"frame {index} is {frame.dtype} {frame.shape}, expected {first.dtype} {first.shape} as the first"
                )
            yield frame

    return checked()


def _is_folder(path: StrPath) -> bool:
    return os.fspath(path).endswith(("/", os.sep)) or not Path(path).suffix


def _encode_mp4(frames: Iterator[UInt8[np.ndarray, "h w 3"]], fps: float) -> bytes:
    first = next(frames)
    height, width, _ = first.shape
    if height % 2 or width % 2:
        raise ValueError(
            f"frames of {height}x{width} (height x width) cannot be written as MP4, expected an even height and width"
        )
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream(
                "libx264", rate=Fraction(fps).limit_denominator(100_000), options=H264_OPTIONS
            )
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            context = stream.codec_context
            context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
            context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
            for frame in itertools.chain([first], frames):
                container.mux(stream.encode(_rgb_to_yuv(frame)))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise ValueError(
            f"{height}x{width} frames (height x width) at {fps:g} per second cannot be encoded: {error.strerror}"
        ) from error
    return buffer.getvalue()


def _rgb_to_yuv(frame: UInt8[np.ndarray, "h w 3"]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, interpolation=ACCURATE
    )


def _encode_animation(frames: Iterator[UInt8[np.ndarray, "h w 3"]], fps: float, suffix: str) -> bytes:
    images = [Image.fromarray(frame) for frame in frames]
    tick, _ = ANIMATION_LIMITS[suffix]
    # Rounding the times, not the delays, keeps the average rate.
    times = np.round(np.arange(len(images) + 1) * 1000 / fps / tick).astype(int) * tick
    if suffix == ".gif":  # Pillow's default, median cut, takes thirty times as long for half a decibel
        images = [image.quantize(256, Image.Quantize.FASTOCTREE) for image in images]
    first, *others = images
    buffer = io.BytesIO()
    delays = np.diff(times).tolist()
    first.save(buffer, format=suffix[1:], save_all=True, append_images=others, duration=delays, loop=0, quality=90)
    return buffer.getvalue()


def _encode_png(frame: UInt8[np.ndarray, "h w 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="png")
    return buffer.getvalue()


def side_by_side(
    reference: UInt8[np.ndarray, "h w1 3"], pose: UInt8[np.ndarray, "t h w2 3"], result: UInt8[np.ndarray, "t h w3 3"]
) -> UInt8[np.ndarray, "t h w 3"]:
    """The reference, the pose and the result beside each other in every frame; w = w1 + w2 + w3.

    Raises:
      ValueError: their heights, or the numbers of frames of pose and result, differ.
    """
    if not reference.shape[0] == pose.shape[1] == result.shape[1] or len(pose) != len(result):
        raise ValueError(
            f"reference {reference.shape}, pose {pose.shape} and result {result.shape} given, "
            "expected (h, w1, 3), (t, h, w2, 3) and (t, h, w3, 3) of one height and number of frames"
        )
    return np.concatenate([np.broadcast_to(reference, (len(pose), *reference.shape)), pose, result], axis=2)
