"""Records read back, against the clips that they were made of and against TFDS."""

import concurrent.futures
import dataclasses
import multiprocessing
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aa_jax.data.builders import VideoFolder
from aa_jax.data.encode import RecordConfig
from aa_jax.data.folder import DrawnClip, FolderSource
from aa_jax.data.prepare import prepare
from aa_jax.data.records import RecordSource, Table, parse_example
from aa_jax.video import write_video
from tests.datasets.videos import add_clip, keypoints, picture

LOSSLESS = RecordConfig(image_format="png", clips_per_shard=2)
NAMES = ("a", "b", "c/d", "e", "f")


def make(folder, output, config=LOSSLESS, splits=None, **options):
    splits = splits or {"train": FolderSource(folder)}
    return prepare(lambda table: VideoFolder(splits, config, config=table, data_dir=output), output, **options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(NAMES):
        add_clip(folder, name, frames=10 + seed, seed=seed)
    return folder


@pytest.fixture(scope="module")
def prepared(videos, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "data"
    make(videos, output)
    return output


def test_records_are_the_clips(videos, prepared):
    records, clips = RecordSource(prepared), FolderSource(videos)
    assert len(records) == len(clips) == 5
    for index in range(5):
        record, clip = records[index], clips[index]
        assert record.name == clip.name == NAMES[index]
        np.testing.assert_array_equal(record.keypoints.points, clip.keypoints.points)
        np.testing.assert_array_equal(record.keypoints.scores, clip.keypoints.scores)
        assert (record.keypoints.height, record.keypoints.width) == (48, 32)
        assert record.keypoints.fps == pytest.approx(12, rel=1e-6)
        assert record.reference is record
        indices = [9, 0, 9, *range(len(clip.keypoints))]
        np.testing.assert_array_equal(record.frames(indices), clip.frames(indices))


def test_jpeg_is_close(videos, tmp_path):
    make(videos, tmp_path / "data", RecordConfig())
    record, clip = RecordSource(tmp_path / "data")[0], FolderSource(videos)[0]
    difference = record.frames(range(10)).astype(float) - clip.frames(range(10))
    assert 0 < np.abs(difference).mean() < 1.5
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.3  # no tint, red is red


def test_frames_are_shrunk(videos, tmp_path):
    make(videos, tmp_path / "data", dataclasses.replace(LOSSLESS, short_side=20))
    record = RecordSource(tmp_path / "data")[0]
    assert record.frames([0]).shape == (1, 30, 20, 3)
    assert (record.keypoints.height, record.keypoints.width) == (30, 20)
    np.testing.assert_array_equal(record.keypoints.points, keypoints(10).points)
    assert record.frames([3]).mean() == pytest.approx(FolderSource(videos)[0].frames([3]).mean(), abs=0.5)


def test_tfds_reads_them(videos, prepared):
    clips = tfds.builder_from_directory(prepared / "clips" / "1.0.0").as_data_source("train")
    frames = tfds.builder_from_directory(prepared / "frames" / "1.0.0").as_data_source("train")
    assert (len(clips), len(frames)) == (5, 60)
    source = FolderSource(videos)
    for index, clip in enumerate(clips):
        assert clip["name"].decode() == NAMES[index]
        assert (clip["num_frames"], clip["fps"]) == (10 + index, pytest.approx(12))
        np.testing.assert_array_equal(clip["points"], source[index].keypoints.points)
    frame = frames[10 + 3]  # the fourth of the second clip
    assert (frame["clip"], frame["index"]) == (b"b", 3)
    np.testing.assert_array_equal(frame["image"], source[1].frames([3])[0])


def test_tfds_alone_writes_the_same(videos, prepared, tmp_path):
    """`download_and_prepare` of the builders, without `prepare`; the order of a record's fields is not fixed by it."""
    for table in ("clips", "frames"):
        builder = VideoFolder({"train": FolderSource(videos)}, LOSSLESS, config=table, data_dir=tmp_path)
        builder.download_and_prepare()
        theirs, ours = tmp_path / "video_folder" / table / "1.0.0", prepared / table / "1.0.0"
        assert sorted(file.name for file in theirs.iterdir()) == sorted(file.name for file in ours.iterdir())
        for file in theirs.glob("*.json"):
            assert file.read_bytes() == (ours / file.name).read_bytes(), file.name
        theirs, ours = Table(tmp_path / "video_folder", table, "train"), Table(prepared, table, "train")
        for index in range(len(ours)):
            shard, place = ours.locate(index)
            assert theirs.read(shard, [place]) == ours.read(shard, [place])


def test_drawn_poses(tmp_path):
    (tmp_path / "v").mkdir()
    write_video(tmp_path / "v" / "a.mp4", picture(6), 12)
    write_video(tmp_path / "v" / "a_kps.mp4", picture(6, 24, 16, seed=3), 12)
    report = make(tmp_path / "v", tmp_path / "data")
    assert report.frames == {"train": 6}
    record, clip = RecordSource(tmp_path / "data")[0], FolderSource(tmp_path / "v")[0]
    assert isinstance(record, DrawnClip)
    assert (record.name, record.num_frames) == ("a", 6)
    np.testing.assert_array_equal(record.frames([5, 1]), clip.frames([5, 1]))
    np.testing.assert_array_equal(record.drawn([5, 1]), clip.drawn([5, 1]))


def test_references(tmp_path):
    for seed, name in enumerate(("a", "b", "references/a", "c", "references/c")):
        add_clip(tmp_path / "v", name, frames=5 + seed, seed=seed)
    make(tmp_path / "v", tmp_path / "data")
    source, clips = RecordSource(tmp_path / "data"), FolderSource(tmp_path / "v")
    assert [source[i].reference.name for i in range(3)] == ["references/a", "b", "references/c"]
    for index in (0, 2):
        record, clip = source[index].reference, clips[index].reference
        np.testing.assert_array_equal(record.keypoints.points, clip.keypoints.points)
        np.testing.assert_array_equal(record.frames([4, 1]), clip.frames([4, 1]))
        assert record.reference is record


def test_several_splits(videos, tmp_path):
    clips = FolderSource(videos)
    splits = {"train": _Some(clips, (0, 1, 2)), "test": _Some(clips, (3, 4))}
    report = make(None, tmp_path / "data", splits=splits)
    assert (report.clips, report.frames) == ({"train": 3, "test": 2}, {"train": 33, "test": 27})
    assert [RecordSource(tmp_path / "data", split="test")[i].name for i in range(2)] == ["e", "f"]
    with pytest.raises(ValueError, match="data has no split 'val', expected one of train, test"):
        RecordSource(tmp_path / "data", split="val")


@dataclasses.dataclass(frozen=True)
class _Some:
    source: FolderSource
    indices: tuple[int, ...]

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        return self.source[self.indices[index]]


def test_outside(prepared):
    source = RecordSource(prepared)
    with pytest.raises(IndexError, match="there are 5 records, so there is none at 5"):
        source[5]
    with pytest.raises(IndexError, match="a has 10 frames, so there is no frame 10"):
        source[0].frames([10])


def _sum(source: RecordSource) -> int:
    return sum(int(source[index].frames(range(9)).sum()) for index in range(len(source)))


def test_processes_and_threads_read_one_source(prepared):
    source = RecordSource(prepared)
    expected = _sum(source)  # it has files open now
    assert len(pickle.dumps(source)) < 5000
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_sum, source).result() == expected
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(_sum, [source] * 24)) == [expected] * 24


