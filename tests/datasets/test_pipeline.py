"""The stream of batches: a function of (seed, step), whoever makes it."""

import itertools

import numpy as np
import pytest

from aa_jax.data.pipeline import LoaderConfig, Subset, load, long_enough
from aa_jax.data.sample import SampleConfig
from tests.datasets.made_up import MadeUpSource

SAMPLE = SampleConfig(height=12, width=8, num_frames=2, clip_size=8, flip=0.5)
CONFIG = LoaderConfig(batch_size=4, seed=1)


def take(count, config=CONFIG, source=None, **options):
    return list(itertools.islice(load(source or MadeUpSource(), SAMPLE, config, **options), count))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def clips_of(batches):
    return [int(clip) for batch in batches for clip in batch["reference"][:, 0, 0, 0]]


def test_batches():
    (batch,) = take(1)
    assert {name: array.shape for name, array in batch.items()} == {
        "reference": (4, 12, 8, 3),
        "whole_reference": (4, 8, 8, 3),
        "target": (4, 2, 12, 8, 3),
        "pose": (4, 2, 12, 8, 3),
    }


def test_every_clip_once_in_every_epoch_in_another_order():
    clips = clips_of(take(5))
    epochs = [clips[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_seed_decides():
    assert_same(take(3), take(3))
    other = take(3, LoaderConfig(batch_size=4, seed=2))
    assert any((a["target"] != b["target"]).any() for a, b in zip(take(3), other, strict=True))


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_any_number_of_threads(threads):
    assert_same(take(6, LoaderConfig(batch_size=4, seed=1, num_threads=threads, prefetch=3)), take(6))


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers(workers):
    assert_same(take(5, LoaderConfig(batch_size=4, seed=1, num_workers=workers)), take(5))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_every_batch(hosts):
    parts = [take(5, process_index=index, process_count=hosts) for index in range(hosts)]
    whole = [
        {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
        for batch in zip(*parts, strict=True)
    ]
    assert_same(whole, take(5))


def test_resume_on_another_machine():
    whole = take(7)
    assert_same(take(4, first_step=3), whole[3:])
    workers = LoaderConfig(batch_size=4, seed=1, num_workers=2)
    assert_same(take(4, workers, first_step=3), whole[3:])


def test_stopping_leaves_no_workers_behind():
    import multiprocessing

    stream = load(MadeUpSource(), SAMPLE, LoaderConfig(batch_size=4, num_workers=2))
    next(stream)
    del stream
    for child in multiprocessing.active_children():
        child.join(timeout=20)
    assert not multiprocessing.active_children()


def test_subset():
    assert clips_of(take(3, source=Subset(MadeUpSource(), (1, 3))))[:2] in ([1, 3], [3, 1])
    assert long_enough(MadeUpSource(), 24).indices == (1, 2, 4)
    with pytest.raises(ValueError, match="none of the 5 clips has 41 frames or more"):
        long_enough(MadeUpSource(), 41)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": MadeUpSource(lengths=())}, "holds no clips"),
        ({"process_count": 3}, "a batch of 4 samples does not divide by 3 hosts"),
        ({"process_count": 2, "process_index": 2}, "process_index is 2, expected 0 to 1"),
        ({"first_step": -1}, "first_step is -1"),
    ],
)
def test_bad_arguments(options, message):
    source = options.pop("source", MadeUpSource())
    with pytest.raises(ValueError, match=message):
        load(source, SAMPLE, CONFIG, **options)


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"batch_size": 1, "prefetch": 0}])
def test_bad_config(change):
    with pytest.raises(ValueError, match="expected 1 or more"):
        LoaderConfig(**change)
