"""TFDS builders of the two tables that `aa_jax.data.records` reads, without TensorFlow.

A builder writes the table that its config names:

    VideoFolder(splits, config="frames", data_dir="prepared").download_and_prepare()

`aa_jax.data.prepare` writes both tables at once, in parallel, and goes on where it was interrupted; the records are the
same.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from aa_jax.atomic import StrPath
from aa_jax.data.clips import Clip, ClipSource
from aa_jax.data.encode import RecordConfig, Shard
from aa_jax.data.folder import DrawnClip
from aa_jax.data.records import CLIPS, FRAMES, REFERENCES_SPLIT, VERSION
from aa_jax.pose.keypoints import NUM_KEYPOINTS

# Records are read one by one, and images do not compress.
WRITER_OPTIONS = "group_size:1,uncompressed"


def features(table: str, *, drawn: bool) -> tfds.features.FeaturesDict:
    """What the records of a table hold; `drawn`: poses are drawings, not keypoints."""

    def numbers(dtype: type[np.generic], *shape: int | None) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)

    if table == FRAMES:
        images = {name: tfds.features.Image(shape=(None, None, 3)) for name in ("image", "drawn")[: 1 + drawn]}
        return tfds.features.FeaturesDict({"clip": tfds.features.Text(), "index": np.int64, **images})
    integers = dict.fromkeys(("reference", "num_frames", "first_frame", "height", "width"), np.int64)
    fields = {"name": tfds.features.Text(), "fps": numbers(np.float64), **integers}
    if not drawn:
        fields["points"] = numbers(np.float32, None, NUM_KEYPOINTS, 2)
        fields["scores"] = numbers(np.float32, None, NUM_KEYPOINTS)
    return tfds.features.FeaturesDict(fields)


def clips(source: ClipSource) -> Iterator[Clip | DrawnClip]:
    """The clips of a source, one after the other."""
    return cast(Iterator[Clip | DrawnClip], (source[index] for index in range(len(source))))


def serialize(kind: tfds.features.FeaturesDict, fields: Mapping[str, Any]) -> bytes:
    """A record, always of the same bytes: protocol buffers put the fields in another order in every process."""
    example = tfds.core.ExampleSerializer(kind.get_serialized_info()).get_tf_example(kind.encode_example(fields))
    return bytes(example.SerializeToString(deterministic=True))


class RecordFile:
    """An array_record file to write; errors are those of other files."""

    def __init__(self, path: StrPath):
        self._path = path
        self._writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)

    def write(self, record: bytes) -> None:
        """Append a record.

        Raises:
          OSError: it cannot be written.
        """
        with self._writing():
            self._writer.write(record)

    def close(self) -> None:
        """Finish the file; see `write`."""
        with self._writing():
            self._writer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise OSError(f"cannot write {self._path}: {str(error).partition(';')[0]}") from error


class RecordsWriter(tfds.core.ExampleWriter):
    """Writes array_record files as `aa_jax.data.records` wants them."""

    def __init__(self) -> None:
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)

    def write(self, path: StrPath, examples: Any) -> None:
        """Write serialised examples, given with keys that are not used, to one file."""
        file = RecordFile(path)
        for _, example in examples:
            file.write(example)
        file.close()


class ClipBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Any data set of clips.

    Args:
      splits: the clips of every split.
      records: how clips become records.
      config: the table to write, "clips" or "frames".
      options: of `tfds.core.DatasetBuilder`, `data_dir` among them.
    """

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=CLIPS, description="One record a clip: its keypoints, and where its frames are."),
        tfds.core.BuilderConfig(name=FRAMES, description="One record a frame: its image."),
    ]
    DESCRIPTION = ""
    CITATION: str | None = None
    HOMEPAGE: str | None = None

    def __init__(
        self,
        splits: Mapping[str, ClipSource],
        records: RecordConfig = RecordConfig(),  # noqa: B008 - frozen
        *,
        config: str = FRAMES,
        **options: Any,
    ):
        self.splits, self.records = dict(splits), records
        self.drawn = all(isinstance(clip, DrawnClip) for source in splits.values() for clip in clips(source))
        super().__init__(config=config, file_format=tfds.core.FileFormat.ARRAY_RECORD, **options)

    @property
    def table(self) -> str:
        """The table that this builder writes."""
        return str(self.builder_config.name)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            citation=self.CITATION,
            homepage=self.HOMEPAGE,
            features=features(self.table, drawn=self.drawn),
            disable_shuffling=True,
        )

    def shards(self, split: str) -> list[Shard]:
        """What goes into each file of a split."""
        every, count = tuple(clips(self.splits[split])), self.records.clips_per_shard
        starts = range(0, len(every), count)
        return [Shard(every[start : start + count], self.records, self.drawn) for start in starts]

    def endings(self) -> dict[str, tuple[str, ...]]:
        """The endings of the names of the splits that each split is written as: reference clips have one of their
        own."""
        return {
            split: ("", REFERENCES_SPLIT) if any(clip.reference.name != clip.name for clip in clips(source)) else ("",)
            for split, source in self.splits.items()
        }

    def _shard_iterators_per_split(
        self, dl_manager: Any
    ) -> dict[str, Sequence[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]]:
        return {
            split + ending: [functools.partial(self._records, shard, ending) for shard in self.shards(split)]
            for split, endings in self.endings().items()
            for ending in endings
        }

    def _records(self, shard: Shard, ending: str) -> Iterator[tuple[int, dict[str, Any]]]:
        kept = (example for example in shard.examples() if (example.table, example.split) == (self.table, ending))
        return enumerate(example.fields for example in kept)

    def _example_writer(self) -> RecordsWriter:
        return RecordsWriter()

    def write_info(self, folder: Path, lengths: Mapping[str, Sequence[int]]) -> None:
        """Write the files that say what lies in a folder of shards, as TFDS does, which then reads them.

        Args:
          folder: with the shards.
          lengths: of every split, the number of records in each shard.
        """
        splits = []
        for split, counts in lengths.items():
            template = tfds.core.ShardedFileTemplate(
                data_dir=folder, dataset_name=self.name, split=split, filetype_suffix="array_record"
            )
            files = [template.sharded_filepath(shard_index=i, num_shards=len(counts)) for i in range(len(counts))]
            size = sum(file.stat().length for file in files)
            splits.append(tfds.core.SplitInfo(split, list(counts), size, template))
        self.info.set_splits(tfds.core.SplitDict(splits))
        self.info.write_to_directory(folder)


class VideoFolder(ClipBuilder):
    """A folder of videos with poses: see `aa_jax.data.folder`."""

    DESCRIPTION = "Videos of people with the poses of every frame, from a folder."


class SyntheticCharacters(ClipBuilder):
    """Rendered characters: see `aa_jax.data.synthetic`."""

    DESCRIPTION = "Rendered clips of made-up characters with exact poses."
