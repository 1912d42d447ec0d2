"""An animation from the reference image to the video, the first time and again, and all it takes."""

import shutil
import time

import jax
import numpy as np

from aa_jax import compilation_cache
from aa_jax.training.flops import TERA
from benchmarks.gpu.job import Job, repeated, seconds, spread
from benchmarks.gpu.model import make_animator, make_inputs, make_noise, peak_memory
from benchmarks.gpu.watch import Watch


def run(job: Job) -> None:
    """Also leaves, for `start` and the peers, what was compiled and the video, in `job.work`."""
    scale, (height, width) = job.scale, (job.options["height"], job.options["width"])
    size = f"{height}x{width}"
    # Empty, so that the first run compiles.
    cache, compiled = job.work / f"cache_{size}", job.work / f"compiled_{size}"
    for folder in (cache, compiled):
        shutil.rmtree(folder, ignore_errors=True)
    jax.config.update("jax_compilation_cache_dir", str(cache))

    start = time.perf_counter()
    animator = make_animator(scale)
    jax.block_until_ready(animator.leaves())
    loading = time.perf_counter() - start
    watch = Watch(animator)
    reference, pose = make_inputs(scale.frames, height, width)
    noise = make_noise(scale, scale.frames, height, width)
    options = {
        "height": height, "width": width, "num_inference_steps": scale.steps, "guidance_scale": scale.guidance,
        "latents": noise,
    }  # fmt: skip

    def animate() -> np.ndarray:
        return animator(reference, pose, **options)

    facts = {"height": height, "width": width, "frames": scale.frames, "steps": scale.steps, "dtype": scale.dtype}
    first = seconds(animate)
    job.record("cold", **facts, loading_seconds=loading, first_seconds=first, compile_seconds=watch.compile_seconds())
    watch.restart(waiting=False)
    taken = repeated(animate, scale.repeats, job.left / 2)
    watch.restart(waiting=True)
    np.save(job.work / f"video_{size}.npy", animate())
    flops = watch.flops(scale.steps)
    median = spread(taken)["median"]
    job.record(
        "end_to_end",
        **facts,
        seconds=spread(taken),
        program_seconds=dict(watch.seconds),
        program_calls=dict(watch.calls),
        program_flops=flops,
        flops=sum(flops.values()),
        teraflops_per_second=sum(flops.values()) / median / TERA,
        frames_per_second=scale.frames / median,
        program_memory=watch.memory(),
        weight_bytes=sum(leaf.nbytes for leaf in animator.leaves()),
        peak_bytes=peak_memory(),
    )
    start = time.perf_counter()
    with compilation_cache.off():
        sizes = animator.save_compiled(compiled)
    job.record("saved", **facts, seconds=time.perf_counter() - start, bytes=sum(sizes.values()), programs=len(sizes))
