"""What a model, or a baseline, makes of a data set's clips, as folders of lossless images. A clip that is there already
is left."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from aa_jax.animator import Animator
from aa_jax.atomic import aside
from aa_jax.devices import on_devices
from aa_jax.evaluation.baselines import OF_TWO_CLIPS, WITHOUT_MODEL, Baseline, copied, open_vae, warped
from aa_jax.evaluation.conditions import Conditions, conditions
from aa_jax.evaluation.footage import ClipFootage, FileFootage, folder_of_images
from aa_jax.evaluation.pairs import fit
from aa_jax.evaluation.protocols import Protocol
from aa_jax.pose.retarget import RetargetMethod
from aa_jax.request import Mode
from aa_jax.video import DEFAULT_FPS, write_video
from aa_jax.weights import load_manifest, resolve

CARD = "generation.json"
Make = Callable[[ClipFootage, ClipFootage], UInt8[np.ndarray, "t h w 3"]]
"""From a clip and the next one, which some baselines take input from, to the clip's frames."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """How clips are generated; None is the model's own value.

    Attributes:
      model: model folder or hub id; None for a baseline that needs none.
      baseline: what is made in place of the model's animations; None for these.
      seed: of each clip's noise.
      num_inference_steps, guidance_scale, sampler, mode, reuse: see `Animator`.
      dtype: of weights and computation.
      retarget: the driving keypoints are given the reference's size and build, see `Animator`.
      driver_scale: before that they are made so many times as large about the image's centre, as if the driver had been
        filmed from elsewhere.

    Raises:
      ValueError: a scale that is not positive; no model where one is needed, or one where none is.
    """

    model: str | None = None
    baseline: Baseline | None = None
    seed: int = 42
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    mode: Mode = "exact"
    reuse: int | None = None
    dtype: str = "float32"
    retarget: RetargetMethod = "none"
    driver_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.driver_scale < math.inf:
            raise ValueError(f"driver_scale is {self.driver_scale:g}, expected a positive number")
        if self.baseline in WITHOUT_MODEL and self.model is not None:
            raise ValueError(f"baseline {self.baseline} uses no model, but {self.model} is given: leave it out")
        if self.baseline not in WITHOUT_MODEL and self.model is None:
            what = f"baseline {self.baseline}" if self.baseline else "an animation"
            raise ValueError(f"{what} needs a model, and none is given: give one (--model)")


def generate(
    footage: Sequence[ClipFootage],
    protocol: Protocol,
    generation: Generation,
    folder: Path,
    *,
    progress: Callable[[int, int], object],
) -> list[FileFootage]:
    """Animate every clip's reference by its poses, or make a baseline of it, each device a clip at a time.

    Args:
      folder: of the clips' images, `NAME/00000.png` and on, and of the settings they were made by.
      progress: called with (clips done, clips).

    Returns:
      What was generated, in the order of `footage`.

    Raises:
      ValueError: the folder holds what other settings made; a clip that cannot be animated; or one clip alone where a
        baseline takes input from the next one.
      OSError: something cannot be written.
    """
    if generation.baseline in OF_TWO_CLIPS and len(footage) < 2:
        raise ValueError(f"baseline {generation.baseline} needs 2 clips or more, and there is {len(footage)}")
    card = {
        **dataclasses.asdict(generation),
        "weights": generation.model and load_manifest(resolve(generation.model)),
        "protocol": {name: getattr(protocol, name) for name in ("name", "height", "width", "reference", "fit")},
        # Which clip is the next one.
        **({"clips": [each.name for each in footage]} if generation.baseline in OF_TWO_CLIPS else {}),
    }
    _same_settings(folder, json.loads(json.dumps(card)))
    following = [*footage[1:], *footage[:1]]
    todo = [pair for pair in zip(footage, following, strict=True) if not (folder / pair[0].name).is_dir()]
    finished = len(footage) - len(todo)
    progress(finished, len(footage))
    for _ in on_devices(todo, lambda: _open(protocol, generation), lambda make, pair: _one(make, *pair, folder)):
        finished += 1
        progress(finished, len(footage))
    return [folder_of_images(folder / each.name, each.name) for each in footage]


def _same_settings(folder: Path, card: dict[str, Any]) -> None:
    path = folder / CARD
    if path.is_file():
        if json.loads(path.read_text()) != card:
            raise ValueError(f"{folder} holds clips that other settings or another model made: choose another output")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with aside(path) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n")


def _one(make: Make, footage: ClipFootage, following: ClipFootage, folder: Path) -> None:
    path = folder / footage.name
    frames = make(footage, following)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(f"{path}/", frames, footage.fps or DEFAULT_FPS)


def _open(protocol: Protocol, generation: Generation) -> Make:
    """Load what is needed to make frames, on the device of the thread."""

    def size(footage: ClipFootage) -> tuple[int, int]:
        return protocol.height or footage.keypoints.height, protocol.width or footage.keypoints.width

    def given(footage: ClipFootage) -> Conditions:
        return conditions(footage.clip, protocol).with_driver_scaled(generation.driver_scale)

    baseline, model = generation.baseline, generation.model
    if baseline == "copy":
        return lambda clip, _: copied(given(clip), size(clip), protocol)
    if baseline == "warp":
        return lambda clip, _: warped(given(clip), size(clip), protocol, generation.retarget)
    assert model is not None
    if baseline == "reconstruction":
        give_back = open_vae(model, generation.dtype)
        return lambda clip, _: give_back(fit(clip.frames(), size(clip), protocol))
    animator = Animator.from_pretrained(model, dtype=generation.dtype)
    animate = functools.partial(_animate, animator, protocol, generation)
    if baseline == "wrong-reference":
        return lambda clip, other: animate(given(clip).with_reference_of(given(other)), size(clip))
    if baseline == "wrong-pose":
        return lambda clip, other: animate(given(clip).with_pose_of(given(other)), size(clip))
    return lambda clip, _: animate(given(clip), size(clip))


def _animate(
    animator: Animator, protocol: Protocol, generation: Generation, given: Conditions, size: tuple[int, int]
) -> UInt8[np.ndarray, "t h w 3"]:
    return animator(
        given.reference,
        given.pose,
        height=size[0],
        width=size[1],
        num_inference_steps=generation.num_inference_steps,
        guidance_scale=generation.guidance_scale,
        sampler=generation.sampler,
        mode=generation.mode,
        reuse=generation.reuse,
        seed=generation.seed,
        resize=protocol.fit,
        retarget=generation.retarget,
        reference_pose=None if generation.retarget == "none" else given.reference_pose,
    )
