"""What a model trained on the synthetic characters makes of characters that it has not seen.

    python -m benchmarks.characters --config configs/characters_cpu_stage2.py --model runs/characters_cpu/stage2/model
        [--clips 32] [--sheet sheet.png] [--output FILE.json]

PSNR in decibels, averaged over clips, over whole frames and over the foreground (where the character is, or where the
reference shows it): of the generated frames, of the reference in place of every frame, of frames generated from another
character's reference, and of the true frames through the VAE, which no model on its latents can surpass by much.
"""  # fmt: skip

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from aa_jax.models.config import Policy
from aa_jax.training.config import Start, load_train_config
from aa_jax.training.networks import Networks
from aa_jax.training.override import override
from aa_jax.training.start import find_sources, load_params
from aa_jax.training.validation import Validator, copied, figures, sheet


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder of the configuration's networks")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--sheet-clips", type=int, default=12)
    parser.add_argument("--sheet", type=Path, help="write a picture: reference; poses, results and truth below")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser.parse_known_args()


def main() -> None:
    args, changes = arguments()
    config = override(load_train_config(args.config), changes)
    validation = dataclasses.replace(config.validation, num_clips=args.clips)
    config = dataclasses.replace(config, start=Start(model=args.model), validation=validation)
    networks = Networks.of(config.model, Policy())
    sources = find_sources(config.model, config.start, networks)
    params = load_params(config, sources, set(), lambda _, value: jax.numpy.asarray(value))
    validator = Validator(config, networks)
    results: dict[str, list] = {
        "generated": [],
        "copy of the reference": [],
        "wrong reference": [],
        "through the VAE": [],
    }
    for index, clip in enumerate(validator.clips):
        other = validator.clips[(index + 1) % len(validator.clips)]
        results["generated"].append(validator.generate(params, clip))
        results["copy of the reference"].append(copied(clip))
        results["wrong reference"].append(validator.generate(params, clip, reference=other))
        results["through the VAE"].append(validator.give_back(params, clip))
    table = {}
    for name, found in results.items():
        each = [figures(frames, clip) for frames, clip in zip(found, validator.clips, strict=True)]
        table[name] = {figure: float(np.mean([one[figure] for one in each])) for figure in each[0]}
        print(f"{name:24}" + "".join(f"{figure} {value:6.2f}   " for figure, value in table[name].items()), flush=True)
    if args.sheet:
        shown = slice(0, args.sheet_clips)
        Image.fromarray(sheet(validator.clips[shown], results["generated"][shown])).save(args.sheet)
    if args.output:
        args.output.write_text(json.dumps({"clips": args.clips, "psnr": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
