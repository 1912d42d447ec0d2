"""Where the time of a guided evaluation of the denoising UNet goes: every kind of layer alone, at its true shapes."""

import collections
import concurrent.futures
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aa_jax.training.flops import TERA, count_flops
from benchmarks.gpu.calls import Call, calls, evaluation
from benchmarks.gpu.job import Job, Record, repeated, spread
from benchmarks.random_weights import NUMBERS

# Calls in one program, so that the host's do not count.
ROUNDS = 16
COMPILERS = 8


def run(job: Job) -> bool:
    """Records the whole evaluation, then each kind of layer, and at last the groups."""
    scale, (height, width) = job.scale, (job.options["height"], job.options["width"])
    evaluate, abstract = evaluation(scale, height, width)
    found = calls(evaluate, abstract)
    rounds = 2 if scale.small else ROUNDS
    with concurrent.futures.ThreadPoolExecutor(COMPILERS) as pool:
        # The largest first: they take longest to compile.
        ordered = sorted(found, key=lambda call: -_work(call)["flops"])
        compiling = [pool.submit(_compile, call, rounds) for call in ordered]
        whole = jax.jit(evaluate).lower(*abstract).compile()
        arguments = jax.tree.map(_random, abstract)
        taken = repeated(lambda: jax.block_until_ready(whole(*arguments)), 1)
        taken = repeated(lambda: jax.block_until_ready(whole(*arguments)), 2 * scale.repeats, job.left / 4)
        facts = {"height": height, "width": width, "frames": scale.frames, "dtype": scale.dtype}
        flops = count_flops(jax.make_jaxpr(evaluate)(*abstract))
        job.record(
            "evaluation", **facts, seconds=spread(taken), flops=flops,
            teraflops_per_second=flops / spread(taken)["median"] / TERA,
        )  # fmt: skip
        del arguments, whole
        groups: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        left_out = 0
        for call, compiled in zip(ordered, compiling, strict=True):
            if job.left < 10:
                compiled.cancel()
                left_out += found[call]
                continue
            try:
                groups[call.group].update(_measure(job, call, found[call], compiled.result(), rounds))
            except Exception as error:  # one kind of layer is not to end the others
                job.record("layer_failed", group=call.group, name=call.name, error=str(error)[:300])
                left_out += found[call]
    for group, sums in groups.items():
        job.record(
            "group", group=group, **facts, **sums,
            teraflops_per_second=sums["flops"] / sums["seconds"] / TERA,
            operations_per_byte=sums["flops"] / sums["bytes"],
        )  # fmt: skip
    job.record("groups", **facts, left_out=left_out, seconds=sum(sums["seconds"] for sums in groups.values()))
    return not left_out


def _measure(job: Job, call: Call, count: int, compiled: Any, rounds: int) -> dict[str, float]:
    """What a kind of layer takes in all of an evaluation."""
    state, x = jax.tree.map(_random, call.arguments)
    x = jax.block_until_ready(compiled(state, x))
    taken = []
    for _ in range(3):
        taken += repeated(lambda: jax.block_until_ready(compiled(state, jnp.copy(x))), 1)
    each = min(taken) / rounds
    work = _work(call)
    shapes = [leaf.shape for leaf in jax.tree.leaves(call.arguments)]
    job.record("layer", group=call.group, name=call.name, shapes=shapes, count=count, seconds=each, **work)
    return {"calls": count, "seconds": count * each, **{name: count * value for name, value in work.items()}}


def _compile(call: Call, rounds: int) -> Any:
    """A program that makes the call again and again, each time on an input that depends on the last result."""

    def again(state: Any, x: Any) -> Any:
        def once(_: Any, x: Any) -> Any:
            result = jax.lax.optimization_barrier(call.function(state, x))
            first = jax.tree.leaves(result)[0].ravel()[0]
            # Nearly nothing, but the compiler cannot know.
            return x.at[(0,) * x.ndim].add((first * 1e-30).astype(x.dtype))

        return jax.lax.fori_loop(0, rounds, once, x)

    return jax.jit(again, donate_argnums=1).lower(*call.arguments).compile()


def _work(call: Call) -> Record:
    """Operations, and bytes that are read and written at the least, of one call."""
    traced: Callable[..., Any] = jax.make_jaxpr(call.function, return_shape=True)
    jaxpr, result = traced(*call.arguments)
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves((call.arguments, result)))
    return {"flops": count_flops(jaxpr), "bytes": size}


@functools.cache
def _numbers(dtype: np.dtype) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(NUMBERS, np.float32).astype(dtype)


def _random(leaf: Any) -> jax.Array:
    """Numbers of the size of activations."""
    return jax.device_put(np.resize(_numbers(leaf.dtype), leaf.shape))
