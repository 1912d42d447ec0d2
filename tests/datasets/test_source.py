"""Sources by configuration."""

import json

import pytest

from aa_jax.config import build
from aa_jax.data.__main__ import main
from aa_jax.data.folder import FolderSource
from aa_jax.data.records import RecordSource
from aa_jax.data.source import SourceConfig, open_source
from aa_jax.data.synthetic import SyntheticSource
from tests.datasets.videos import add_clip


def test_files(tmp_path):
    for name in ("train/a", "val/b"):
        add_clip(tmp_path / "videos", name, frames=3)
    options = ["--num-workers", "1", "--quiet", "--output", str(tmp_path / "records")]
    assert main(["prepare", "folder", str(tmp_path / "videos"), *options]) == 0
    folder = open_source(SourceConfig(kind="folder", path=str(tmp_path / "videos")))
    assert isinstance(folder, FolderSource) and len(folder) == 2
    records = open_source(SourceConfig(path=str(tmp_path / "records"), split="val"))
    assert isinstance(records, RecordSource) and [clip.name for clip in records] == ["val/b"]
    with pytest.raises(ValueError, match="has no split 'test', expected one of train, val"):
        open_source(SourceConfig(path=str(tmp_path / "records"), split="test"))
    for kind in ("records", "folder"):
        with pytest.raises(FileNotFoundError, match="none"):
            open_source(SourceConfig(kind=kind, path=str(tmp_path / "none")))


def test_synthetic_characters():
    fields = {"num_clips": 3, "num_frames": 2, "height": 48, "width": 32, "fps": 8.0, "num_identities": 2}
    source = open_source(SourceConfig(kind="synthetic", split="identity", moving_camera=True, **fields))
    assert source == SyntheticSource(split="identity", moving_camera=True, **fields)
    with pytest.raises(ValueError, match="split 'test' given, expected one of train"):
        open_source(SourceConfig(kind="synthetic", split="test"))
    with pytest.raises(ValueError, match="num_clips 0 given"):
        open_source(SourceConfig(kind="synthetic", num_clips=0))
    default = open_source(SourceConfig(kind="synthetic"))
    assert (len(default), default.num_frames, default.height, default.width) == (1000, 16, 256, 192)


@pytest.mark.parametrize("data", [{"path": "a"}, {"kind": "synthetic", "num_identities": 3, "fps": 24}])
def test_from_json(data):
    assert build(SourceConfig, json.loads(json.dumps(data)), "source") == SourceConfig(**data)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "video", "path": "a"}, "source.kind is 'video', expected one of records, folder, synthetic"),
        ({}, "source.path is None, expected a folder, since source.kind is 'records'"),
        ({"kind": "folder", "path": ""}, "source.path is '', expected a folder, since source.kind is 'folder'"),
        ({"kind": "synthetic", "path": "a"}, "source.path is 'a', but synthetic clips have none"),
        ({"kind": "folder", "path": "a", "split": "val"}, "source.split is 'val', but a folder has no splits"),
        ({"path": "a", "fps": 24.0}, "source.fps is 24.0, but only synthetic clips have it"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message) as error:
        SourceConfig(**values)
    assert "\n" not in str(error.value)
