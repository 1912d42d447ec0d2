"""What is known of a training run before its first step: parameters, memory and work."""

import collections
import dataclasses
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import jax

from aa_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """Numbers of a network's parameters.

    Attributes:
      trained: those that train.
      frozen: those that are not to train, tables and running statistics among them.
      unused: those that were to train but influence nothing, and are frozen therefore.
      origin: where the weights come from.
    """

    name: str
    trained: int
    frozen: int
    unused: int
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on each device.

    Attributes:
      trained, frozen: weights.
      optimizer: its state.
      ema: moving average of the trained weights.
      gradients: as large as the trained weights.
      batch: of a step.
      temporary: what the compiled step takes besides its arguments, gradients and activations among it; None before
        it is compiled.
    """

    trained: int
    frozen: int
    optimizer: int
    ema: int
    gradients: int
    batch: int
    temporary: int | None = None

    @property
    def parts(self) -> dict[str, int]:
        """What takes memory, by its name for people."""
        parts = {
            "trained weights": self.trained,
            "frozen weights": self.frozen,
            "optimizer state": self.optimizer,
            "moving average": self.ema,
            "batch": self.batch,
        }
        if self.temporary is None:
            return parts | {"gradients": self.gradients}
        return parts | {"gradients, activations": self.temporary}

    @property
    def total(self) -> int:
        """What a step needs; before it is compiled, what it needs at least."""
        return sum(self.parts.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before its first step. Make it with `make_plan`, complete it with `with_memory`.

    Attributes:
      networks: in the order in which they are shown.
      memory: of each device.
      frozen_dtype: of most of the frozen weights.
      mesh: devices along each axis.
      device_kind: of this process's devices.
      device_memory: bytes of one, None if unknown.
      step_flops: operations of a step on all devices together, with what is computed again; None if not counted.
      sample_flops: of one sample with nothing computed again, what a rate is measured by; None if not counted.
    """

    networks: tuple[NetworkPlan, ...]
    memory: Memory
    frozen_dtype: str
    mesh: Mapping[str, int]
    device_kind: str
    device_memory: int | None
    step_flops: float | None = None
    sample_flops: float | None = None


def make_plan(
    state: TrainState,
    batch: Any,
    *,
    unused: Collection[str],
    origins: Mapping[str, str],
    mesh: jax.sharding.Mesh,
    step_flops: float | None = None,
    sample_flops: float | None = None,
) -> Plan:
    """The plan of a run, from shapes alone.

    Args:
      state: abstract, with shardings (arrays do too).
      batch: likewise.
      unused: keys among `state.frozen` that were to train but influence nothing.
      origins: by network, where its weights come from; the order in which networks are shown.
      mesh: the devices.
      step_flops: see `Plan`, from `count_flops`.
      sample_flops: likewise.

    Raises:
      ValueError: a network has no origin, or an unused parameter is not frozen.
    """
    strange = sorted(set(unused) - set(state.frozen))
    if strange:
        raise ValueError(f"{strange[0]} is unused but not among the frozen parameters: freeze what influences nothing")
    counts: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in origins}
    for key, value in state.params.items():
        name = key.partition(".")[0]
        if name not in counts:
            raise ValueError(f"{key} is of {name}, whose origin is not given, only of {', '.join(origins)}")
        fate = "trained" if key in state.trained else "unused" if key in unused else "frozen"
        counts[name][fate] += math.prod(value.shape)
    trained = bytes_per_device(state.trained)
    device = mesh.local_devices[0]
    return Plan(
        networks=tuple(
            NetworkPlan(
                name=name, trained=of["trained"], frozen=of["frozen"], unused=of["unused"], origin=origins[name]
            )
            for name, of in counts.items()
        ),
        memory=Memory(
            trained=trained,
            frozen=bytes_per_device(state.frozen),
            optimizer=bytes_per_device(state.optimizer),
            ema=bytes_per_device(state.ema),
            gradients=trained,
            batch=bytes_per_device(batch),
        ),
        frozen_dtype=_main_dtype(state.frozen.values()),
        mesh=dict(mesh.shape),
        device_kind=device.device_kind,
        device_memory=device_memory(device),
        step_flops=step_flops,
        sample_flops=sample_flops,
    )


def with_memory(plan: Plan, compiled: jax.stages.Compiled) -> Plan:
    """The plan with the temporary memory of the compiled step; the same plan where the compiler does not tell it.

    Results that are not written over donated arguments count as temporary.
    """
    stats = compiled.memory_analysis()
    if stats is None:
        return plan
    new_outputs = max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes)
    temporary = stats.temp_size_in_bytes + new_outputs
    return dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, temporary=temporary))


