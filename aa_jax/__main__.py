"""One command for all: `aa-jax VERB ...`, or `python -m aa_jax VERB ...`. Only the verb's own module is imported."""

import dataclasses
import importlib
import os
import sys
from collections.abc import Sequence

import aa_jax

PROGRAM = "aa-jax"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verb:
    """A command of the package.

    Attributes:
      module: has `main(arguments) -> exit code`; `python -m MODULE` is the same command.
      summary: a line of the help.
    """

    module: str
    summary: str


GROUPS: dict[str, dict[str, Verb]] = {
    "Animate": {
        "animate": Verb(module="aa_jax.animate", summary="a reference image and a pose sequence to a video"),
        "batch": Verb(module="aa_jax.batch", summary="many animations from a list of jobs, on all devices"),
        "demo": Verb(module="aa_jax.demo", summary="animate bundled characters: nothing to download"),
        "web": Verb(module="aa_jax.web.__main__", summary="a page in the browser, for people on this machine"),
    },
    "Models": {
        "info": Verb(module="aa_jax.info", summary="what a model folder or hub id holds, and whether it is whole"),
        "compile": Verb(module="aa_jax.compile", summary="programs compiled ahead of time, loaded in seconds"),
        "export": Verb(module="aa_jax.export", summary="programs and weights that run without this package"),
        "convert": Verb(module="tools.convert_weights.__main__", summary="published PyTorch weights, and back"),
    },
    "Poses and data": {
        "pose": Verb(module="aa_jax.pose.__main__", summary="find, draw, retarget and smooth keypoints"),
        "data": Verb(module="aa_jax.data.__main__", summary="make a data set to train on"),
    },
    "Train and judge": {
        "train": Verb(module="aa_jax.train", summary="train a model, or go on; export a checkpoint"),
        "evaluate": Verb(module="aa_jax.evaluate", summary="score videos, or a model on a benchmark"),
    },
}
VERBS = {name: verb for group in GROUPS.values() for name, verb in group.items()}
EXAMPLES = """\
  aa-jax animate --model model/ --reference person.png --pose dance.mp4 --output out.mp4 --resize crop
  aa-jax pose extract dance.mp4 --output dance.npz
  aa-jax info model/ --json
"""


def usage() -> str:
    """The help: verbs in groups, and examples."""
    lines = [f"usage: {PROGRAM} VERB ...\n", "Animate a still image of a character (Animate Anyone in JAX).\n"]
    for title, verbs in GROUPS.items():
        lines += [f"{title}:", *(f"  {name:10}{verb.summary}" for name, verb in verbs.items()), ""]
    lines += ["Examples:", EXAMPLES]
    lines += [f"{PROGRAM} VERB --help tells a verb's options, {PROGRAM} --version the version."]
    lines += ["Exit code 0: done; 2: what was asked for could not be done, and a line on stderr says why."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; its exit code, or 2 after one line on stderr."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or [""]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"{PROGRAM} {aa_jax.__version__}")
        return 0
    if name not in VERBS:
        given = f"{name!r} given" if name else "no verb given"
        print(f"{PROGRAM}: {given}, expected one of {', '.join(VERBS)} (see --help)", file=sys.stderr)
        return 2
    if os.getcwd() not in sys.path:  # as `python -m` has it: configurations import one another from there
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(VERBS[name].module)
    except ModuleNotFoundError as error:
        from aa_jax import cli

        print(f"{PROGRAM} {name}: {cli.missing(error)}", file=sys.stderr)
        return 2
    return module.main(rest)


if __name__ == "__main__":
    sys.exit(main())
