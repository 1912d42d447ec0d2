"""One guided evaluation of the denoising UNet on a CPU, against PyTorch, in one run with the same work, weights and
result.

    python -m benchmarks.cpu_vs_torch [--threads 2] [--size 256] [--frames 4] [--runs 5] [--output FILE.json]

SD-1.5 size with temporal layers, float32. Against diffusers' UNetMotionModel, whose attention processors are given
our economies: reference keys and values are projected once, the unconditional half attends to its own tokens only,
cross-attention to the one image token is its constant. Only ours computes the layers before the first reference tokens
once for both halves (about 1 % of the work). The two take turns; quoted are medians. The weights are random.
"""  # fmt: skip

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    # XLA takes its number of threads from the processors that it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])

    import jax
    import jax.numpy as jnp
    import numpy as np
    import torch
    from flax import nnx

    from aa_jax.models.config import MotionConfig, UNetConfig
    from aa_jax.weights import build_network, expected_tensors
    from tools.convert_weights.naming import torch_key
    from tools.convert_weights.verify import motion_unet

    torch.set_num_threads(args.threads)
    config = UNetConfig(motion=MotionConfig())
    rng = np.random.default_rng(0)
    weights = {
        key: random_weight(rng, key, leaf.shape) for key, leaf in expected_tensors("denoising_unet", config).items()
    }
    network = build_network("denoising_unet", config, weights)
    theirs = motion_unet(
        config, {torch_key(key): torch.from_numpy(in_torch_layout(key, weights.pop(key))) for key in list(weights)}
    )

    side = args.size // 8
    sample = rng.standard_normal((1, args.frames, side, side, 4), np.float32)
    embedding = rng.standard_normal((1, 1, config.cross_attention_dim), np.float32)
    context = np.concatenate([np.zeros_like(embedding), embedding])
    tokens = {name: (side // 2**level) ** 2 for name, level in site_levels(network)}
    channels = {name: site.norm.scale.shape[0] for name, site in network.sites()}
    bank = {name: rng.standard_normal((1, tokens[name], channels[name]), np.float32) for name in tokens}

    graph, state = nnx.split(network)
    conditions = jax.jit(lambda s, c, b: nnx.merge(graph, s).condition(c, b, guided=True))(state, context, bank)

    def evaluate(state, sample, conditions):
        unet = nnx.merge(graph, state)
        return unet(sample, unet.embed_time(jnp.array([500.0])), conditions)

    start = time.perf_counter()
    compiled = jax.jit(evaluate).lower(state, sample, conditions).compile()
    compile_seconds = time.perf_counter() - start

    install_processors(theirs, bank, torch.from_numpy(context), args.frames)
    torch_sample = torch.from_numpy(np.ascontiguousarray(np.concatenate([sample] * 2).transpose(0, 4, 1, 2, 3)))
    torch_context = torch.from_numpy(context).repeat_interleave(args.frames, 0)

    def run_torch():
        with torch.inference_mode():
            return theirs(torch_sample, 500, torch_context).sample

    runs = {"aa_jax": lambda: compiled(state, sample, conditions).block_until_ready(), "PyTorch": run_torch}
    results = {name: run() for name, run in runs.items()}
    ours, reference = np.asarray(results["aa_jax"]), results["PyTorch"].numpy().transpose(0, 2, 3, 4, 1)
    error = float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))
    if not error < 1e-4:
        raise SystemExit(f"the two do not agree: relative error {error:.1e}")

    seconds = {name: [] for name in runs}
    for _ in range(args.runs):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    report(args, seconds, error, compile_seconds, {"jax": jax.__version__, "torch": torch.__version__})


