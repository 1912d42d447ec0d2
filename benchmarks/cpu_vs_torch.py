"""One guided evaluation of the denoising UNet on a CPU, against PyTorch, in one run with the same work, weights and
result.

    python -m benchmarks.cpu_vs_torch [--threads 2] [--size 256] [--frames 4] [--runs 5] [--output FILE.json]

SD-1.5 size with temporal layers, float32. Against diffusers' UNetMotionModel with our economies (see
`benchmarks.torch_peer`). The two take turns; quoted are medians. The weights are random. Peak memory is the highest
resident set of a process of its own for each, with its libraries, its weights and two evaluations.
"""  # fmt: skip

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

OURS, THEIRS = "aa_jax", "PyTorch"


@dataclasses.dataclass(frozen=True)
class Case:
    """What is evaluated.

    Attributes:
      config: of the denoising UNet.
      tensors: its weights, as a model folder has them, made when they are read.
      sample: noisy latents, (1, t, h, w, c).
      context: image embeddings of both halves of guidance, (2, 1, d).
      bank: by attention site, the reference's tokens (1, k, c).
    """

    config: Any
    tensors: Any
    sample: Any
    context: Any
    bank: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two, ready.

    Attributes:
      evaluate: gives the prediction, (2, t, h, w, c).
      compile_seconds: what was spent on it before.
    """

    evaluate: Callable[[], Any]
    compile_seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    args = parser().parse_args(words)
    # XLA takes its number of threads from the processors that it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    makers = {OURS: in_jax, THEIRS: in_torch}
    if args.memory_of:
        side = makers[args.memory_of](make_case(args), args.threads)
        for _ in range(2):
            side.evaluate()
        print(peak_resident())
        return 0
    peaks = {name: memory_of(name, words) for name in makers}
    case = make_case(args)
    sides = {name: make(case, args.threads) for name, make in makers.items()}
    error = relative_difference(*(side.evaluate() for side in sides.values()))
    if not error < 1e-4:
        raise SystemExit(f"the two do not agree: relative error {error:.1e}")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.runs):
        for name, side in sides.items():
            start = time.perf_counter()
            side.evaluate()
            seconds[name].append(time.perf_counter() - start)
    report(args, seconds, peaks, error, sides[OURS].compile_seconds)
    return 0


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="benchmarks.cpu_vs_torch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--threads", type=int, default=2)
    command.add_argument("--size", type=int, default=256, help="height and width in pixels")
    command.add_argument("--frames", type=int, default=4)
    command.add_argument("--runs", type=int, default=5)
    command.add_argument("--output", type=Path, help="write the figures as JSON")
    command.add_argument("--scale", choices=("full", "tiny"), default="full", help="tiny: to see that it works")
    command.add_argument("--memory-of", choices=(OURS, THEIRS), help=argparse.SUPPRESS)
    return command


def make_case(args: argparse.Namespace) -> Case:
    """Random latents, embeddings and reference."""
    import numpy as np

    from aa_jax.models.bundle import abstract_network
    from benchmarks.gpu.calls import levels, tokens
    from benchmarks.gpu.scale import SCALES
    from benchmarks.random_weights import random_tensors

    model = SCALES[args.scale].model
    config, side = model.denoising_unet, args.size // 8
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((1, 1, config.cross_attention_dim), np.float32)
    return Case(
        config=config,
        tensors=random_tensors(model, "denoising_unet"),
        sample=rng.standard_normal((1, args.frames, side, side, 4), np.float32),
        context=np.concatenate([np.zeros_like(embedding), embedding]),
        bank={
            site: rng.standard_normal((1, tokens(side, side, level), config.block_out_channels[level]), np.float32)
            for site, level in levels(abstract_network("denoising_unet", config)).items()
        },
    )


def in_jax(case: Case, threads: int) -> Side:
    """Ours."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from aa_jax.models.bundle import abstract_network
    from aa_jax.programs import executable_of
    from aa_jax.weights import build_network

    graph, shapes = nnx.split(abstract_network("denoising_unet", case.config))

    def condition(state, context, bank):
        return nnx.merge(graph, state).condition(context, bank, guided=True)

    def evaluate(state, sample, conditions):
        unet = nnx.merge(graph, state)
        return unet(sample, unet.embed_time(jnp.array([500.0])), conditions)

    # Before the weights are there, so that the compiler's memory does not add to theirs.
    start = time.perf_counter()
    project = executable_of(jax.jit(condition).lower(shapes, case.context, case.bank))
    executable = executable_of(jax.jit(evaluate).lower(shapes, case.sample, project.out_info))
    compiling = time.perf_counter() - start
    state = nnx.state(build_network("denoising_unet", case.config, case.tensors))
    conditions = project(state, case.context, case.bank)
    return Side(lambda: np.asarray(executable(state, case.sample, conditions)), compiling)


