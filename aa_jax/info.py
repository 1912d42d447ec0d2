"""What a model folder holds: its family, networks and sizes, how it is run, whether its files are whole, its scores.

    aa-jax info model/
    aa-jax info owner/name@revision --json

Files' sizes are compared with the manifest; --checksums reads the files too. What does not fit is told in one line,
with exit code 2.
"""  # fmt: skip

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aa_jax import cli
from aa_jax.training.card import read_scores
from aa_jax.weights import CARD, load_config, load_manifest, resolve, verify_checksums, verify_sizes

# Facts of a network's file that the manifest has.
COLUMNS = ("parameters", "size", "dtype", "tensors", "sha256")


def info(model: str, *, checksums: bool = False) -> dict[str, Any]:
    """The facts, as JSON values: `folder`, `family`, `lacking`, `networks` (file facts by name), `parameters`, `bytes`,
    `downscale`, `latent_channels`, `image_size`, `max_window_length`, `inference`, `files` and `scores` (of the card:
    name to metric to value).

    Args:
      model: a model folder or hub id.
      checksums: compare the files' SHA-256 with the manifest's, not their sizes alone.

    Raises:
      FileNotFoundError, ValueError: no model folder, or a file of it is missing or not what was written.
    """
    folder = resolve(model)
    config, manifest = load_config(folder), load_manifest(folder)
    (verify_checksums if checksums else verify_sizes)(folder)
    networks = {name: _facts(manifest["files"], name) for name in config.networks}
    motion = config.denoising_unet and config.denoising_unet.motion
    card = folder / CARD
    return {
        "folder": str(folder),
        "family": config.family,
        "lacking": config.lacking,
        "networks": networks,
        "parameters": sum(facts["parameters"] for facts in networks.values()),
        "bytes": sum(facts["size"] for facts in networks.values()),
        "downscale": config.downscale,
        "latent_channels": config.vae and config.vae.latent_channels,
        "image_size": config.image_encoder and config.image_encoder.image_size,
        "max_window_length": motion and motion.max_length,
        "inference": dataclasses.asdict(config.inference),
        "files": "checksums fit the manifest" if checksums else "sizes fit the manifest",
        "scores": read_scores(card.read_text(encoding="utf-8")) if card.is_file() else {},
    }


def _facts(files: dict[str, Any], name: str) -> dict[str, Any]:
    facts = files.get(f"{name}.safetensors")
    if facts is None:
        raise ValueError(f"{name}.safetensors is not in the manifest of its folder: convert the model again")
    return {column: facts[column] for column in COLUMNS}


def describe(facts: dict[str, Any]) -> str:
    """The facts in lines."""
    lines = [f"model     {facts['folder']}, family {facts['family']}"]
    if facts["lacking"]:
        lines.append(f"lacks     {facts['lacking']}: it cannot animate by itself")
    lines += [
        f"files     {facts['files']}",
        f"networks  {facts['parameters']:,} parameters, {facts['bytes']:,} bytes",
        *(f"  {name:16} {each['parameters']:>15,} {each['dtype']}" for name, each in facts["networks"].items()),
        f"sizes     a latent is {facts['downscale']}x{facts['downscale']} pixels",
    ]
    sizes = {
        "channels of latents": facts["latent_channels"],
        "the image encoder's square": facts["image_size"],
        "frames of a window at most": facts["max_window_length"],
    }
    lines += [f"  {what:27} {number}" for what, number in sizes.items() if number is not None]
    lines += ["run by    (inference in config.json)"]
    lines += [f"  {name:27} {'-' if value is None else value}" for name, value in facts["inference"].items()]
    for name, scores in facts["scores"].items():
        lines += [f"scores    {name}", *(f"  {metric:27} {value:g}" for metric, value in scores.items())]
    return "\n".join(lines)


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(prog="aa-jax info", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("model", metavar="MODEL", help="model folder, or owner/name[@revision] on the Hub")
    command.add_argument("--checksums", action="store_true", help="read the files and compare their SHA-256 too")
    command.add_argument("--json", action="store_true", help="print JSON, for scripts")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)

    def command() -> None:
        facts = info(args.model, checksums=args.checksums)
        print(json.dumps(facts, indent=1) if args.json else describe(facts))

    return cli.run("info", command, Path(args.model))


if __name__ == "__main__":
    sys.exit(main())
