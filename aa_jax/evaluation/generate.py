"""What a model makes of a data set's clips, as folders of lossless images. A clip that is there already is left."""

import dataclasses
import json
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from aa_jax.animator import Animator
from aa_jax.atomic import aside
from aa_jax.data.clips import Clip
from aa_jax.data.synthetic.source import SyntheticClip
from aa_jax.evaluation.footage import ClipFootage, FileFootage, folder_of_images
from aa_jax.evaluation.protocols import Protocol
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.retarget import RetargetMethod
from aa_jax.video import DEFAULT_FPS, write_video
from aa_jax.weights import load_manifest, resolve

CARD = "generation.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """How clips are generated; None is the model's own value.

    Attributes:
      model: model folder or hub id.
      seed: of each clip's noise.
      num_inference_steps, guidance_scale: see `Animator`.
      dtype: of weights and computation.
      retarget: the driving keypoints are given the reference's size and build, see `Animator`.
    """

    model: str
    seed: int = 42
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    dtype: str = "float32"
    retarget: RetargetMethod = "none"


def generate(
    footage: Sequence[ClipFootage],
    protocol: Protocol,
    generation: Generation,
    folder: Path,
    *,
    progress: Callable[[int, int], object],
) -> list[FileFootage]:
    """Animate every clip's reference by its poses, each device a clip at a time.

    Args:
      folder: of the clips' images, `NAME/00000.png` and on, and of the settings they were made by.
      progress: called with (clips done, clips).

    Returns:
      What was generated, in the order of `footage`.

    Raises:
      ValueError: the folder holds what other settings made; or a clip that cannot be animated.
      OSError: something cannot be written.
    """
    card = {
        **dataclasses.asdict(generation),
        "weights": load_manifest(resolve(generation.model)),
        "protocol": {name: getattr(protocol, name) for name in ("name", "height", "width", "reference", "fit")},
    }
    _same_settings(folder, json.loads(json.dumps(card)))
    todo = [each for each in footage if not (folder / each.name).is_dir()]
    finished = len(footage) - len(todo)
    progress(finished, len(footage))
    for _ in _on_devices(todo, generation, lambda animator, each: _one(animator, each, protocol, generation, folder)):
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


def _one(animator: Animator, footage: ClipFootage, protocol: Protocol, generation: Generation, folder: Path) -> None:
    reference, reference_pose, pose = conditions(footage.clip, protocol)
    own = footage.keypoints
    frames = animator(
        reference,
        pose,
        height=protocol.height or own.height,
        width=protocol.width or own.width,
        num_inference_steps=generation.num_inference_steps,
        guidance_scale=generation.guidance_scale,
        seed=generation.seed,
        resize=protocol.fit,
        retarget=generation.retarget,
        reference_pose=None if generation.retarget == "none" else reference_pose,
    )
    path = folder / footage.name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(f"{path}/", frames, footage.fps or DEFAULT_FPS)


def conditions(clip: Clip, protocol: Protocol) -> tuple[UInt8[np.ndarray, "h w 3"], Keypoints, Keypoints]:
    """The reference image, its keypoints, and the keypoints that drive it."""
    of = clip if protocol.reference == "first" else clip.reference
    index = 0 if protocol.reference == "first" else len(of.keypoints) // 2
    reference_pose = of.keypoints.take([index])
    pose = clip.driving if isinstance(clip, SyntheticClip) else clip.keypoints
    return of.frames([index])[0], reference_pose, pose


def _on_devices(
    todo: Sequence[ClipFootage], generation: Generation, work: Callable[[Animator, ClipFootage], None]
) -> Any:
    """Run `work` on all clips, one thread a device; yields as each is done, and raises the first error."""
    waiting: queue.SimpleQueue[ClipFootage] = queue.SimpleQueue()
    for each in todo:
        waiting.put(each)
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def run(device: jax.Device) -> None:
        try:
            with jax.default_device(device):
                animator = Animator.from_pretrained(generation.model, dtype=generation.dtype)
                while not stop.is_set():
                    try:
                        each = waiting.get_nowait()
                    except queue.Empty:
                        return
                    work(animator, each)
                    done.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            done.put(error)

    threads = [threading.Thread(target=run, args=(device,)) for device in jax.local_devices()[: len(todo)]]
    for thread in threads:
        thread.start()
    try:
        for _ in todo:
            error = done.get()
            if error is not None:
                raise error
            yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
