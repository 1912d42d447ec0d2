"""What an animation costs by its steps, its frames and its size."""

import time
from collections.abc import Iterator
from typing import Any

import jax

from benchmarks.gpu.job import Job, seconds
from benchmarks.gpu.model import make_animator, make_inputs, peak_memory
from benchmarks.gpu.watch import Watch

# How much longer than the last animation's programs the next one's may take to compile.
COMPILING = 1.5


def run(job: Job) -> bool:
    """Records an animation after another, the cheapest first, as long as there is time."""
    animator = make_animator(job.scale)
    jax.block_until_ready(animator.leaves())
    watch = Watch(animator)
    complete, compiling, rate = True, 0.0, 0.0
    for options in _points(job):
        # Frames, places and steps: nearly all of the work grows with their product.
        work = options["frames"] * options["height"] * options["width"] * (options["steps"] + 1)
        if COMPILING * compiling + 2 * rate * work > job.left:
            complete = False
            continue
        compiling, taken = _measure(job, animator, watch, **options)
        rate = taken / work
    return complete


def _points(job: Job) -> Iterator[dict[str, int]]:
    scale = job.scale
    if job.options["of"] == "sizes":
        for height, width in sorted((*scale.swept_sizes, *scale.sizes), key=lambda size: size[0] * size[1]):
            yield {"height": height, "width": width, "frames": scale.frames, "steps": scale.steps}
        return
    height, width = scale.sizes[-1]
    if job.options["of"] == "steps":
        for steps in scale.swept_steps:
            yield {"height": height, "width": width, "frames": scale.frames, "steps": steps}
    else:
        for frames in scale.swept_frames:
            yield {"height": height, "width": width, "frames": frames, "steps": scale.swept_frames_steps}


def _measure(
    job: Job, animator: Any, watch: Watch, *, height: int, width: int, frames: int, steps: int
) -> tuple[float, float]:
    """Seconds that were spent on compiling, and on an animation after that."""
    reference, pose = make_inputs(frames, height, width)
    options = {
        "height": height, "width": width, "num_inference_steps": steps, "guidance_scale": job.scale.guidance,
        "window_batch": 1,
    }  # fmt: skip
    before = animator.programs.compile_seconds
    start = time.perf_counter()
    # All that a video of this shape needs, without the video.
    animator.compile(frames, **options)
    compiling = animator.programs.compile_seconds - before
    watch.restart(waiting=True)
    first = seconds(lambda: animator(reference, pose, **options))
    taken, again = first, job.left > 3 * first
    if again:
        watch.restart(waiting=True)
        taken = seconds(lambda: animator(reference, pose, **options))
    flops = watch.flops(steps)
    job.record(
        "sweep", of=job.options["of"], height=height, width=width, frames=frames, steps=steps, dtype=job.scale.dtype,
        warmed_up=again, seconds=taken, compile_seconds=compiling, program_seconds=dict(watch.seconds),
        flops=sum(flops.values()), program_memory=watch.memory(), peak_bytes=peak_memory(),
        frames_per_second=frames / taken,
    )  # fmt: skip
    return time.perf_counter() - start - taken, taken
