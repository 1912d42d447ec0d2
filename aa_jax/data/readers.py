"""Random access to the frames of a clip's files: a video, or a folder of images.

A video is read from the keyframe before the wanted frame on, so that a frame costs half the distance of keyframes on
average: x264's default of 250 frames makes one frame of a fashion video cost the decoding of a hundred. Frames that are
asked for in order are decoded once. Each reader keeps one decoder of one thread; workers bring the parallelism.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import numpy as np
from av.container import InputContainer
from jaxtyping import Float, Int, UInt8

from aa_jax.atomic import StrPath
from aa_jax.image import load_image
from aa_jax.video import announced_seconds, frame_to_rgb, image_files

# One packet of these makes one frame with the packet's time, so that the packets tell where frames are undecoded.
FRAME_PER_PACKET = ("h264", "hevc", "av1", "vp9", "mjpeg", "png", "ffv1", "prores")


class Frames(Protocol):
    """The frames of a clip's files. A reader pickles, without its decoder, and belongs to one thread at a time.

    Attributes:
      path: where they are.
    """

    path: Path

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __call__(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """The frames at `indices`, in any order, repeats allowed, RGB.

        Raises:
          IndexError: there is no such frame.
          ValueError: the file is damaged.
        """
        ...


def open_frames(path: StrPath) -> "VideoFrames | ImageFrames":
    """The frames of a video, or of a folder of images."""
    return ImageFrames(path) if Path(path).is_dir() else VideoFrames(path)


class ImageFrames:
    """The images of a folder, in natural order (2 before 10); other files in it are left out."""

    def __init__(self, path: StrPath):
        self.path = Path(path)
        self._files: list[Path] | None = None

    @property
    def files(self) -> list[Path]:
        """The images, in order."""
        if self._files is None:
            if not self.path.is_dir():
                raise FileNotFoundError(f"{self.path} does not exist, expected a folder of frames")
            self._files = image_files(self.path)
        return self._files

    def __len__(self) -> int:
        return len(self.files)

    def __call__(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """See `Frames`."""
        check_indices(indices, len(self), self.path)
        return stack({index: load_image(self.files[index]) for index in set(indices)}, indices, self.path)


class VideoFrames:
    """The frames of a video, with the rotation of phone videos applied, in the order they are shown."""

    def __init__(self, path: StrPath):
        self.path = Path(path)
        self._index: VideoIndex | None = None
        self._decoder: _Decoder | None = None

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        VideoFrames.__init__(self, path)

    @property
    def index(self) -> "VideoIndex":
        """Where the frames are; finding out reads the file once, undecoded for most."""
        if self._index is None:
            self._index = read_index(self.path)
        return self._index

    def __len__(self) -> int:
        return len(self.index.times)

    def __call__(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """See `Frames`."""
        check_indices(indices, len(self), self.path)
        if self._decoder is None:
            self._decoder = _Decoder(self.path, self.index)
        images = {index: frame_to_rgb(self._decoder.frame(index)) for index in sorted(set(indices))}
        return stack(images, indices, self.path)

    def first(self) -> av.VideoFrame:
        """The first frame as it is stored, with its `rotation`."""
        return _Decoder(self.path, self.index).frame(0)


@dataclasses.dataclass(frozen=True, eq=False)
class VideoIndex:
    """Where the frames of a video are; all arrays are in the order that frames are shown in.

    Attributes:
      times: in seconds.
      stamps: the frames' own time stamps; None where they have none to be told apart by.
      keys: the frame to begin decoding at.
      seeks: what to seek to for it, a decoding time stamp.
    """

    times: Float[np.ndarray, " n"]
    stamps: Int[np.ndarray, " n"] | None
    keys: Int[np.ndarray, " n"]
    seeks: Int[np.ndarray, " n"]


class _Packet(NamedTuple):
    """What an index takes from a packet, without its data."""

    pts: Any  # a time stamp, or None
    dts: Any
    duration: int
    key: bool
    shown: bool
    corrupt: bool

    @classmethod
    def of(cls, packet: av.Packet) -> "_Packet":
        return cls(
            packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, not packet.is_discard, packet.is_corrupt
        )


def read_index(path: StrPath) -> VideoIndex:
    """Find the frames of a video.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no video, is cut short, or holds no frames.
    """
    with _reading(path), _open(path) as container:
        stream = container.streams.video[0]
        announced, tick = announced_seconds(stream), stream.time_base or Fraction(1)
        packets = [_Packet.of(packet) for packet in container.demux(stream) if packet.size]
        indexed = stream.codec_context.name in FRAME_PER_PACKET
    if any(packet.corrupt for packet in packets):
        raise ValueError(f"{path} is damaged or cut short")
    timed = [packet for packet in packets if packet.pts is not None]
    ends = [stamp for packet in timed for stamp in (packet.pts, packet.pts + packet.duration)]
    seconds = float((max(ends) - min(ends)) * tick) if ends else 0.0
    if len(timed) == len(packets) and seconds < 0.9 * announced - 0.1:
        raise ValueError(f"{path} is cut short: it announces {announced:.2f} s of video and holds {seconds:.2f} s")
    stamps = {packet.pts for packet in packets if packet.shown}
    keys = sorted((packet.pts, packet.dts) for packet in timed if packet.key and packet.dts is not None)
    countable = len(timed) == len(packets) and len(stamps) == sum(packet.shown for packet in packets)
    if not (indexed and countable and stamps and keys and keys[0][0] <= min(stamps)):
        return _index_by_decoding(path)
    order = np.array(sorted(stamps), np.int64)
    key_stamps = np.array([pts for pts, _ in keys], np.int64)
    which = np.searchsorted(key_stamps, order, side="right") - 1
    return VideoIndex(
        times=(order - order[0]) * float(tick),
        stamps=order,
        keys=np.searchsorted(order, key_stamps[which]),
        seeks=np.array([dts for _, dts in keys], np.int64)[which],
    )


def _index_by_decoding(path: StrPath) -> VideoIndex:
    """For the few formats whose packets do not tell: frames are counted from the start."""
    with _reading(path), _open(path) as container:
        stream = container.streams.video[0]
        tick, rate = stream.time_base or Fraction(1), stream.average_rate or Fraction(1)
        stamps = [frame.pts for frame in container.decode(stream)]
    if not stamps:
        raise ValueError(f"{path} holds a video stream without frames: it is damaged or cut short")
    known = np.array([-1 if stamp is None else stamp for stamp in stamps], np.int64)
    rising = None not in stamps and (np.diff(known) > 0).all()
    times = known * float(tick) if rising else np.arange(len(stamps)) / float(rate)
    zeros = np.zeros(len(stamps), np.int64)
    return VideoIndex(times=times - times[0], stamps=None, keys=zeros, seeks=zeros)


class _Decoder:
    """A position in a video: frames that follow it are decoded on, others are sought."""

    def __init__(self, path: Path, index: VideoIndex):
        self.path, self.index = path, index
        self.container: InputContainer | None = None
        self.decoded: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self.next = len(index.times)  # the frame that `decoded` gives next

    def frame(self, place: int) -> av.VideoFrame:
        with _reading(self.path):
            if not self.index.keys[place] <= self.next <= place:
                self.decoded = self._decode_from(place)
            for found, frame in self.decoded:
                self.next = found + 1
                if found == place:
                    return frame
                if found > place:
                    break
        raise ValueError(f"{self.path} is damaged: its frame {place} is missing")

    def _decode_from(self, place: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames and their places, from the keyframe before `place` on."""
        if self.index.stamps is not None:
            self.container = self.container or _open(self.path)
            stream = self.container.streams.video[0]
            self.container.seek(int(self.index.seeks[place]), stream=stream, backward=True, any_frame=False)
            decoded = self._places(self.container.decode(stream), self.index.stamps, int(self.index.keys[place]))
            head = next(decoded, None)
            if head is not None and head[0] <= place:
                yield head
                yield from decoded
                return
        # Here there is nothing to seek by, or the file's own index leads astray.
        self.container = _open(self.path)
        frames = self.container.decode(self.container.streams.video[0])
        if self.index.stamps is None:
            yield from enumerate(self._checked(frame) for frame in frames)
        else:
            yield from self._places(frames, self.index.stamps, 0)

    def _places(
        self, frames: Iterator[av.VideoFrame], stamps: Int[np.ndarray, " n"], first: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        for frame in frames:
            found = int(np.searchsorted(stamps, frame.pts)) if frame.pts is not None else len(stamps)
            if found == len(stamps) or stamps[found] != frame.pts:
                raise ValueError(f"{self.path} is damaged: a frame has the time stamp {frame.pts}, which no packet has")
            # What refers to frames before the keyframe cannot be decoded from it, and belongs to the keyframe before.
            if found >= first:
                yield found, self._checked(frame)

    def _checked(self, frame: av.VideoFrame) -> av.VideoFrame:
        if frame.is_corrupt:
            raise ValueError(f"{self.path} is damaged or cut short, near {frame.time or 0:.2f} s")
        return frame


def even_out(times: Float[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " m"], float] | None:
    """Make a variable frame rate constant.

    Args:
      times: of the frames, in seconds, rising.

    Returns:
      The frames to show, one per tick of the usual distance of frames, and the rate per second; or None where no
      distance is off by more than half of it, so that the rate is constant.

    Raises:
      ValueError: the clip would grow fourfold: its times are not a video's.
    """
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    if not usual or (np.abs(steps - usual) <= 0.5 * usual).all():
        return None
    ticks = round((times[-1] - times[0]) / usual) + 1
    if ticks > 4 * len(times):
        raise ValueError(
            f"{len(times)} frames are spread over {times[-1] - times[0]:.1f} s, usually {1000 * usual:.0f} ms from one "
            "to the next: the times are too irregular for a constant frame rate"
        )
    shown = np.searchsorted(times, times[0] + usual * (np.arange(ticks) + 0.5), side="right") - 1
    return shown, 1 / usual


def check_indices(indices: Sequence[int], length: int, path: StrPath) -> None:
    """Raise IndexError unless all indices are of a clip of so many frames."""
    outside = [index for index in indices if not 0 <= index < length]
    if outside:
        raise IndexError(f"{path} has {length} frames, so there is no frame {outside[0]}")


def stack(images: dict[int, np.ndarray], indices: Sequence[int], path: StrPath) -> UInt8[np.ndarray, "n h w 3"]:
    """The images at `indices` as one array.

    Raises:
      ValueError: they differ in size.
    """
    sizes = sorted({image.shape[:2] for image in images.values()})
    if len(sizes) > 1:
        raise ValueError(f"{path} holds frames of different sizes, (height, width) {sizes[0]} and {sizes[1]}")
    return np.stack([images[index] for index in indices]) if len(indices) else np.zeros((0, 0, 0, 3), np.uint8)


def _open(path: StrPath) -> InputContainer:
    # A name alone FFmpeg could take for an address.
    container = av.open(f"file:{Path(path).absolute()}", "r")
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path} holds no video stream")
    context = container.streams.video[0].codec_context
    context.thread_type, context.thread_count = "NONE", 1
    return container


@contextlib.contextmanager
def _reading(path: StrPath) -> Iterator[None]:
    """What FFmpeg raises, as errors that name the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist, expected a video")
    try:
        yield
    except (av.FFmpegError, OSError) as error:  # OSError: a damaged file sends FFmpeg to places outside of it
        raise ValueError(f"{path} cannot be read as a video: {error.strerror or error}") from error
