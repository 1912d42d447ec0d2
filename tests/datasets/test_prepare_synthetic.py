"""The synthetic characters as a data set of records."""

import numpy as np

from aa_jax.data.__main__ import main
from aa_jax.data.prepare import load_report
from aa_jax.data.records import RecordSource
from aa_jax.data.synthetic import SyntheticSource


def test_synthetic_characters(tmp_path):
    """As records, with the clips that references are drawn from."""
    source = {"num_clips": 2, "num_frames": 2, "height": 48, "width": 36}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in source.items()]
    assert main(["prepare", "synthetic", *options, "--output", str(tmp_path / "data"), "--quiet"]) == 0
    assert load_report(tmp_path / "data").clips == {"train": 2}
    records, clips = RecordSource(tmp_path / "data"), SyntheticSource(split="train", **source)
    for record, clip in ((records[1], clips[1]), (records[0].reference, clips[0].reference)):
        assert record.name == clip.name
        np.testing.assert_array_equal(record.frames([1, 0]), clip.frames([1, 0]))
        np.testing.assert_array_equal(record.keypoints.points, clip.keypoints.points)
        assert (record.keypoints.height, record.keypoints.width, record.keypoints.fps) == (48, 36, 12)
