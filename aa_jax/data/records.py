"""Clips from the records that `python -m aa_jax.data prepare` writes: two tables of array_record files, as TFDS's.

    DIR/clips/1.0.0/    one record a clip: its name, size, rate and keypoints, and where its frames are
    DIR/frames/1.0.0/   one record a frame: the encoded image, so that single frames are read and decoded alone

One frame a record, uncompressed: reading two of 350 frames of 960x720 at random takes 0.24 ms without decoding them;
with 16 frames a record it takes 4.4 ms, with the clip in one 258 ms (two cores of a server, files in memory).

The shard (file) of a clip's frames has the number of the clip's own. Where reference images come from other clips,
those are the records of a split `SPLIT_references`.
`tfds.builder_from_directory("DIR/frames/1.0.0").as_data_source("train")` reads the same files; here neither TFDS nor
TensorFlow is imported.
"""  # fmt: skip

import bisect
import functools
import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from aa_jax.atomic import StrPath
from aa_jax.data.folder import DrawnClip
from aa_jax.data.readers import check_indices, stack
from aa_jax.pose.keypoints import NUM_KEYPOINTS, Keypoints

VERSION = "1.0.0"
CLIPS, FRAMES = "clips", "frames"
REFERENCES_SPLIT = "_references"
# Files open at once, of each table.
OPEN_SHARDS = 64


class RecordSource:
    """The clips of a prepared data set: see `aa_jax.data.clips.ClipSource`. Threads may share a source.

    Args:
      path: what `prepare` wrote.
      split: the name of a split.

    Raises:
      FileNotFoundError: there is no data set at `path`.
      ValueError: it has no such split, or is damaged.
    """

    def __init__(self, path: StrPath, *, split: str = "train"):
        self.path, self.split = Path(path), split
        self.clips, self.frames = Table(self.path, CLIPS, split), Table(self.path, FRAMES, split)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> "RecordClip | DrawnClip":
        shard, place = self.clips.locate(index)
        if "drawn" not in self.frames.features:
            return RecordClip(self, shard, place)
        record = self.clips.read(shard, [place])[0]
        images, poses = (RecordFrames(self.frames, shard, record, key) for key in ("image", "drawn"))
        return DrawnClip(text(record, "name"), images, poses)

    @functools.cached_property
    def references(self) -> "RecordSource":
        """The clips that reference images are drawn from, where they are others."""
        return RecordSource(self.path, split=self.split + REFERENCES_SPLIT)


class RecordClip:
    """A clip of a prepared data set: see `aa_jax.data.clips.Clip`."""

    def __init__(self, source: RecordSource, shard: int, place: int):
        self.source, self.shard, self.place = source, shard, place

    @functools.cached_property
    def record(self) -> "Record":
        """The clip's own record."""
        return self.source.clips.read(self.shard, [self.place])[0]

    @property
    def name(self) -> str:
        """Unique in the split."""
        return text(self.record, "name")

    @functools.cached_property
    def keypoints(self) -> Keypoints:
        """Of every frame."""
        fps = float(array(self.record, "fps", np.float64)[0])
        return Keypoints(
            points=array(self.record, "points", np.float32).reshape(-1, NUM_KEYPOINTS, 2),
            scores=array(self.record, "scores", np.float32).reshape(-1, NUM_KEYPOINTS),
            height=integer(self.record, "height"),
            width=integer(self.record, "width"),
            fps=fps or None,
        )

    @functools.cached_property
    def reference(self) -> "RecordClip":
        """The clip that reference images are drawn from; mostly this one."""
        place = integer(self.record, "reference")
        return self if place < 0 else RecordClip(self.source.references, self.shard, place)

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """The frames at `indices`; see `aa_jax.data.clips.Clip.frames`."""
        return RecordFrames(self.source.frames, self.shard, self.record, "image")(indices)


