"""The machine, and its own limits: what a large matrix product and a large copy reach here and now."""

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import jax
import jax.numpy as jnp

from aa_jax.environment import environment
from aa_jax.training.flops import TERA, peak_flops
from benchmarks.gpu.job import Job, Record, repeated, spread

PACKAGES = ("torch", "diffusers", "transformers", "triton", "nvidia-cudnn-cu13", "jax-cuda13-plugin")
# Timed together, so that the host's calls do not count.
ROUNDS = 20


def run(job: Job) -> None:
    device = jax.devices()[0]
    job.record(
        "machine",
        **environment(),
        packages=_versions(),
        processors=os.cpu_count(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        system=f"{platform.system()} {platform.machine()}",
        driver=_driver(),
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        device_memory=device.memory_stats(),
        data_sheet_flops=peak_flops(device, job.scale.dtype),
    )
    job.record("limits", **limits(job.scale.square, job.scale.copied, job.scale.dtype))


def limits(square: int, copied: int, dtype: str) -> Record:
    """Operations per second of a product of matrices on random numbers, and bytes per second, read and written, of an
    element-wise pass: the roof that all other figures are under."""
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (square, square), dtype) for key in keys)
    long = jnp.ones(copied // 4, jnp.float32)

    @jax.jit
    def products(a: jax.Array, b: jax.Array) -> jax.Array:
        # Scaled, so that numbers stay of one size from product to product.
        return jax.lax.fori_loop(0, ROUNDS, lambda _, x: x @ b * jnp.asarray(square**-0.5, dtype), a)

    @functools.partial(jax.jit, donate_argnums=0)
    def passes(long: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, ROUNDS, lambda _, x: jax.lax.optimization_barrier(x * 1.0001), long)

    def multiply() -> None:
        products(a, b).block_until_ready()

    def move() -> None:
        nonlocal long
        long = passes(long).block_until_ready()

    multiply()
    move()
    product, transfer = (spread(repeated(each, 5)) for each in (multiply, move))
    return {
        "square": square,
        "dtype": dtype,
        "product_seconds": product,
        "flops": 2 * square**3 * ROUNDS / product["median"],
        "teraflops": 2 * square**3 * ROUNDS / product["median"] / TERA,
        "copied_bytes": copied,
        "copy_seconds": transfer,
        "bytes_per_second": 2 * copied * ROUNDS / transfer["median"],
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _driver() -> str | None:
    """What the driver says of the GPU."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit", "--format=csv"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