def in_torch(case: Case, threads: int) -> Side:
    """Theirs."""
    import numpy as np
    import torch

    from benchmarks.torch_peer import install_processors
    from tools.convert_weights.naming import to_torch, torch_key
    from tools.convert_weights.verify import motion_unet

    torch.set_num_threads(threads)
    state = {
        torch_key(key): torch.from_numpy(np.ascontiguousarray(to_torch(key, np.asarray(tensor))))
        for key, tensor in case.tensors.items()
    }
    unet, frames, context = motion_unet(case.config, state), case.sample.shape[1], torch.from_numpy(case.context)
    install_processors(unet, {site: torch.from_numpy(value) for site, value in case.bank.items()}, context, frames)
    sample = torch.from_numpy(np.ascontiguousarray(np.concatenate([case.sample] * 2).transpose(0, 4, 1, 2, 3)))
    repeated = context.repeat_interleave(frames, 0)

    def evaluate() -> Any:
        with torch.inference_mode():
            return unet(sample, 500, repeated).sample.numpy().transpose(0, 2, 3, 4, 1)

    return Side(evaluate)


def relative_difference(ours: Any, theirs: Any) -> float:
    import numpy as np

    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def memory_of(name: str, words: Sequence[str]) -> int:
    """Bytes that one of the two takes at most, in a process without the other."""
    command = [sys.executable, "-m", "benchmarks.cpu_vs_torch", *words, "--memory-of", name]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])


def peak_resident() -> int:
    """Bytes of this process's highest resident set; unlike `getrusage`'s, not that of the process that began it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the system does not tell a process's highest resident set")


def report(
    args: argparse.Namespace,
    seconds: dict[str, list[float]],
    peaks: dict[str, int],
    error: float,
    compiling: float,
) -> None:
    import jax
    import torch

    from aa_jax.environment import git_state

    ratios = [a / b for a, b in zip(seconds[OURS], seconds[THEIRS], strict=True)]
    ratio = statistics.median(ratios)
    print(f"{args.frames} frames, {args.size}x{args.size}, guided, float32, {args.threads} threads, {processor()}")
    for name, values in seconds.items():
        spread = f"(from {min(values):.2f} to {max(values):.2f})"
        print(f"{name:8} {statistics.median(values):6.2f} s  {spread}  peak memory {peaks[name] / 2**30:.1f} GiB")
    print(f"ratio    {ratio:6.2f}    (from {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"relative difference of the results {error:.1e}; compiled in {compiling:.0f} s")
    if args.output:
        figures: dict[str, Any] = {
            "machine": processor(),
            "git": git_state(Path(__file__).parent),
            "scale": args.scale,
            "threads": args.threads,
            "size": args.size,
            "frames": args.frames,
            "seconds": seconds,
            "ratio": ratio,
            "peak_bytes": peaks,
            "relative_difference": error,
            "compile_seconds": compiling,
            "versions": {"jax": jax.__version__, "torch": torch.__version__},
        }
        args.output.write_text(json.dumps(figures, indent=1) + "\n")


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
