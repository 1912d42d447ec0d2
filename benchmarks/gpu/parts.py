"""What is measured, in the order in which it counts."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.scale import Scale

# The profiler is told of kernels one by one, instead of graphs of them.
ONE_BY_ONE = "--xla_gpu_enable_command_buffer="


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the measurements, run in a process of its own.

    Attributes:
      name: in the results.
      module: in this package, with `run(job)`.
      options: for it.
      least: seconds that have to be left for it to begin.
      most: seconds after which it is ended.
      needs: names of command-line options without which there is nothing to measure.
      in_torch: it is PyTorch that is measured.
      xla_flags: for the compiler, beside the user's.
    """

    name: str
    module: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    least: float = 30
    most: float = 300
    needs: tuple[str, ...] = ()
    in_torch: bool = False
    xla_flags: str = ""


def parts(scale: Scale) -> list[Part]:
    """All of them, the most wanted first."""
    first, *others = scale.sizes
    training = [list(_training(scale, stage)) for stage in range(len(scale.training))]
    return [
        Part(name="machine", module="machine", most=120),
        _end_to_end(first),
        Part(name="start", module="start", options=_size(first), most=240),
        Part(name="layers", module="layers", options=_size(first), least=60, most=300),
        Part(name="trace", module="trace", options=_size(first), least=60, most=240, xla_flags=ONE_BY_ONE),
        *_torch("diffusers", first, compiled=False),
        *_torch("moore", first, compiled=False),
        *(trials[0] for trials in training),
        *map(_end_to_end, others),
        *_torch("diffusers", first, compiled=True),
        Part(name="precision", module="precision", options=_size(scale.sizes[-1]), least=60, most=300),
        Part(name="steps", module="sweep", options={"of": "steps"}, most=180),
        Part(name="frames", module="sweep", options={"of": "frames"}, least=60, most=500),
        Part(name="sizes", module="sweep", options={"of": "sizes"}, least=60, most=400),
        *_torch("moore", first, compiled=True),
        *itertools.chain(*(trials[1:] for trials in training)),
        Part(name="tests", module="marked", most=300),
    ]


def _size(size: tuple[int, int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}


def _end_to_end(size: tuple[int, int]) -> Part:
    name = f"end_to_end_{size[0]}x{size[1]}"
    return Part(name=name, module="end_to_end", options=_size(size), least=60, most=400)


def _training(scale: Scale, stage: int) -> Iterator[Part]:
    """A part for each trial, as one that runs out of memory should not end the others."""
    for remat, batch_size in scale.training[stage].trials:
        name = f"training_{scale.training[stage].config}_{remat}_{batch_size}"
        options = {"stage": stage, "remat": remat, "batch_size": batch_size}
        yield Part(name=name, module="training", options=options, least=90, most=300)


def _torch(peer: str, size: tuple[int, int], *, compiled: bool) -> Iterator[Part]:
    needs = ("moore", "moore_packages") if peer == "moore" else ()
    name = f"{peer}_{'compiled' if compiled else 'eager'}"
    options = {**_size(size), "compiled": compiled}
    yield Part(name=name, module=peer, options=options, most=300 if compiled else 180, needs=needs, in_torch=True)