def report(
    args: argparse.Namespace, seconds: dict[str, list[float]], error: float, compiling: float, versions: dict[str, str]
) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = [a / b for a, b in zip(seconds["aa_jax"], seconds["PyTorch"], strict=True)]
    ratio = statistics.median(ratios)
    print(f"{args.frames} frames, {args.size}x{args.size}, guided, float32, {args.threads} threads, {processor()}")
    for name, values in seconds.items():
        print(f"{name:8} {medians[name]:6.2f} s  (from {min(values):.2f} to {max(values):.2f})")
    print(f"ratio    {ratio:6.2f}    (from {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"relative difference of the results {error:.1e}; compiled in {compiling:.0f} s")
    if args.output:
        figures: dict[str, Any] = {
            "machine": processor(),
            "threads": args.threads,
            "size": args.size,
            "frames": args.frames,
            "seconds": seconds,
            "ratio": ratio,
            "relative_difference": error,
            "compile_seconds": compiling,
            "versions": versions,
        }
        args.output.write_text(json.dumps(figures, indent=1) + "\n")


def random_weight(rng: Any, key: str, shape: tuple[int, ...]) -> Any:
    """Weights that keep activations near one: norms near the identity, all else scaled by its inputs."""
    import numpy as np

    from aa_jax.models.temporal import position_table

    if key.endswith(".pe"):
        return position_table(*shape[1:])
    values = rng.standard_normal(shape, np.float32)
    if key.endswith(".kernel"):
        return values / np.float32(np.sqrt(np.prod(shape[:-1])))
    return 1 + np.float32(0.1) * values if key.endswith(".scale") else np.float32(0.02) * values


def in_torch_layout(key: str, values: Any) -> Any:
    import numpy as np

    if not key.endswith(".kernel"):
        return values
    return np.ascontiguousarray(values.T if values.ndim == 2 else values.transpose(3, 2, 0, 1))


def site_levels(network: Any) -> list[tuple[str, int]]:
    """Attention sites with their level of resolution, 0 the highest."""
    deepest = len(network.down_blocks) - 1
    levels = []
    for name, _ in network.sites():
        kind, *index = name.split(".")
        level = {"down_blocks": lambda i: i, "up_blocks": lambda i: deepest - i}.get(kind, lambda _: deepest)
        levels.append((name, level(int(index[0]) if kind != "mid_block" else 0)))
    return levels


def install_processors(model: Any, bank: dict[str, Any], context: Any, frames: int) -> None:
    """Give the spatial attentions of a UNetMotionModel the reference, and the economies that ours has."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    class WithReference:
        """Self-attention; the second half of the rows attends to the reference's keys and values too."""

        def __init__(self, attention, feature):
            with torch.inference_mode():
                self.reference = [self.split(attention, layer(feature)) for layer in (attention.to_k, attention.to_v)]

        @staticmethod
        def split(attention, x):
            return x.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

        def __call__(self, attention, hidden_states, encoder_hidden_states=None, **_):
            layers = (attention.to_q, attention.to_k, attention.to_v)
            query, key, value = (self.split(attention, layer(hidden_states)) for layer in layers)
            half = len(query) // 2
            plain = F.scaled_dot_product_attention(query[:half], key[:half], value[:half])
            shared = [x.expand(half, -1, -1, -1) for x in self.reference]
            joined = [torch.cat([own[half:], ref], 2) for own, ref in zip((key, value), shared, strict=True)]
            out = torch.cat([plain, F.scaled_dot_product_attention(query[half:], *joined)])
            return attention.to_out[0](out.transpose(1, 2).flatten(2))

    class Constant:
        """Cross-attention to one token, computed once."""

        def __init__(self, attention):
            with torch.inference_mode():
                self.value = attention.to_out[0](attention.to_v(context)).repeat_interleave(frames, 0)

        def __call__(self, attention, hidden_states, encoder_hidden_states=None, **_):
            return self.value.expand(-1, hidden_states.shape[1], -1)

    for name, feature in bank.items():
        block = model.get_submodule(f"{name}.transformer_blocks.0")
        block.attn1.set_processor(WithReference(block.attn1, torch.from_numpy(feature)))
        block.attn2.set_processor(Constant(block.attn2))


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
