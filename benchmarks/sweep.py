"""What guidance, the number of steps and the modes are worth: a model on held-out characters, once for every value.

    python -m benchmarks.sweep --model runs/characters_bundled/stage2/model --output runs/sweep
        [--guidance-scales 1 1.4 2 3.5] [--steps 1 2 4 8 20] [--modes exact fast turbo] [--num-clips 32]

Each is swept with all else the model's own; the modes, `exact` among them, as for a model of the paper's 20 steps of
DDIM. Each value is a run of `aa_jax.evaluate` in a folder of its own, so that the same command goes on where it was
interrupted. `--output` gets table.md and table.json.
"""  # fmt: skip

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import cast

from aa_jax.evaluation.protocols import PROTOCOLS, Metric
from aa_jax.request import MODES, Mode
from benchmarks.modules import call
from benchmarks.table import Row, legend, load_results, markdown, merged, write

METRICS: tuple[Metric, ...] = (
    "psnr", "foreground_psnr", "background_psnr", "ssim", "emblem_bits", "pose", "warping_error", "flicker",
)  # fmt: skip
EXACT = {"sampler": "ddim", "num_inference_steps": 20}  # section 4.1
OPTIONS: dict[str, Callable[[str], dict[str, object]]] = {
    "guidance": lambda scale: {"guidance_scale": scale},
    "steps": lambda steps: {"num_inference_steps": steps},
    "mode": lambda mode: {**EXACT, **MODES[cast(Mode, mode)]},
}


def row(args: argparse.Namespace, what: str, value: str) -> Row:
    """One value's evaluation."""
    folder = args.output / what / value
    options = [(f"--{name.replace('_', '-')}", each) for name, each in OPTIONS[what](value).items()]
    call(
        "aa_jax.evaluate", "--protocol", args.protocol, "--model", args.model, "--num-clips", args.num_clips,
        "--metrics", *METRICS, "--output", folder, "--quiet", *itertools.chain(*options),
    )  # fmt: skip
    return merged([load_results(folder)], METRICS)


def main() -> None:
    synthetic = [name for name, protocol in PROTOCOLS.items() if protocol.num_frames]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--protocol", choices=synthetic, default="characters-small")
    parser.add_argument("--guidance-scales", type=float, nargs="*", default=[1, 1.4, 2, 3.5], metavar="S")
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 2, 4, 8, 20], metavar="N")
    parser.add_argument("--modes", choices=MODES, nargs="*", default=[*MODES])
    parser.add_argument("--num-clips", type=int, default=32)
    args = parser.parse_args()
    values = {
        "guidance": [f"{scale:g}" for scale in args.guidance_scales], "steps": map(str, args.steps), "mode": args.modes,
    }  # fmt: skip
    tables = {what: {f"{what} {value}": row(args, what, value) for value in each} for what, each in values.items()}
    sections = [f"## {what}\n\n{markdown(table, METRICS)}" for what, table in tables.items() if table]
    text = "\n".join([legend(METRICS, {}, args.num_clips), *sections])
    write(args.output, text, {"model": args.model, "num_clips": args.num_clips, "sweeps": tables})


if __name__ == "__main__":
    main()
