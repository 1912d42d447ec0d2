"""Convert published PyTorch weights to a model folder of aa_jax, or a model folder back.

    python -m tools.convert_weights moore --reference-unet reference_unet.pth --denoising-unet denoising_unet.pth \\
        --motion-module motion_module.pth --pose-guider pose_guider.pth --vae sd-vae-ft-mse/ --image-encoder
        image_encoder/ --output model/
    python -m tools.convert_weights sd --checkpoint v1-5-pruned-emaonly.safetensors --output sd15/
    python -m tools.convert_weights animatediff --motion-module mm_sd_v15_v2.ckpt --output motion/
    python -m tools.convert_weights export --model model/ --to moore --output back/
    python -m tools.convert_weights metrics --kind i3d --weights i3d_pretrained_400.pt --output metrics/i3d.safetensors
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from aa_jax import cli
from aa_jax.atomic import new_folder
from aa_jax.metrics.weights import NETWORKS
from aa_jax.weights import write_model
from tools.convert_weights.convert import convert
from tools.convert_weights.export import export
from tools.convert_weights.facts import KEPT_FILE, source_facts
from tools.convert_weights.families import FAMILIES
from tools.convert_weights.metrics import convert_metrics
from tools.convert_weights.report import conversion_report, export_table, table
from tools.convert_weights.sources import open_source, read_object
from tools.convert_weights.verify import import_oracles, verify

DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
ROLES = {
    "reference_unet": "the ReferenceNet",
    "denoising_unet": "the denoising UNet, with or without its motion modules",
    "motion_module": "the motion modules",
    "pose_guider": "the pose guider",
    "vae": "the autoencoder",
    "image_encoder": "CLIP's image tower",
    "unet": "SD-1.5's UNet",
    "checkpoint": "an original single-file checkpoint (UNet and VAE in one)",
}
ANIMATE_ANYONE = ("reference_unet", "denoising_unet", "motion_module", "pose_guider", "vae", "image_encoder")
ARGUMENTS = {
    **dict.fromkeys(("moore", "novita", "musepose", "open"), ANIMATE_ANYONE),
    "sd": ("unet", "vae", "image_encoder", "checkpoint"),
    "animatediff": ("motion_module",),
}
SUMMARY = {
    "moore": "MooreThreads/Moore-AnimateAnyone, and systems that use its files",
    "novita": "novitalabs/AnimateAnyone",
    "musepose": "TMElyralab/MusePose",
    "open": "guoqincode/Open-AnimateAnyone",
    "sd": "Stable Diffusion 1.5, whole or in parts",
    "animatediff": "AnimateDiff's motion modules v1, v2, v3",
}


def parser() -> cli.Parser:
    """The command line."""
    top = cli.Parser(prog="convert_weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="SOURCE")
    for family, roles in ARGUMENTS.items():
        command = commands.add_parser(family, help=SUMMARY[family], description=SUMMARY[family])
        optional = family == "sd"
        for role in roles:
            flag = f"--{role.replace('_', '-')}"
            required = not optional and (role != "motion_module" or family == "animatediff")
            command.add_argument(flag, type=Path, required=required, metavar="F|DIR", help=ROLES[role])
        command.add_argument(
            "--output",
            type=Path,
            required=True,
            metavar="DIR",
            help="model folder to write; must not exist or be empty",
        )
        command.add_argument(
            "--unet-config",
            type=Path,
            metavar="F",
            help="diffusers' config.json, for UNets of other sizes than SD-1.5's",
        )
        command.add_argument("--motion-config", type=Path, metavar="F", help="the inference YAML's keys as JSON")
        command.add_argument(
            "--dtype", choices=DTYPES, help="cast the weights (norms stay float32); default: as in the files"
        )
        command.add_argument(
            "--verify", action="store_true", help="compare the networks with PyTorch's on random input"
        )
        command.add_argument("--json", action="store_true", help="print what conversion.json holds, for scripts")
        if "denoising_unet" in roles:
            command.add_argument("--image-only", action="store_true", help="no motion modules: single images")
    back = commands.add_parser("export", help="write a model folder as a published system's files")
    back.add_argument("--model", type=Path, required=True, metavar="DIR")
    back.add_argument("--to", required=True, choices=FAMILIES, metavar="FAMILY", help=", ".join(FAMILIES))
    back.add_argument("--output", type=Path, required=True, metavar="DIR", help="must not exist or be empty")
    back.add_argument("--format", choices=("pth", "safetensors"), help="default: the originals'")
    metrics = commands.add_parser("metrics", help="one of the networks that metrics are taken with")
    metrics.add_argument("--kind", required=True, choices=NETWORKS, metavar="KIND", help=", ".join(NETWORKS))
    metrics.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="F",
        help="LPIPS's v0.1/alex.pth or v0.1/vgg.pth, pt_inception-2015-12-05-6726825d.pth, i3d_pretrained_400.pt, "
        "or resnet-50-kinetics.pth",
    )
    metrics.add_argument(
        "--backbone", type=Path, metavar="F", help="for LPIPS: alexnet-owt-7be5be79.pth or vgg16-397923af.pth"
    )
    metrics.add_argument(
        "--output", type=Path, required=True, metavar="F", help="FOLDER/KIND.safetensors, with _ for -; is replaced"
    )
    return top


def run_convert(args: argparse.Namespace) -> None:
    """Convert, write aside, report."""
    paths = {role: path for role in ARGUMENTS[args.command] if (path := getattr(args, role)) is not None}
    if not paths:
        raise ValueError("nothing to convert: give --unet, --vae, --image-encoder or --checkpoint")
    if "checkpoint" in paths and paths.keys() & {"unet", "vae"}:
        raise ValueError("--checkpoint holds UNet and VAE: leave out --unet and --vae, or give them without it")
    if args.verify:
        import_oracles()
    with new_folder(args.output) as partial:
        conversion = convert(
            args.command,
            {role: open_source(role, path) for role, path in paths.items()},
            unet_declared=read_object(args.unet_config),
            motion_declared=read_object(args.motion_config),
            image_only=getattr(args, "image_only", False),
            dtype=DTYPES.get(args.dtype),
        )
        facts = write_model(
            partial,
            conversion.config,
            conversion.networks,
            {"sources": source_facts(conversion)},
            {KEPT_FILE: conversion.kept},
        )
        report = conversion_report(conversion, facts)
        if not args.json:
            print(table(report))
        if args.verify:
            with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):
                report["verify"] = verify(partial, conversion)
        (partial / "conversion.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1) if args.json else f"written: {args.output}")


def run_export(args: argparse.Namespace) -> None:
    """Export and report."""
    print(export_table(export(args.model, args.to, args.output, args.format)))
    print(f"written: {args.output}")


def run_metrics(args: argparse.Namespace) -> None:
    """Convert a metric's network and report."""
    facts = convert_metrics(args.kind, args.weights, args.backbone, args.output)
    print(f"{args.kind}: {facts.tensors} tensors, {facts.parameters:,} values")
    print(f"written: {args.output}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    command = {"export": run_export, "metrics": run_metrics}.get(args.command, run_convert)
    return cli.run("convert_weights", lambda: command(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
