"""How long it is to the first video where the programs were compiled before: by JAX's cache, and by `save_compiled`."""

import jax

from benchmarks.gpu.job import Job, seconds
from benchmarks.gpu.model import make_animator, make_inputs
from benchmarks.gpu.watch import Watch


def run(job: Job) -> None:
    """After `end_to_end`, of which the cache and the programs are."""
    scale, (height, width) = job.scale, (job.options["height"], job.options["width"])
    size = f"{height}x{width}"
    cache, compiled = job.work / f"cache_{size}", job.work / f"compiled_{size}"
    if not compiled.is_dir():
        raise SystemExit(f"nothing was compiled in {job.work}: run the part end_to_end_{size} with the same --work")
    reference, pose = make_inputs(scale.frames, height, width)
    options = {
        "height": height, "width": width, "num_inference_steps": scale.steps, "guidance_scale": scale.guidance
    }  # fmt: skip
    loaded = make_animator(scale)
    jax.block_until_ready(loaded.leaves())
    for kind in ("cache", "save_compiled"):
        # The same weights, and nothing compiled.
        animator = loaded.with_inference()
        watch = Watch(animator)
        if kind == "cache":
            jax.config.update("jax_compilation_cache_dir", str(cache))
        else:
            jax.config.update("jax_enable_compilation_cache", False)
            animator.load_compiled(compiled)
        first = seconds(lambda animator=animator: animator(reference, pose, **options))
        again = seconds(lambda animator=animator: animator(reference, pose, **options))
        job.record(
            "warm", how=kind, height=height, width=width, frames=scale.frames, steps=scale.steps,
            first_seconds=first, next_seconds=again,
            compile_seconds=watch.compile_seconds(), programs_compiled=animator.programs.compiled,
        )  # fmt: skip
