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
    facts = {"height": height, "width": width, "frames": scale.frames, "dtype": scale.dtype}
    evaluate, abstract = evaluation(scale, height, width)
    found = calls(evaluate, abstract)
    # Those with most of the work first, should the time be over.
    ordered = sorted(found, key=lambda call: -found[call] * max(_work(call).values()))
    rounds = 2 if scale.small else ROUNDS
    pool = concurrent.futures.ThreadPoolExecutor(COMPILERS)
    whole = pool.submit(lambda: jax.jit(evaluate).lower(*abstract).compile())
    compiling = [pool.submit(_compile, call, rounds) for call in ordered]
    # Nothing is timed before: compilers try kernels on the device.
    concurrent.futures.wait([whole, *compiling], timeout=0.7 * job.left)
    pool.shutdown(wait=False, cancel_futures=True)
    _measure_whole(job, whole.result(), evaluate, abstract, facts)

    groups: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    left_out = 0
    for call, compiled in zip(ordered, compiling, strict=True):
        if job.left < 10 or not compiled.done() or compiled.cancelled():
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


def _measure_whole(
    job: Job, compiled: Any, evaluate: Callable[..., Any], abstract: tuple[Any, ...], facts: Record
) -> None:
    """The evaluation as one program."""
    arguments = jax.tree.map(random_array, abstract)

    def run_once() -> None:
        jax.block_until_ready(compiled(*arguments))

    run_once()
    taken = repeated(run_once, 2 * job.scale.repeats, job.left / 4)
    flops = count_flops(jax.make_jaxpr(evaluate)(*abstract))
    speed = flops / spread(taken)["median"] / TERA
    job.record("evaluation", **facts, seconds=spread(taken), flops=flops, teraflops_per_second=speed)


def _measure(job: Job, call: Call, count: int, compiled: Any, rounds: int) -> dict[str, float]:
    """What a kind of layer takes in all of an evaluation."""
    state, x = jax.tree.map(random_array, call.arguments)
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


def random_array(leaf: Any) -> jax.Array:
    """Numbers of the size of activations."""
    return jax.device_put(np.resize(_numbers(leaf.dtype), leaf.shape))
