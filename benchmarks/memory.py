"""What an animation takes of memory, as its compiled programs say, and how budgets are kept to.

    python -m benchmarks.memory [--sizes 256x256 512x512] [--frames 24] [--budgets 4] [--output FILE.json]
        [--run 8x256x256]

Plans take the weights' shapes alone, float32, 24 frames in one window, guided. Of each size: the plan with all frames
at a time, with one, and with budgets in equal steps between the two. `--run` also animates so many frames of that
size, twice, two steps each, with random weights: the seconds of the second time, and the process's highest resident set
beside the plan.
"""  # fmt: skip

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from aa_jax.animator import Animator
from aa_jax.environment import git_state
from aa_jax.memory import MemoryPlan, in_units
from aa_jax.models.bundle import abstract_network
from aa_jax.programs import Programs
from aa_jax.request import Request
from aa_jax.run import Run
from benchmarks.cpu_vs_torch import peak_resident, processor
from benchmarks.gpu.job import seconds
from benchmarks.gpu.model import make_animator, make_inputs
from benchmarks.gpu.scale import SCALES, Scale

STEPS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    scale = SCALES[args.scale]
    figures: dict[str, Any] = {
        "machine": processor(), "git": git_state(Path(__file__).parent), "scale": scale.name, "frames": args.frames,
        "sizes": {},
    }  # fmt: skip
    for height, width in args.sizes:
        figures["sizes"][f"{height}x{width}"] = grid(scale, args.frames, height, width, args.budgets)
    if args.run:
        figures["run"] = animate(scale, *args.run)
    if args.output:
        args.output.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument(
        "--sizes", nargs="*", type=numbers("HxW"), default=[(256, 256), (512, 512)], metavar="HxW",
        help="of the plans, default 256x256 512x512; none with no value",
    )  # fmt: skip
    command.add_argument("--frames", type=int, default=24, metavar="N", help="of the plans, default 24")
    command.add_argument(
        "--budgets", type=int, default=4, metavar="N", help="between the least and the most, default 4"
    )
    command.add_argument("--run", type=numbers("TxHxW"), metavar="TxHxW", help="frames, height and width to animate")
    command.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    command.add_argument(
        "--scale",
        choices=sorted(SCALES),
        default="full",
        help="cpu: of the bundled model's size; tiny: to see that it works",
    )
    return command


def numbers(form: str) -> Callable[[str], tuple[int, ...]]:
    """What reads as many numbers as the form has, such as HxW."""

    def read(text: str) -> tuple[int, ...]:
        words = text.split("x")
        if len(words) != len(form.split("x")) or not all(word.isdigit() and int(word) for word in words):
            raise argparse.ArgumentTypeError(f"{text!r} is not {form}, positive numbers with an x between")
        return tuple(map(int, words))

    return read


def grid(scale: Scale, frames: int, height: int, width: int, budgets: int) -> list[dict[str, Any]]:
    """Plans without a budget, with one frame at a time, and with budgets between."""
    split = {name: nnx.split(abstract_network(name, getattr(scale.model, name))) for name in scale.model.networks}
    programs = Programs(scale.model, {name: graph for name, (graph, _) in split.items()})
    weights = {name: state for name, (_, state) in split.items()}

    def plan(budget: int | None = None, **options: Any) -> MemoryPlan:
        request = Request.of(scale.model, height=height, width=width, window_length=frames, **options)
        run = Run(programs=programs, weights=weights, request=request, num_frames=frames, offload=False)
        return run.within(budget).plan()

    def row(budget: int | None, found: MemoryPlan) -> dict[str, Any]:
        limit = "none" if budget is None else in_units(budget)
        print(f"{frames} frames {height}x{width}, budget {limit}: {found}", flush=True)
        return {"budget": budget, "total": found.total, "weights": found.weights, "programs": found.programs}

    most, least = plan(), plan(layer_frames=1, frame_batch=1)
    between = np.linspace(least.total, most.total, budgets).astype(int).tolist()
    return [row(None, most), *(row(budget, plan(budget)) for budget in between)]


def animate(scale: Scale, frames: int, height: int, width: int) -> dict[str, float]:
    """How long an animation takes, its plan, and the highest resident set before its weights are there and after it."""
    before = peak_resident()
    animator: Animator = make_animator(scale, dtype="float32")
    reference, poses = make_inputs(frames, height, width)
    options = {"height": height, "width": width, "num_inference_steps": STEPS}
    animator(reference, poses, **options)
    taken = seconds(lambda: animator(reference, poses, **options))
    plan, peak = animator.plan(frames, **options).total, peak_resident()
    print(
        f"{frames} frames {height}x{width}: {taken:.1f} s, plan {in_units(plan)}, highest resident set {in_units(peak)}"
    )
    print(f"of which the libraries had {in_units(before)} before the weights were there")
    return {"seconds": taken, "plan": plan, "peak_resident": peak, "before": before}


if __name__ == "__main__":
    sys.exit(main())
