"""The synthetic character benchmark as a source of clips: nothing is stored, all follows from a clip's number.

Identity, motion, camera and background have numbers of their own, from streams of random numbers that have nothing to
do with each other. A clip's reference is another motion of the same character before the same background.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int8, UInt8

from aa_jax.atomic import StrPath
from aa_jax.data.synthetic import bvh
from aa_jax.data.synthetic.body import PARTS
from aa_jax.data.synthetic.character import look
from aa_jax.data.synthetic.flow import Annotation, annotate
from aa_jax.data.synthetic.logo import STEEPEST, EmblemCells, locate_cells
from aa_jax.data.synthetic.motion import FAMILIES, perform
from aa_jax.data.synthetic.scene import QUICK_TO_COMPILE, Scene, compose, draw_frames, moments
from aa_jax.pose.keypoints import Keypoints

Split = Literal["train", "identity", "motion", "both", "driving"]
HELD_OUT_FAMILIES = ("squat", "turn")
TRAIN_FAMILIES = tuple(family for family in FAMILIES if family not in HELD_OUT_FAMILIES)
# Numbers below are for training.
HELD_OUT = 2**30
# Clips of a split; their numbers do not overlap.
MAX_CLIPS = 2**24
# Frames drawn at once: on a CPU one on each core, else enough to fill a GPU.
ACCELERATOR_BATCH = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion:
    """What is performed.

    Attributes:
      family: one of `FAMILIES`, or the path of a BVH file.
      number: of the motion within it; of a BVH file, where in it the clip starts.
    """

    family: str
    number: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticClip:
    """A clip that is drawn when it is asked for; a `Clip` with the truth about it.

    Attributes:
      name: unique within the source.
      identity: number of the character.
      motion: what it does.
      reference_motion: what it does in the clip that references are drawn from.
      camera, background: their numbers.
      driver: number of the character whose keypoints `driving` gives; `identity` in most splits.
      num_frames, height, width, fps: of the clip.
      moving_camera: it pans and zooms.
    """

    name: str
    identity: int
    motion: Motion
    reference_motion: Motion
    camera: int
    background: int
    driver: int
    num_frames: int
    height: int
    width: int
    fps: float
    moving_camera: bool

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what is drawn from them is drawn again."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def keypoints(self) -> Keypoints:
        """Of every frame, exact; points that other parts of the body cover count as seen."""
        return self._keypoints(self.scene)

    @functools.cached_property
    def driving(self) -> Keypoints:
        """The keypoints of the same performance by `driver`'s body: retargeting is given these, and the answer is
        `keypoints`."""
        return self.keypoints if self.driver == self.identity else self._keypoints(self._compose(self.driver))

    @property
    def reference(self) -> "SyntheticClip":
        """The same character before the same background, doing something else; its own reference is this clip."""
        other = self.name.removesuffix("_reference") if self.name.endswith("_reference") else f"{self.name}_reference"
        return dataclasses.replace(
            self, name=other, motion=self.reference_motion, reference_motion=self.motion, driver=self.identity
        )

    @functools.cached_property
    def scene(self) -> Scene:
        """All that the frames are drawn from."""
        return self._compose(self.identity)

    @functools.cached_property
    def look(self) -> Float[np.ndarray, " k"]:
        """The character's appearance but for its bone lengths, as numbers."""
        return np.asarray(look(self.scene.person))

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """The frames at `indices`, RGB.

        Raises:
          IndexError: there is no such frame.
        """
        return self._each(draw_frames, indices)

    def masks(self, indices: Sequence[int]) -> Bool[np.ndarray, "n h w"]:
        """Where the character is."""
        return np.asarray(self.annotation(indices).masks)

    def parts(self, indices: Sequence[int]) -> Int8[np.ndarray, "n h w"]:
        """Which part is seen, an index in `aa_jax.data.synthetic.body.PARTS`; -1 for the background."""
        return np.asarray(self.annotation(indices).parts)

    def flow(self, indices: Sequence[int]) -> Float[np.ndarray, "n h w 2"]:
        """Pixels to the right and down by which what a pixel shows moves until the next frame; the last has one too."""
        return np.asarray(self.annotation(indices).flow)

    def annotation(self, indices: Sequence[int]) -> Annotation:
        """Parts, masks and flow in one go, as NumPy arrays."""
        return self._each(annotate, indices)

    def emblem_cells(self, indices: Sequence[int]) -> EmblemCells:
        """Where the bits of the emblems are, for `logo.bit_accuracy`."""
        points, facing = (np.asarray(value) for value in locate_cells(self.scene, jnp.asarray(self._check(indices))))
        column, row = np.floor(np.nan_to_num(points)).astype(int).transpose(2, 0, 1)
        inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        frame = np.arange(len(points))[:, None]
        shown = self.parts(indices)[frame, row.clip(0, self.height - 1), column.clip(0, self.width - 1)]
        person = self.scene.person
        return EmblemCells(
            points=points,
            visible=inside & (facing > STEEPEST) & (shown == PARTS.index("chest")),
            bits=np.concatenate([np.ravel(person.chest.bits), np.ravel(person.back.bits)]).astype(int),
            colours=np.stack([person.chest.colours, person.back.colours]),
        )

    def _compose(self, identity: int) -> Scene:
        if self.motion.family in FAMILIES:
            times = moments(self.num_frames, self.fps)
            pose = _perform(FAMILIES.index(self.motion.family), self.motion.number, times)
        else:
            pose = bvh.perform(self.motion.family, self.motion.number, np.asarray(moments(self.num_frames, self.fps)))
        return compose(
            identity, pose, self.camera, self.background, fps=self.fps, height=self.height, width=self.width,
            moving=self.moving_camera,
        )  # fmt: skip

    def _keypoints(self, scene: Scene) -> Keypoints:
        numbers = np.asarray(scene.keypoints[: self.num_frames])
        return Keypoints(
            points=numbers[..., :2], scores=numbers[..., 2], height=self.height, width=self.width, fps=self.fps
        )

    def _check(self, indices: Sequence[int]) -> np.ndarray:
        wanted = np.asarray(indices, dtype=np.int32).reshape(-1)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < self.num_frames):
            raise IndexError(f"frames {wanted.min()} to {wanted.max()} asked for, {self.name} has {self.num_frames}")
        return wanted

    def _each(self, draw: Callable[..., Any], indices: Sequence[int]) -> Any:
        """`draw` applied to all frames in batches of one size, so that it is compiled once."""
        wanted, scene = self._check(indices), self.scene
        on_cpu = jax.default_backend() == "cpu"
        batch = 1 if on_cpu else ACCELERATOR_BATCH

        def run(start: int) -> Any:
            part = np.resize(wanted[start : start + batch], batch)
            return jax.tree.map(
                np.asarray,
                draw(scene, part, height=self.height, width=self.width, batch_size=None if on_cpu else batch),
            )

        starts = range(0, max(len(wanted), 1), batch)
        if on_cpu and len(starts) > 1:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                drawn = list(pool.map(run, starts))
        else:
            drawn = [run(start) for start in starts]
        return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(wanted)], *drawn)


