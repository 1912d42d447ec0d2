"""What frozen networks make of every frame, computed once: VAE moments and image embeddings.

Where samples are neither mirrored nor recoloured, training then runs neither the VAE's encoder nor the image encoder. A
cache is a folder: `cache.json` (what it was made with), and per clip a folder of arrays with one row per frame, which
are mapped into memory. It is made clip by clip and goes on where it was interrupted.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aa_jax.atomic import StrPath, aside
from aa_jax.data.clips import Clip, ClipSource, DrawnClip, count_frames, is_drawn
from aa_jax.data.colour import ColourJitter
from aa_jax.data.sample import SampleConfig, fit_frames, whole_frames
from aa_jax.pose.keypoints import Keypoints

DESCRIPTION = "cache.json"

Encode = Callable[[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n s s 3"]], Mapping[str, np.ndarray]]
"""Frames as samples have them, and whole ones for the image encoder, to named arrays of one row per frame."""


def write_cache(
    folder: StrPath,
    source: ClipSource,
    sample: SampleConfig,
    encode: Encode,
    *,
    made_with: str,
    how: Mapping[str, str] | None = None,
    frame_batch: int = 16,
    progress: Callable[[Iterator[int]], Iterator[int]] = iter,
) -> None:
    """Encode every frame of a source's clips and of their reference clips.

    Args:
      folder: new, or one that was interrupted: its finished clips are kept.
      source: the clips.
      sample: how frames are cut to size; the cache serves samples of this size and no other.
      encode: the frozen networks.
      made_with: names their weights; a cache of other weights is refused.
      how: what else the cache is made from and how, by name. Goes into its description; an interrupted cache goes on
        with the same alone.
      frame_batch: frames encoded at a time.
      progress: wraps the numbers of the clips, to show how far it is (`tqdm`).

    Raises:
      ValueError: samples are mirrored or recoloured, the folder was made with other weights or sizes or holds
        something else, or a clip is damaged or has no keypoints.
    """
    _check_plain(sample)
    if frame_batch < 1:
        raise ValueError(f"frame_batch is {frame_batch}, expected 1 or more")
    root, description = Path(folder), {**_description(sample, made_with), **(how or {})}
    root.mkdir(parents=True, exist_ok=True)
    if (root / DESCRIPTION).exists():
        _check_description(root, description)
    else:
        if any(not file.name.startswith(".") for file in root.iterdir()):
            raise ValueError(f"{root} holds something else than a cache: choose a new folder")
        with aside(root / DESCRIPTION) as partial:
            partial.write_text(json.dumps(description, indent=1) + "\n")
    for index in progress(iter(range(len(source)))):
        clip = _with_keypoints(source[index])
        for each in {clip.name: clip, clip.reference.name: clip.reference}.values():
            if not _place(root, each.name).exists():
                _write_clip(_place(root, each.name), each, sample, encode, frame_batch)


def _write_clip(place: Path, clip: Clip, sample: SampleConfig, encode: Encode, frame_batch: int) -> None:
    length = count_frames(clip)
    rows: dict[str, list[np.ndarray]] = {}
    for start in range(0, length, frame_batch):
        # Every call has the same number of frames, so that a compiled `encode` is compiled once.
        indices = np.minimum(np.arange(start, start + frame_batch), length - 1)
        frames = clip.frames(indices.tolist())
        for name, array in encode(fit_frames(frames, sample), whole_frames(frames, sample)).items():
            rows.setdefault(name, []).append(np.asarray(array)[: length - start])
    place.parent.mkdir(exist_ok=True)
    with aside(place) as partial:
        partial.mkdir()
        for name, parts in rows.items():
            np.save(partial / f"{name}.npy", np.concatenate(parts))


@dataclasses.dataclass(frozen=True)
class CachedClip:
    """A clip with its cached arrays; see `Clip`."""

    clip: Clip
    root: Path

    @property
    def name(self) -> str:
        return self.clip.name

    @property
    def keypoints(self) -> Keypoints:
        return self.clip.keypoints

    @property
    def reference(self) -> "CachedClip":
        return CachedClip(self.clip.reference, self.root)

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        return self.clip.frames(indices)

    def encoded(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """The cached rows of some frames.

        Raises:
          FileNotFoundError: this clip is not in the cache.
          ValueError: the cached clip has another number of frames.
        """
        place = _place(self.root, self.name)
        if not place.is_dir():
            raise FileNotFoundError(f"clip {self.name} is not in the cache {self.root}: make the cache again")
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in sorted(place.glob("*.npy"))}
        for array in arrays.values():
            if len(array) != len(self.keypoints):
                raise ValueError(
                    f"clip {self.name} has {len(self.keypoints)} frames, but {len(array)} in the cache {self.root}, "
                    "which was made of other clips: make the cache again"
                )
        return {name: array[list(indices)] for name, array in arrays.items()}


@dataclasses.dataclass(frozen=True)
class CachedSource:
    """The clips of a source with what a cache holds of them. Make one with `open_cache`."""

    source: ClipSource
    root: Path

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> CachedClip:
        return CachedClip(_with_keypoints(self.source[index]), self.root)


def open_cache(folder: StrPath, source: ClipSource, sample: SampleConfig, *, made_with: str) -> CachedSource:
    """A source with its cache.

    Raises:
      FileNotFoundError: there is no cache in `folder`.
      ValueError: it was made with other weights or sizes, or samples are mirrored or recoloured.
    """
    _check_plain(sample)
    root = Path(folder)
    if not (root / DESCRIPTION).exists():
        raise FileNotFoundError(f"{root} holds no cache ({DESCRIPTION} is missing): make one first")
    _check_description(root, _description(sample, made_with))
    return CachedSource(source, root.absolute())


def _with_keypoints(clip: Clip | DrawnClip) -> Clip:
    if is_drawn(clip):
        raise ValueError(f"clip {clip.name} has drawn poses, and a cache is for clips with keypoints")
    return clip


def _place(root: Path, name: str) -> Path:
    """Where a clip's arrays lie: names may be paths, so they are hashed."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return root / digest[:2] / digest[2:20]


def _description(sample: SampleConfig, made_with: str) -> dict[str, object]:
    sizes = {name: getattr(sample, name) for name in ("height", "width", "resize", "resample", "clip_size")}
    return {"made_with": made_with, **sizes}


def _check_plain(sample: SampleConfig) -> None:
    if sample.flip or sample.colour != ColourJitter():
        raise ValueError("samples that are mirrored or recoloured cannot be cached: set flip and colour to nothing")


def _check_description(root: Path, expected: Mapping[str, object]) -> None:
    found = json.loads((root / DESCRIPTION).read_text())
    different = [
        f"{name} {found.get(name)!r} instead of {value!r}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if different:
        raise ValueError(f"the cache {root} was made with {', '.join(different)}: make another one")
