"""Where the time of a guided evaluation goes when it is one program: JAX's profiler, by the scopes of layers."""

import collections
import re
import tempfile
from pathlib import Path
from typing import Any

import jax

from benchmarks.gpu.calls import NAMES, evaluation, spying
from benchmarks.gpu.job import Job, seconds
from benchmarks.gpu.layers import random_array

RUNS = 3
BETWEEN = "between layers"
# These hold others, which are counted themselves.
CONTAINERS = re.compile(r"(while|call|conditional)([.\d]*)")
# An instruction's name, and the scopes that it was traced in.
INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*\bop_name="([^"]*)"', re.MULTILINE)


def run(job: Job) -> None:
    scale, (height, width) = job.scale, (job.options["height"], job.options["width"])
    evaluate, abstract = evaluation(scale, height, width)
    with spying(lambda call: None):
        lowered = jax.jit(evaluate).lower(*abstract)
    compiled = lowered.compile()
    arguments = jax.tree.map(random_array, abstract)

    def run_once() -> None:
        jax.block_until_ready(compiled(*arguments))

    run_once()
    alone = min(seconds(run_once) for _ in range(RUNS))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(RUNS):
                run_once()
        file = next(Path(folder).rglob("*.xplane.pb"))
        busy = spent(jax.profiler.ProfileData.from_file(str(file)), groups_of(compiled.as_text() or ""))
    if not busy:
        raise SystemExit("the profiler told of no instruction of the program")
    facts = {"height": height, "width": width, "frames": scale.frames, "dtype": scale.dtype}
    for group, total in busy.items():
        job.record("traced_group", group=group, seconds=total / RUNS, **facts)
    job.record("traced", seconds=alone, busy_seconds=sum(busy.values()) / RUNS, **facts)


def groups_of(text: str) -> dict[str, str]:
    """Of a compiled program's instructions, the group of layers that each belongs to."""
    found = {}
    for name, scopes in INSTRUCTION.findall(text):
        inside = [scope for scope in scopes.split("/") if scope in NAMES]
        found[name] = inside[-1] if inside else BETWEEN
    return found


def spent(profile: Any, groups: dict[str, str]) -> dict[str, float]:
    """Seconds by group, of all that the profile tells of a program's instructions; on devices where there are any."""
    planes = list(profile.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")] or planes
    lines = [line for plane in devices for line in plane.lines]
    # GPUs' streams; beside them there may be lines that sum them up.
    streams = [line for line in lines if line.name.startswith("Stream")] or lines
    found: collections.Counter[str] = collections.Counter()
    for line in streams:
        for event in line.events:
            name = dict(event.stats).get("hlo_op")
            if name is not None and not CONTAINERS.fullmatch(str(name)):
                found[groups.get(str(name), BETWEEN)] += event.duration_ns / 1e9
    return dict(found)