def bytes_per_device(tree: Any) -> int:
    """Bytes that each device holds of a tree of arrays or `jax.ShapeDtypeStruct`s; all of what has no sharding."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
        total += math.prod(shape) * leaf.dtype.itemsize
    return total


def device_memory(device: jax.Device) -> int | None:
    """Bytes that JAX can use on a device of this process; of a CPU the machine's, in equal parts for its devices.

    None if unknown.
    """
    if device.platform == "cpu":
        if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
            return None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // jax.local_device_count("cpu")
    return (device.memory_stats() or {}).get("bytes_limit")


def check_memory(plan: Plan) -> None:
    """Whether a step can fit in a device's memory: before it is compiled, whether what it holds in any case does.

    Raises:
      ValueError: it cannot; with what takes how much, and what would take less.
    """
    memory, limit = plan.memory, plan.device_memory
    if limit is None or memory.total <= limit:
        return
    largest_first = sorted(memory.parts.items(), key=lambda part: -part[1])
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in largest_first if size)
    at_least = "at least " if memory.temporary is None else ""
    raise ValueError(
        f"a step needs {at_least}{format_bytes(memory.total)} on each device ({parts}), but {plan.device_kind} has "
        f"{format_bytes(limit)}: {'; or '.join(_savings(plan))}"
    )


def _savings(plan: Plan) -> Iterable[str]:
    """What would take less memory."""
    memory = plan.memory
    yield "share the weights over more devices (compute.fsdp)"
    if memory.frozen and plan.frozen_dtype == "float32":
        yield "keep frozen weights in bfloat16 (compute.frozen_dtype)"
    if memory.optimizer > memory.trained // 2:
        yield "use adafactor (optimizer.name)"
    if memory.ema:
        yield "keep no moving average (optimizer.ema_decay none)"
    if memory.temporary is not None:
        yield "take a smaller batch_size, or more optimizer.accumulation, or compute more again (compute.remat)"


def format_plan(plan: Plan) -> str:
    """The plan as aligned tables of several lines."""
    return "\n\n".join(filter(None, (_network_table(plan), _memory_table(plan), _work_table(plan))))


def _network_table(plan: Plan) -> str:
    rows: list[tuple[str, ...]] = [("network", "trained", "frozen", "unused", "weights from")]
    for network in plan.networks:
        counts = (network.trained, network.frozen, network.unused)
        rows.append((network.name, *map(_count, counts), network.origin))
    sums = (sum(getattr(network, field) for network in plan.networks) for field in ("trained", "frozen", "unused"))
    rows.append(("parameters in all", *map(_count, sums), ""))
    return _align(rows, left=(0, 4))


def _memory_table(plan: Plan) -> str:
    memory = plan.memory
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan.mesh.items())
    notes = {"trained weights": "float32", "frozen weights": plan.frozen_dtype}
    rows = [("on each device", "memory", f"{math.prod(plan.mesh.values())} x {plan.device_kind}, {mesh}")]
    rows += [(name, format_bytes(size), notes.get(name, "")) for name, size in memory.parts.items() if size]
    of = "" if plan.device_memory is None else f"of {format_bytes(plan.device_memory)}"
    missing = "and what activations take" if memory.temporary is None else ""
    rows.append(("in all", format_bytes(memory.total), ", ".join(filter(None, (missing, of)))))
    return _align(rows, left=(0, 2))


def _work_table(plan: Plan) -> str:
    rows = []
    if plan.sample_flops is not None:
        rows.append(("work of a sample", _flop(plan.sample_flops), ""))
    if plan.step_flops is not None:
        each = plan.step_flops / math.prod(plan.mesh.values())
        rows.append(("work of a step", _flop(plan.step_flops), f"{_flop(each)} on each device"))
    return _align(rows, left=(0, 2))


def _align(rows: Sequence[tuple[str, ...]], left: Collection[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def format_bytes(size: float) -> str:
    """A size for people, in binary units."""
    return _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _count(number: int) -> str:
    return _scaled(number, 1000, ("", "K", "M", "B")) if number else "-"


def _flop(number: float) -> str:
    return _scaled(number, 1000, ("FLOP", "KFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"))


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    # A number that would be rounded up to the base takes the next unit.
    while round(number, 1) >= base and power < len(units) - 1:
        number, power = number / base, power + 1
    return f"{number:.{1 if power else 0}f} {units[power]}".rstrip()


def _main_dtype(values: Iterable[Any]) -> str:
    """The dtype of most bytes; empty without any."""
    sizes: collections.Counter[str] = collections.Counter()
    for value in values:
        sizes[value.dtype.name] += math.prod(value.shape) * value.dtype.itemsize
    return sizes.most_common(1)[0][0] if sizes else ""