def test_few_files_are_open(prepared, monkeypatch):
    monkeypatch.setattr("aa_jax.data.records.OPEN_SHARDS", 1)
    source = RecordSource(prepared)
    assert _sum(source) == _sum(RecordSource(prepared))
    assert len(source.frames._readers) == len(source.clips._readers) == 1


def test_what_is_no_data_set(tmp_path, videos):
    with pytest.raises(FileNotFoundError, match="is no prepared data set, expected clips/1.0.0/dataset_info.json"):
        RecordSource(videos)


@pytest.mark.parametrize("table", ["clips", "frames"])
def test_damaged_files(videos, tmp_path, table):
    make(videos, tmp_path / "data")
    shard = sorted((tmp_path / "data" / table / "1.0.0").glob("*array_record*"))[1]
    whole = shard.read_bytes()
    damaged = {"cut": whole[: len(whole) // 2], "zeros": bytes(len(whole)), "empty": b"", "noise": b"\x5a" * 200_000}
    for content in damaged.values():
        shard.write_bytes(content)
        source = RecordSource(tmp_path / "data")
        source[0].frames([0])
        with pytest.raises(ValueError, match="damaged"):
            source[2].frames([0])
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="is missing: prepare the data set again"):
        RecordSource(tmp_path / "data")[2].frames([0])
    (tmp_path / "data" / table / "1.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged: its dataset_info.json"):
        RecordSource(tmp_path / "data")


@pytest.mark.parametrize("data", [b"\x01", b"\x0a\xff", b"\x0a\x02\x08\x01", b"text that is no protocol buffer"])
def test_what_is_no_example(data):
    with pytest.raises(ValueError, match="record"):
        parse_example(data)


def test_parses_every_kind_of_number():
    features = tfds.features.FeaturesDict({"small": np.int64, "negative": np.int64, "text": tfds.features.Text()})
    values = {"small": 0, "negative": -(2**40), "text": "Ä"}
    assert parse_example(features.serialize_example(values)) == values | {"text": "Ä".encode()}