_perform = jax.jit(perform, compiler_options=QUICK_TO_COMPILE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticSource:
    """Clips of synthetic characters: a `ClipSource`.

    Attributes:
      split: "train"; "identity": characters held out; "motion": families of motion held out (squat, turn), done by the
        training's characters; "both"; or "driving": held-out characters, each driven by the keypoints of another body.
      num_clips: in the split.
      num_frames: of a clip.
      height, width: of the frames, pixels.
      fps: frames per second.
      num_identities: characters in the split, shared out evenly; as many as clips by default.
      moving_camera: the camera pans and zooms.
      bvh: a folder of BVH files to perform instead of the families of motion, in splits that hold none out.

    Raises:
      ValueError: a field out of its range.
      FileNotFoundError: there is no BVH file in the folder.
    """

    split: Split
    num_clips: int
    num_frames: int
    height: int
    width: int
    fps: float = 12.0
    num_identities: int | None = None
    moving_camera: bool = False
    bvh: StrPath | None = None

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise ValueError(f"split {self.split!r} given, expected one of {', '.join(get_args(Split))}")
        limits = {"num_clips": MAX_CLIPS, "num_frames": 10_000, "height": 4096, "width": 4096}
        for name, most in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not 1 <= value <= most:
                raise ValueError(f"{name} {value!r} given, expected a whole number from 1 to {most}")
        if self.num_identities is not None and not 1 <= self.num_identities <= self.num_clips:
            raise ValueError(f"num_identities {self.num_identities} given, expected 1 to num_clips ({self.num_clips})")
        if min(self.height, self.width) < 32:
            raise ValueError(f"frames of {self.width}x{self.height} (width x height) asked for, expected 32 or more")
        if not 0 < self.fps < float("inf"):
            raise ValueError(f"fps {self.fps!r} given, expected a positive number")
        if self.bvh is not None:
            if self.split in ("motion", "both"):
                raise ValueError(
                    f"split {self.split!r} holds families of motion out, BVH files belong to none: leave one out"
                )
            bvh.files(self.bvh)

    def __len__(self) -> int:
        """Number of clips."""
        return self.num_clips

    def __getitem__(self, index: int) -> SyntheticClip:
        if not 0 <= index < self.num_clips:
            raise IndexError(f"clip {index} asked for, there are {self.num_clips}")
        held_out_identity = self.split in ("identity", "both", "driving")
        which = index % (self.num_identities or self.num_clips)
        identity = which + (HELD_OUT if held_out_identity else 0)
        # Two numbers a clip, the reference's motion being the second, and a range of its own for each split.
        number = 2 * (get_args(Split).index(self.split) * MAX_CLIPS + int(index))
        families = HELD_OUT_FAMILIES if self.split in ("motion", "both") else TRAIN_FAMILIES
        return SyntheticClip(
            name=f"{self.split}_{index:06d}",
            identity=identity,
            motion=self._motion(number, families),
            reference_motion=self._motion(number + 1, TRAIN_FAMILIES),
            camera=number,
            background=number,
            driver=identity + HELD_OUT // 2 if self.split == "driving" else identity,
            num_frames=self.num_frames,
            height=self.height,
            width=self.width,
            fps=float(self.fps),
            moving_camera=self.moving_camera,
        )

    def _motion(self, number: int, families: Sequence[str]) -> Motion:
        choices = [str(path) for path in bvh.files(self.bvh)] if self.bvh is not None else families
        return Motion(family=choices[int(np.random.default_rng((1, number)).integers(len(choices)))], number=number)