class RecordFrames:
    """The frames of a clip, or its drawn poses: see `aa_jax.data.readers.Frames`."""

    def __init__(self, table: "Table", shard: int, record: "Record", key: str):
        self.table, self.shard, self.key, self.path = table, shard, key, table.files[shard]
        self.name, self.length = text(record, "name"), integer(record, "num_frames")
        self.first = integer(record, "first_frame")

    def __len__(self) -> int:
        return self.length

    def __call__(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """See `aa_jax.data.readers.Frames`."""
        check_indices(indices, len(self), self.name)
        different = sorted(set(indices))
        records = self.table.read(self.shard, [self.first + int(index) for index in different])
        images = {index: self._decode(record) for index, record in zip(different, records, strict=True)}
        return stack(images, indices, self.name)

    def _decode(self, record: "Record") -> UInt8[np.ndarray, "h w 3"]:
        encoded = array(record, self.key, np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if len(encoded) else None
        if image is None:
            raise ValueError(f"{self.path} is damaged: a frame of {self.name} cannot be decoded")
        return np.asarray(image, np.uint8)


class Table:
    """The records of one table and split."""

    def __init__(self, path: Path, table: str, split: str):
        folder = path / table / VERSION
        if not (folder / "dataset_info.json").is_file():
            raise FileNotFoundError(
                f"{path} is no prepared data set, expected {table}/{VERSION}/dataset_info.json in it: "
                "`python -m aa_jax.data prepare` writes one"
            )
        try:
            info = json.loads((folder / "dataset_info.json").read_text())
            self.features = frozenset(json.loads((folder / "features.json").read_text())["featuresDict"]["features"])
            lengths = {one["name"]: [int(length) for length in one["shardLengths"]] for one in info["splits"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder} is damaged: its dataset_info.json or features.json cannot be read") from error
        if split not in lengths:
            names = ", ".join(name for name in lengths if not name.endswith(REFERENCES_SPLIT))
            raise ValueError(f"{path} has no split {split!r}, expected one of {names}")
        shards = len(lengths[split])
        self.files = [folder / shard_name(info["name"], split, shard, shards) for shard in range(shards)]
        self.ends = list(itertools.accumulate(lengths[split]))
        self._open()

    def _open(self) -> None:
        self._readers: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_readers", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def locate(self, index: int) -> tuple[int, int]:
        """The shard that a record is in, and its place there."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} records, so there is none at {index}")
        shard = bisect.bisect_right(self.ends, index)
        return shard, index - (self.ends[shard - 1] if shard else 0)

    def read(self, shard: int, places: Sequence[int]) -> list["Record"]:
        """Some records of a shard.

        Raises:
          FileNotFoundError: the shard is missing.
          ValueError: it is damaged.
        """
        try:
            return [parse_example(record) for record in self._reader(shard).read(list(places))]
        except (RuntimeError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.files[shard]} is damaged or not of this data set: {reason}") from error

    def _reader(self, shard: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        with self._lock:
            if shard not in self._readers:
                if not self.files[shard].is_file():
                    raise FileNotFoundError(f"{self.files[shard]} is missing: prepare the data set again")
                # The options of array_record's own data source, for random access.
                options = {"options": "readahead_buffer_size:0", "file_reader_buffer_size": 32768}
                self._readers[shard] = ArrayRecordReader(str(self.files[shard]), **options)
                if len(self._readers) > OPEN_SHARDS:
                    self._readers.popitem(last=False)  # closed when no thread reads it any more
            self._readers.move_to_end(shard)
            return self._readers[shard]


def shard_name(data_set: str, split: str, shard: int, shards: int) -> str:
    """The file of a shard, as TFDS names it."""
    return f"{data_set}-{split}.array_record-{shard:05d}-of-{shards:05d}"


Record = dict[str, bytes | int]
"""The fields of a record: integers, or bytes that hold text, an encoded image or the numbers of an array."""


def text(record: Record, key: str) -> str:
    """A field of text."""
    value = record.get(key)
    if not isinstance(value, bytes):
        raise ValueError(f"a record lacks {key}: it was not written by `prepare`")
    return value.decode()


def integer(record: Record, key: str) -> int:
    """An integer field."""
    value = record.get(key)
    if not isinstance(value, int):
        raise ValueError(f"a record lacks {key}: it was not written by `prepare`")
    return value


def array(record: Record, key: str, dtype: type[np.generic]) -> np.ndarray:
    """The numbers of a field, flat."""
    value = record.get(key, b"")
    return np.frombuffer(value if isinstance(value, bytes) else b"", dtype)


def parse_example(data: bytes) -> Record:
    """A serialised `tf.train.Example` (tensorflow/core/example/example.proto) whose fields hold one value each.

    Raises:
      ValueError: the data is none.
    """
    fields: Record = {}
    for _, features in _messages(memoryview(data)):
        for _, entry in _messages(features):
            (_, key), (_, feature) = _messages(entry)
            for kind, values in _messages(feature):
                if kind == 1:
                    fields[bytes(key).decode()] = next((bytes(value) for _, value in _messages(values)), b"")
                elif kind == 3:
                    (_, packed), *_ = _messages(values)
                    number, _ = _varint(packed, 0)
                    fields[bytes(key).decode()] = number - (1 << 64) if number >> 63 else number
    if not fields:
        raise ValueError("a record is empty")
    return fields


def _messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a protocol buffer: (number, content)."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        length, place = _varint(data, place)
        if tag & 7 != 2 or place + length > len(data):
            raise ValueError("a record is no tf.train.Example")
        yield tag >> 3, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while place < len(data):
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
    raise ValueError("a record is cut short")
