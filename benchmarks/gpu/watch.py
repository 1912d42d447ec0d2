"""What an animator's programs do while it animates."""

import collections
import functools
import time
from collections.abc import Callable
from typing import Any

import jax

from aa_jax.animator import Animator
from aa_jax.training.flops import count_flops

MEMORY = ("argument_size_in_bytes", "output_size_in_bytes", "alias_size_in_bytes", "temp_size_in_bytes")


class Watch:
    """Counts and times the calls of an animator's programs.

    Attributes:
      calls: of each program, so far.
      seconds: of each, where `waiting`.
      waiting: for each call's result, as its time is not known before; off where the whole is to be timed.
    """

    def __init__(self, animator: Animator):
        self.calls: collections.Counter[str] = collections.Counter()
        self.seconds: collections.Counter[str] = collections.Counter()
        self.waiting = False
        self._programs = animator.programs.named
        self._arguments: dict[str, tuple[Any, Any]] = {}
        for name, program in self._programs.items():
            program.compile = functools.partial(self._compile, name, program.compile)  # type: ignore[method-assign]

    def restart(self, *, waiting: bool) -> None:
        """Count and time from here."""
        self.calls.clear()
        self.seconds.clear()
        self.waiting = waiting

    def _compile(self, name: str, compile_program: Any, *args: Any, **options: Any) -> Any:
        compiled = compile_program(*args, **options)
        self._arguments[name] = jax.tree.map(_shape, (args, options))

        return _Watched(compiled, functools.partial(self._call, name, compiled))

    def _call(self, name: str, compiled: jax.stages.Compiled, *args: Any, **options: Any) -> Any:
        self.calls[name] += 1
        start = time.perf_counter()
        result = compiled(*args, **options)
        if self.waiting:
            jax.block_until_ready(result)
        self.seconds[name] += time.perf_counter() - start
        return result

    def flops(self, steps: int) -> dict[str, float]:
        """Operations of the calls so far, by program; what runs step by step is counted as a loop of one step."""
        found = {}
        for name, calls in self.calls.items():
            args, options = self._arguments[name]
            traced = self._programs[name].function.trace(*args, **{n: v for n, v in options.items() if n != "cut"})
            found[name] = count_flops(traced.jaxpr) * calls * (steps if name == "advance" else 1)
        return found

    def memory(self) -> dict[str, dict[str, int]]:
        """Bytes that each program takes, as the compiler says; of several of a program, the largest."""
        found: dict[str, dict[str, int]] = {}
        for name in self.calls:
            every = (each.memory_analysis() for each in self._programs[name].executables.values())
            sizes = [{field: getattr(stats, field) for field in MEMORY} for stats in every if stats is not None]
            if sizes:
                found[name] = max(sizes, key=lambda size: size["temp_size_in_bytes"])
        return found

    def compile_seconds(self) -> dict[str, float]:
        """Time spent on compiling or loading, by program."""
        return {name: program.compile_seconds for name, program in self._programs.items() if program.compile_seconds}


class _Watched:
    """A compiled program that is called through something else."""

    def __init__(self, compiled: jax.stages.Compiled, call: Callable[..., Any]):
        self._compiled = compiled
        self._call = call

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._call(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf
