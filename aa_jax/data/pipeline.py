"""Batches of samples, a pure function of (seed, step).

Sample i of a run is drawn from clip `order(epoch)[i mod n]` by a generator seeded with (seed, i), and batch k holds the
samples k b to (k + 1) b - 1. So the stream is the same on one host or many and for any number of workers, and the state
of the iterator is one integer, the next step, which is saved with the checkpoint. Grain runs the workers.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from aa_jax.data.clips import Clip, ClipSource, DrawnClip, count_frames
from aa_jax.data.sample import Sample, SampleConfig, make_sample

# Streams of random numbers of one seed.
ORDER, DRAW = 0, 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How batches are made.

    Attributes:
      batch_size: samples of a batch, on all hosts together.
      seed: of the order of clips and of every random choice.
      num_workers: processes that make batches; 0 makes them in threads of this one.
      num_threads: threads that make batches where there are no workers; 0 makes each when it is asked for.
      prefetch: batches made ahead by each worker, or by the threads.

    Raises:
      ValueError: a value out of its range.
    """

    batch_size: int
    seed: int = 0
    num_workers: int = 0
    num_threads: int = 2
    prefetch: int = 2

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("num_workers", 0), ("num_threads", 0), ("prefetch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"LoaderConfig.{name} is {getattr(self, name)}, expected {least} or more")


@dataclasses.dataclass(frozen=True)
class Samples:
    """The samples of a run, one by one: an endless sequence with random access."""

    source: ClipSource
    config: SampleConfig
    seed: int

    def __getitem__(self, index: int) -> Sample:
        clip, rng = self.clip(index)
        return make_sample(clip, self.config, rng)

    def clip(self, index: int) -> tuple[Clip | DrawnClip, np.random.Generator]:
        """The clip of a sample, and what its random choices are drawn from."""
        epoch, place = divmod(index, len(self.source))
        clip = self.source[int(_order(self.seed, epoch, len(self.source))[place])]
        return clip, _generator(self.seed, DRAW, index)


@dataclasses.dataclass(frozen=True)
class Batches:
    """One host's part of the batches from `first_step` on, with random access, as Grain reads them."""

    samples: Samples
    batch_size: int
    first_step: int
    process_index: int
    process_count: int

    def __len__(self) -> int:
        return np.iinfo(np.int64).max // (self.batch_size * 2) - self.first_step

    def __getitem__(self, index: int) -> Sample:
        rows = self.batch_size // self.process_count
        first = (self.first_step + index) * self.batch_size + self.process_index * rows
        return stack([self.samples[first + row] for row in range(rows)])


def load(
    source: ClipSource,
    sample: SampleConfig,
    config: LoaderConfig,
    *,
    first_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Sample]:
    """Batches of samples without an end.

    To resume exactly, save the number of batches taken and give it as `first_step`: also on another number of hosts,
    workers or threads.

    Args:
      source: the clips.
      sample: what is drawn from a clip.
      config: how batches are made.
      first_step: batches to leave out at the start.
      process_index: of this host, `jax.process_index()`.
      process_count: number of hosts, `jax.process_count()`; each gets its contiguous part of every batch.

    Returns:
      Batches of `batch_size / process_count` samples, uint8 arrays with a leading axis (see `Sample`).

    Raises:
      ValueError: there are no clips, a batch does not divide by the hosts, or the first step is negative.
    """
    if not len(source):
        raise ValueError("the data source holds no clips")
    if config.batch_size % process_count:
        raise ValueError(
            f"a batch of {config.batch_size} samples does not divide by {process_count} hosts: choose a multiple"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index is {process_index}, expected 0 to {process_count - 1}")
    if first_step < 0:
        raise ValueError(f"first_step is {first_step}, expected 0 or more")
    samples = Samples(source, sample, config.seed)
    return _through_grain(Batches(samples, config.batch_size, first_step, process_index, process_count), config)


def _through_grain(batches: Batches, config: LoaderConfig) -> Iterator[Sample]:
    import grain  # takes half a second

    threads = 0 if config.num_workers else config.num_threads
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=config.prefetch if threads else 0)
    dataset: Any = grain.MapDataset.source(batches).to_iter_dataset(options)
    if config.num_workers:
        _let_grain_spawn()
        workers = grain.MultiprocessingOptions(num_workers=config.num_workers, per_worker_buffer_size=config.prefetch)
        dataset = dataset.mp_prefetch(workers)
    return iter(dataset)


def _let_grain_spawn() -> None:
    # Grain hands absl's flags to its workers and fails where no absl program has parsed them.
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def stack(samples: list[Sample]) -> Sample:
    """One batch of samples of one shape."""
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of clips in an epoch."""
    return _generator(seed, ORDER, epoch).permutation(length)


def _generator(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, index])))


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some clips of a source."""

    source: ClipSource
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Clip | DrawnClip:
        return self.source[self.indices[index]]


def long_enough(source: ClipSource, num_frames: int) -> Subset:
    """The clips with at least so many frames.

    Raises:
      ValueError: there is none.
    """
    kept = tuple(index for index in range(len(source)) if count_frames(source[index]) >= num_frames)
    if not kept:
        raise ValueError(f"none of the {len(source)} clips has {num_frames} frames or more")
    return Subset(source, kept)
