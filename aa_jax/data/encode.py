"""From a clip to the records of it: frames are read, shrunk and encoded, and what cannot be read is told."""

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from aa_jax.data.clips import Clip
from aa_jax.data.examine import Examined, examine
from aa_jax.data.folder import DrawnClip
from aa_jax.data.records import CLIPS, FRAMES, REFERENCES_SPLIT
from aa_jax.image import resize

ImageFormat = Literal["jpeg", "png"]
# Frames read at a time.
FRAME_BATCH = 16
# Encoded frames of a clip that are kept in memory until it is known to be whole; a longer clip goes to a file.
MEMORY = 256 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """How clips become records.

    Attributes:
      image_format: "jpeg", or "png", which is lossless.
      quality: of JPEG, 1 to 100.
      short_side: frames whose short side is longer are shrunk to it, in pixels; None keeps their size.
      min_frames: clips with fewer are skipped.
      clips_per_shard: clips in a file; what is lost when a run is interrupted is the files at work.

    Raises:
      ValueError: a value out of its range.
    """

    image_format: ImageFormat = "jpeg"
    quality: int = 95
    short_side: int | None = None
    min_frames: int = 2
    clips_per_shard: int = 16

    def __post_init__(self) -> None:
        if self.image_format not in get_args(ImageFormat):
            raise ValueError(f"image format {self.image_format!r} given, expected {' or '.join(get_args(ImageFormat))}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality} given, expected 1 to 100")
        for name in ("short_side", "min_frames", "clips_per_shard"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} given, expected 1 or more")


class BrokenClipError(ValueError):
    """A clip that no records can be made of."""


class Example(NamedTuple):
    """One record to be written."""

    split: str  # "", or "_references" where the split's name is to end so
    table: str
    fields: dict[str, Any]


Tell = Callable[[str, str], None]
"""Takes the name of a clip, and what there is to say about it."""


def ignore(name: str, what: str) -> None:
    """Tell nobody."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """The clips of one file."""

    clips: tuple[Clip | DrawnClip, ...]
    config: RecordConfig
    drawn: bool  # poses are drawings, in the whole data set

    def examples(self, skipped: Tell = ignore, handled: Tell = ignore) -> Iterator[Example]:
        """The records of all its clips; `skipped` is told those that are broken, `handled` what was put right."""
        places = {"": [0, 0], REFERENCES_SPLIT: [0, 0]}  # clips and frames so far
        for clip in self.clips:
            try:
                if isinstance(clip, DrawnClip) is not self.drawn:
                    raise BrokenClipError(
                        f"{clip.name} has drawn poses, others of this data set have keypoints: extract its"
                    )
                with tempfile.SpooledTemporaryFile(MEMORY) as file, tempfile.SpooledTemporaryFile(MEMORY) as other:
                    one, two = _Encoded(clip, self.config, file), None
                    if clip.reference.name != clip.name:
                        two = _Encoded(clip.reference, self.config, other)
                    place = -1 if two is None else places[REFERENCES_SPLIT][0]
                    yield from one.examples("", places[""], place)
                    if two is not None:
                        yield from two.examples(REFERENCES_SPLIT, places[REFERENCES_SPLIT], -1)
                    for note in one.examined.notes:
                        handled(clip.name, note)
            except BrokenClipError as error:
                skipped(clip.name, str(error))


class _Encoded:
    """A clip, read and encoded to its end."""

    def __init__(self, clip: Clip | DrawnClip, config: RecordConfig, file: Any):
        self.file = file
        self.lengths: list[tuple[int, ...]] = []
        self.size = (0, 0)
        with _reading(clip.name):
            self.examined = examine(clip, min_frames=config.min_frames)
        for images in _batches(self.examined):
            for frame in zip(*images, strict=True):
                image, *drawn = frame
                image = shrink(image, config.short_side)
                if self.lengths and image.shape[:2] != self.size:
                    raise BrokenClipError(f"{clip.name} holds frames of different sizes")
                self.size = image.shape[:2]
                encoded = [encode(each, config) for each in (image, *drawn)]
                self.lengths.append(tuple(len(data) for data in encoded))
                file.writelines(encoded)

    def examples(self, split: str, places: list[int], reference: int) -> Iterator[Example]:
        examined, shown = self.examined, self.examined.shown
        fields = {
            "name": examined.name,
            "reference": reference,
            "num_frames": len(shown),
            "first_frame": places[1],
            "height": self.size[0],
            "width": self.size[1],
            "fps": np.float64(examined.fps or 0),
        }
        if examined.keypoints is not None:
            fields |= {"points": examined.keypoints.points[shown], "scores": examined.keypoints.scores[shown]}
        yield Example(split, CLIPS, fields)
        self.file.seek(0)
        for index, lengths in enumerate(self.lengths):
            images = [io.BytesIO(self.file.read(length)) for length in lengths]
            named = zip(("image", "drawn"), images, strict=False)
            yield Example(split, FRAMES, {"clip": examined.name, "index": index, **dict(named)})
        places[0] += 1
        places[1] += len(shown)


def _batches(examined: Examined) -> Iterator[list[UInt8[np.ndarray, "n h w 3"]]]:
    """The frames to record, and their drawn poses where there are, some at a time."""
    for start in range(0, len(examined.shown), FRAME_BATCH):
        indices = examined.shown[start : start + FRAME_BATCH].tolist()
        with _reading(examined.name):
            images = [read(indices) for read in (examined.images, examined.drawn) if read]
        yield images


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """What is wrong with the files read here is the clip's; a disk that is full where records are written is not."""
    try:
        yield
    except Exception as error:  # decoders raise whatever a damaged file makes them run into
        expected = isinstance(error, ValueError | OSError | IndexError)
        reason = str(error) if expected else f"{name} cannot be read: {type(error).__name__}: {error}"
        raise BrokenClipError(" ".join(reason.split())) from error


def shrink(image: UInt8[np.ndarray, "h w 3"], short_side: int | None) -> UInt8[np.ndarray, "h2 w2 3"]:
    """An image whose short side is `short_side` or less, of the same aspect."""
    height, width = image.shape[:2]
    if short_side is None or min(height, width) <= short_side:
        return image
    scale = short_side / min(height, width)
    return resize(image, round(height * scale), round(width * scale), "stretch")


def encode(image: UInt8[np.ndarray, "h w 3"], config: RecordConfig) -> bytes:
    """An image file."""
    file = io.BytesIO()
    # Halving the resolution of colour once more, as JPEG does by default, would cost 9 dB on a patterned garment.
    jpeg = {"quality": config.quality, "subsampling": 0}
    options = jpeg if config.image_format == "jpeg" else {"compress_level": 3}
    Image.fromarray(image).save(file, format=config.image_format, **options)
    return file.getvalue()
