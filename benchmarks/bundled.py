"""Makes the model that comes with the package: trained in its three stages, scored, and exported with its card.

    python -m benchmarks.bundled --workdir runs/characters_bundled --output model/

What is there already is not done again, so that the same command goes on where it was interrupted. On two CPU cores it
takes hours.
"""  # fmt: skip

import argparse
from pathlib import Path

from aa_jax.bundled import BUNDLED
from benchmarks.modules import call

STAGES = ("vae", "stage1", "stage2")
# Characters that training did not see, in its families of motion; its characters in others; both; and driven by others.
SPLITS = ("identity", "motion", "both", "driving")
NOTES = Path(__file__).with_name("bundled.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="of the stages")
    parser.add_argument("--output", type=Path, default=BUNDLED, metavar="DIR", help="new model folder")
    parser.add_argument("--num-clips", type=int, default=64, help="of each split that are scored, default 64")
    args = parser.parse_args()
    starts = {
        "stage1": ["--start.vae", args.workdir / "vae" / "model"],
        "stage2": ["--start.model", args.workdir / "stage1" / "model"],
    }
    commands = {
        stage: [
            "aa_jax.train", "--config", f"configs/characters_bundled_{stage}.py", "--workdir", args.workdir / stage,
            *starts.get(stage, []),
        ]
        for stage in STAGES
    }  # fmt: skip
    for stage in STAGES:
        if not (args.workdir / stage / "model").is_dir():
            call(*commands[stage])
    # What is scored is what is shipped.
    export, stored = [*commands["stage2"], "--export"], ["--store", "float16"]
    model = args.workdir / "exported"
    if not model.is_dir():
        call(*export, model, *stored)
    scores = []
    for split in SPLITS:
        folder = args.workdir / "scores" / split
        scores.append(folder / "scores.json")
        call(
            "aa_jax.evaluate", "--protocol", "characters-small", "--model", model,
            "--split", split, "--num-clips", args.num_clips, "--output", folder,
            *(["--retarget", "bones"] if split == "driving" else []),
        )  # fmt: skip
    call(*export, args.output, *stored, "--scores", *scores, "--notes", NOTES, "--licence", "apache-2.0")


if __name__ == "__main__":
    main()
