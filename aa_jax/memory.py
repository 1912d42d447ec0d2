"""The device's memory that an animation takes, told by its compiled programs before it runs, and how to take less."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from aa_jax.request import Request

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
REFERENCE_NETWORKS = ("vae", "image_encoder", "reference_unet", "controlnet", "denoising_unet")
"""What encodes the reference; the denoising UNet projects its features."""
DENOISING_NETWORKS = ("pose_guider", "denoising_unet", "controlnet")
DECODING_NETWORKS = ("vae",)
COPIES = 9
"""How often all latents are on the device while a long video is denoised: the sampler's state before and after a step
(two each, where it looks back), what the network sees, and the predictions of both halves before and after adding."""


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """What an animation takes of the device's memory, in bytes.

    Attributes:
      request: how it is run.
      weights: the largest set that is there at a time.
      programs: by name, the most that is there while it runs: weights, what is kept for later, its arguments, results
        and temporaries.
    """

    request: Request
    weights: int
    programs: dict[str, int]

    @property
    def total(self) -> int:
        """The most at any time."""
        return max(self.programs.values())

    def __str__(self) -> str:
        most = max(self.programs, key=self.programs.__getitem__)
        at_once = self.request.layer_frames or "all"
        return (
            f"{in_units(self.total)} (weights {in_units(self.weights)}; most in {most.replace('_', ' ')}), "
            f"layers with {at_once} frames at a time, VAE with {self.request.frame_batch}"
        )


def plan_memory(
    request: Request,
    compiled: Mapping[str, jax.stages.Compiled],
    networks: Mapping[str, int],
    *,
    latents: int,
    window_frames: int,
    batches: int,
    offload: bool,
) -> MemoryPlan:
    """The plan of an animation.

    Args:
      compiled: its programs by name, as `Programs` has them; the first argument of each is the weights.
      networks: bytes of each network's weights.
      latents: bytes of all frames' latents.
      window_frames: how many frames are denoised at a time.
      batches: how often that is in a step.
      offload: whether each network is on the device only while it works.
    """
    poses = compiled["encode_poses"].out_info
    features = size_of(poses) // len(poses) * window_frames
    conditions = size_of(compiled["encode_reference"].out_info)
    kept_by_loop = 0 if "advance" in compiled else COPIES * latents
    if request.reuse > 1:
        kept_by_loop += batches * max(size_of(compiled[name].out_info[1]) for name in compiled if "predict" in name)
    weights, programs = {}, {}
    for name, program in compiled.items():
        used: tuple[str, ...] = DENOISING_NETWORKS
        kept = kept_by_loop
        if name == "encode_reference":
            used, kept = REFERENCE_NETWORKS, 0
        elif name == "encode_poses":  # its chunks, and then all of them together
            kept += conditions + 2 * features
        elif name == "decode":
            used, kept = DECODING_NETWORKS, 0
        weights[name] = sum(size for network, size in networks.items() if network in used or not offload)
        (_, *arguments), options = program.args_info
        own = size_of((arguments, options)) + size_of(program.out_info) + _temporaries(program)
        programs[name] = weights[name] + kept + own
    return MemoryPlan(request, max(weights.values()), programs)


def fit(request: Request, window_length: int, budget: int, plan: Callable[[Request], MemoryPlan]) -> Request:
    """The request, with as many frames at a time as the budget allows: one window, then fewer `layer_frames` and, below
    four of them, a smaller `frame_batch`. What it tries is compiled; that is three or four times at most.

    Args:
      window_length: frames that are denoised together.
      budget: bytes of the device's memory.
      plan: the plan of a request.

    Raises:
      ValueError: one frame at a time is too much. The message says what would do.
    """
    if plan(request).total <= budget:
        return request
    fewer = list(_economies(request, window_length))
    largest, smallest = 0, len(fewer) - 1
    if not fewer or (least := plan(fewer[smallest])).total > budget:
        least = least if fewer else plan(request)
        raise ValueError(
            f"memory_budget is {in_units(budget)}, but the smallest that works is {least}. "
            "Choose that, a smaller size, shorter windows, dtype bfloat16, or offload"
        )
    while largest < smallest:
        middle = (largest + smallest) // 2
        if plan(fewer[middle]).total <= budget:
            smallest = middle
        else:
            largest = middle + 1
    return fewer[smallest]


def _economies(request: Request, window_length: int) -> Iterator[Request]:
    """Requests that take less memory, one after another."""
    request = dataclasses.replace(request, window_batch=1)
    frames = min(request.layer_frames or window_length, window_length)
    while frames > 1:
        frames = -(-frames // 2)
        yield dataclasses.replace(request, layer_frames=frames, frame_batch=min(request.frame_batch, frames))


def _temporaries(program: jax.stages.Compiled) -> int:
    analysis = program.memory_analysis()
    if analysis is None:
        raise ValueError(f"{jax.devices()[0].device_kind} does not tell what memory a program takes: set no budget")
    return analysis.temp_size_in_bytes


def limit(devices: Sequence[jax.Device]) -> int | None:
    """Bytes that JAX may use of the smallest of these devices; None where it does not say, as on CPUs."""
    here = [device for device in devices if device.process_index == jax.process_index()]
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in here]
    return min((found for found in limits if found), default=None)


def in_units(size: int) -> str:
    """Such as 1.50 GiB."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if size >= UNITS[unit.upper()] or unit == "B")
    return f"{size / UNITS[unit.upper()]:.2f} {unit}"


def parse_size(text: str) -> int:
    """Bytes of a size such as 12GiB, 800MB or 1000000.

    Raises:
      ValueError: it is none, or zero.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    unit = UNITS.get(found[2].upper()) if found else None
    size = round(float(found[1]) * unit) if found and unit else 0
    if size < 1:
        raise ValueError(f"{text!r} is no size of memory, expected one such as 12GiB, 800MB or a number of bytes")
    return size


def size_of(tree: Any) -> int:
    """Bytes of a tree's arrays, or of those that its shapes stand for."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
