"""The cache of what frozen networks make of every frame."""

import dataclasses
import itertools

import numpy as np
import pytest

from aa_jax.data.cache import open_cache, write_cache
from aa_jax.data.colour import ColourJitter
from aa_jax.data.pipeline import LoaderConfig, load
from aa_jax.data.sample import SampleConfig, make_sample
from tests.datasets.made_up import MadeUpSource

SAMPLE = SampleConfig(height=6, width=4, num_frames=3, clip_size=8)
SOURCE = MadeUpSource(lengths=(5, 9, 4))


class Encoder:
    """Means of the images, and how often it was asked."""

    def __init__(self, fail_after=10**9):
        self.calls, self.fail_after = 0, fail_after

    def __call__(self, frames, whole):
        assert frames.shape == (4, 6, 4, 3) and whole.shape == (4, 8, 8, 3)
        self.calls += 1
        if self.calls > self.fail_after:
            raise KeyboardInterrupt
        return {"moments": frames.astype(np.float32) / 8, "embedding": whole.astype(np.float32).mean((1, 2))}


def write(folder, encode=None, sample=SAMPLE, made_with="weights 1"):
    write_cache(folder, SOURCE, sample, encode or Encoder(), made_with=made_with, frame_batch=4)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_samples_hold_what_the_encoder_makes_of_the_frames_they_would_hold(tmp_path):
    write(tmp_path)
    cached = open_cache(tmp_path, SOURCE, SAMPLE, made_with="weights 1")
    for index in range(len(SOURCE)):
        plain = make_sample(SOURCE[index], SAMPLE, np.random.default_rng(index))
        sample = make_sample(cached[index], SAMPLE, np.random.default_rng(index))
        assert sorted(sample) == [
            "pose",
            "reference_embedding",
            "reference_moments",
            "target_embedding",
            "target_moments",
        ]
        np.testing.assert_array_equal(sample["reference_moments"], plain["reference"] / np.float32(8))
        np.testing.assert_array_equal(sample["target_moments"], plain["target"] / np.float32(8))
        np.testing.assert_array_equal(sample["pose"], plain["pose"])
        np.testing.assert_allclose(
            sample["reference_embedding"], plain["whole_reference"].astype(np.float32).mean((0, 1)), rtol=1e-6
        )


def test_batches_through_workers(tmp_path):
    write(tmp_path)
    cached = open_cache(tmp_path, SOURCE, SAMPLE, made_with="weights 1")
    for workers in (0, 1):
        stream = load(cached, SAMPLE, LoaderConfig(batch_size=2, num_workers=workers))
        batch = next(iter(itertools.islice(stream, 1)))
        assert batch["target_moments"].shape == (2, 3, 6, 4, 3)


def test_an_interrupted_cache_goes_on(tmp_path):
    write(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "part", Encoder(fail_after=3))
    with pytest.raises(FileNotFoundError, match="clip 2 is not in the cache"):
        make_sample(
            open_cache(tmp_path / "part", SOURCE, SAMPLE, made_with="weights 1")[2], SAMPLE, np.random.default_rng(0)
        )
    rest = Encoder()
    write(tmp_path / "part", rest)
    assert rest.calls == 4  # clip 0 took two of six calls and was finished
    assert files(tmp_path / "part") == files(tmp_path / "whole")


def test_a_cache_serves_what_it_was_made_for_alone(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no cache"):
        open_cache(tmp_path, SOURCE, SAMPLE, made_with="weights 1")
    write(tmp_path)
    for sample, weights in ((SAMPLE, "weights 2"), (dataclasses.replace(SAMPLE, height=8), "weights 1")):
        with pytest.raises(ValueError, match="was made with .* instead of"):
            open_cache(tmp_path, SOURCE, sample, made_with=weights)
        with pytest.raises(ValueError, match="was made with .* instead of"):
            write(tmp_path, sample=sample, made_with=weights)
    for changed in (dataclasses.replace(SAMPLE, flip=0.5), dataclasses.replace(SAMPLE, colour=ColourJitter(hue=0.1))):
        with pytest.raises(ValueError, match="mirrored or recoloured cannot be cached"):
            open_cache(tmp_path, SOURCE, changed, made_with="weights 1")
