"""Score videos against the truth, or a model on a data set, by a protocol that says everything else.

    python -m aa_jax.evaluate --protocol videos --predicted generated/ --truth true/ --output scores/
    python -m aa_jax.evaluate --protocol ubc-fashion --model models/moore --truth data/ubc --networks metrics/
        --output scores/
    python -m aa_jax.evaluate --protocol characters --model runs/characters/stage2/model --output scores/
    python -m aa_jax.evaluate --protocol characters --baseline warp --output scores_of_warping/

`--output` gets scores.json, report.html and a file of each clip's scores; what is there already is not computed again.
"""  # fmt: skip

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, get_args

from aa_jax import cli
from aa_jax.animator import DTYPES
from aa_jax.atomic import aside
from aa_jax.data.clips import Clip, DrawnClip, is_drawn
from aa_jax.data.folder import FolderSource
from aa_jax.data.records import RecordSource
from aa_jax.data.synthetic.source import Split, SyntheticSource
from aa_jax.environment import environment
from aa_jax.evaluation.baselines import Baseline
from aa_jax.evaluation.footage import ClipFootage, FileFootage, Footage, open_folder
from aa_jax.evaluation.generate import Generation, generate
from aa_jax.evaluation.pairs import ProblemsError, check, find_pairs
from aa_jax.evaluation.protocols import PROTOCOLS, Metric, Protocol
from aa_jax.evaluation.report import page, table, to_json
from aa_jax.evaluation.results import Results, gather
from aa_jax.evaluation.score import score_all
from aa_jax.evaluation.suite import build_suite
from aa_jax.pose.retarget import METHODS
from aa_jax.request import MODES

T = TypeVar("T")
PREDICTED, CLIPS, SCORES, REPORT = "predicted", "clips", "scores.json", "report.html"


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(
        prog="aa-jax evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--protocol", required=True, choices=list(PROTOCOLS), help="; ".join(_protocols()))
    what = command.add_mutually_exclusive_group()
    what.add_argument("--predicted", type=Path, metavar="DIR", help="videos, or folders of images, named as the truth")
    what.add_argument("--model", metavar="DIR", help="model folder or hub id, which animates the true clips' poses")
    command.add_argument(
        "--baseline", choices=get_args(Baseline),
        help="in place of the model's animations: the reference for every frame (copy), or its parts warped to the "
        "frames' keypoints (warp), both without --model; the true frames through the model's VAE (reconstruction); or "
        "animations from the next clip's reference (wrong-reference) or poses (wrong-pose)",
    )  # fmt: skip
    command.add_argument(
        "--truth", type=Path, metavar="DIR",
        help="videos or folders of images, for --model and --baseline with keypoints beside them; or what "
        "`aa_jax.data prepare` made. Synthetic characters need none",
    )  # fmt: skip
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    command.add_argument("--split", help="of a prepared data set or the characters; default: the protocol's")
    command.add_argument("--num-clips", type=int, metavar="N", help="the first ones only; default: all")
    command.add_argument("--metrics", nargs="+", choices=get_args(Metric), metavar="NAME", help="of the protocol's")
    command.add_argument(
        "--networks", type=Path, metavar="DIR",
        help="networks of LPIPS, FID, FID-VID and FVD, as `tools.convert_weights metrics` writes them",
    )  # fmt: skip
    command.add_argument("--face", type=Path, metavar="FILE.onnx", help="network of face embeddings, for identity")
    command.add_argument(
        "--flow", type=Path, metavar="DIR",
        help="optical flow of the true clips, for the warping error: NAME.npy, (frames - 1, height, width, 2)",
    )  # fmt: skip
    command.add_argument(
        "--skip-bad", action="store_true", help="leave out clips that cannot be compared; they are named in the results"
    )
    command.add_argument("--quiet", action="store_true", help="print the table and errors only")
    command.add_argument("--json", action="store_true", help="print what scores.json holds in place of the table")

    model = command.add_argument_group("with --model or --baseline (defaults are the model's)")
    model.add_argument("--num-inference-steps", type=int, metavar="N")
    model.add_argument("--guidance-scale", type=float, metavar="S")
    model.add_argument("--sampler", metavar="NAME", help="ddim (default), dpm++ or euler")
    model.add_argument("--mode", choices=MODES, default="exact", help="see aa_jax.animate, default exact")
    model.add_argument("--reuse", type=int, metavar="N", help="steps that share an evaluation of all of the network")
    model.add_argument("--seed", type=int, default=42, help="default 42")
    model.add_argument("--dtype", choices=DTYPES, default="float32", help="default float32")
    model.add_argument("--retarget", choices=METHODS, default="none", help="default none")
    model.add_argument(
        "--driver-scale", type=float, default=1.0, metavar="S",
        help="driving keypoints S times as large, as if filmed from elsewhere, before they are retargeted; default 1",
    )  # fmt: skip
    return command


def _protocols() -> list[str]:
    return [f"{protocol.name}: {protocol.clips}" for protocol in PROTOCOLS.values()]


def evaluate(args: argparse.Namespace) -> Results:
    """Do what the command's arguments say: compute what is not there yet, and write scores.json and report.html.

    Raises:
      ProblemsError: clips that cannot be compared, unless they are to be left out.
      ValueError, FileNotFoundError, OSError: a bad argument or file, or a folder that cannot be written.
    """
    protocol, generation = _protocol(args), _generation(args)
    synthetic = protocol.num_frames is not None
    suite = build_suite(protocol, networks=args.networks, face=args.face, flow=args.flow, synthetic=synthetic)
    truth: Sequence[Footage]
    predicted: Sequence[Footage]
    if generation is None:
        truth, predicted = open_truth(protocol, args.truth, args.num_clips), open_folder(args.predicted)
    else:
        truth = clips = open_clips(protocol, args.truth, args.num_clips)
        with cli.Bar("generate", "clip", quiet=args.quiet) as bar:
            predicted = generate(clips, protocol, generation, args.output / PREDICTED, progress=bar)
    pairs = find_pairs(predicted, truth, protocol)
    check(pairs, skip_bad=args.skip_bad)
    with cli.Bar("score", "clip", quiet=args.quiet) as bar:
        files, broken = score_all(pairs.pairs, protocol, suite, args.output / CLIPS, progress=bar)
    problems = (*pairs.problems, *broken)
    if not files or (broken and not args.skip_bad):
        raise ProblemsError(problems)
    card = {
        "protocol": dataclasses.asdict(protocol),
        "clips": len(files),
        "networks": suite.networks,
        "generation": generation and dataclasses.asdict(generation),
        **environment(),
    }
    results = gather(files, protocol, suite, handled=pairs.handled, problems=problems, card=card)
    for name, text in ((SCORES, to_json(results)), (REPORT, page(results, protocol, pairs.pairs))):
        with aside(args.output / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return results


def tell(results: Results, protocol: Protocol, *, as_json: bool = False) -> None:
    """Print the table or JSON, and, on stderr, what is to be known of it."""
    for line in results.problems:
        print(f"evaluate: left out: {line}", file=sys.stderr)
    if protocol.num_clips not in (None, len(results.clips)):
        print(f"evaluate: {len(results.clips)} clips, not the {protocol.num_clips} of {protocol.name}", file=sys.stderr)
    print(to_json(results) if as_json else table(results, protocol))


def _generation(args: argparse.Namespace) -> Generation | None:
    """How clips are generated; None where they are there already."""
    if args.predicted is not None:
        if args.baseline is not None:
            raise ValueError(f"--predicted and --baseline {args.baseline} are both given: choose what is scored")
        return None
    if args.model is None and args.baseline is None:
        raise ValueError("nothing to score is given: expected --predicted, --model or --baseline")
    return Generation(
        model=args.model,
        baseline=args.baseline,
        seed=args.seed,
        num_inference_steps=args.num_inference_steps,
        guidance_scale=args.guidance_scale,
        sampler=args.sampler,
        mode=args.mode,
        reuse=args.reuse,
        dtype=args.dtype,
        retarget=args.retarget,
        driver_scale=args.driver_scale,
    )


def _protocol(args: argparse.Namespace) -> Protocol:
    """The protocol, with what the arguments change of it."""
    if args.num_clips is not None and args.num_clips < 1:
        raise ValueError(f"num_clips is {args.num_clips}, expected 1 or more")
    protocol = PROTOCOLS[args.protocol]
    if args.metrics:
        strange = [name for name in args.metrics if name not in protocol.metrics]
        if strange:
            raise ValueError(f"{protocol.name} has no metric {strange[0]}, expected {', '.join(protocol.metrics)}")
        chosen = tuple(name for name in protocol.metrics if name in args.metrics)
        protocol = dataclasses.replace(protocol, metrics=chosen)
    return dataclasses.replace(protocol, split=args.split) if args.split else protocol


def open_truth(protocol: Protocol, path: Path | None, num_clips: int | None) -> Sequence[Footage]:
    """The true clips, of which nothing but the frames need be known; see `open_clips`."""
    if path is None or _prepared(path):
        return open_clips(protocol, path, num_clips)
    return _first(open_folder(path), num_clips, path)


def open_clips(protocol: Protocol, path: Path | None, num_clips: int | None) -> Sequence[ClipFootage]:
    """The true clips with their poses.

    Args:
      path: of prepared records, or a folder of videos with keypoints; None for synthetic characters, which have none.
      num_clips: the first ones only.

    Raises:
      FileNotFoundError: there is nothing there.
      ValueError: a path too many or too few, another split than there is, no poses, or fewer clips than asked for.
    """
    if protocol.num_frames is not None:
        if path is not None:
            raise ValueError(f"truth is {path}, but {protocol.name} draws its own: leave it out")
        return _characters(protocol, num_clips or protocol.num_clips or 1)
    if path is None:
        raise ValueError(f"no truth given: {protocol.name} needs a folder of videos, or a prepared data set")
    return _first(_records(protocol, path) if _prepared(path) else _videos(path), num_clips, path)


def _prepared(path: Path) -> bool:
    return (path / "clips").is_dir() and (path / "frames").is_dir()


def _first(found: Sequence[T], num_clips: int | None, path: Path) -> Sequence[T]:
    if num_clips is not None and num_clips > len(found):
        raise ValueError(f"num_clips is {num_clips}, but {path} has {len(found)}")
    return found[:num_clips]


def _characters(protocol: Protocol, num_clips: int) -> list[ClipFootage]:
    assert protocol.height and protocol.width and protocol.fps and protocol.num_frames
    if protocol.split not in get_args(Split):
        raise ValueError(f"split is {protocol.split!r}, expected one of {', '.join(get_args(Split))}")
    source = SyntheticSource(
        split=protocol.split,  # type: ignore[arg-type]
        num_clips=num_clips,
        num_frames=protocol.num_frames,
        height=protocol.height,
        width=protocol.width,
        fps=protocol.fps,
    )
    return [
        ClipFootage(clip, json.dumps(dataclasses.asdict(clip))) for clip in map(source.__getitem__, range(num_clips))
    ]


def _records(protocol: Protocol, path: Path) -> list[ClipFootage]:
    source = RecordSource(path, split=protocol.split)
    files = [str((file.name, file.stat().st_size, file.stat().st_mtime_ns)) for file in source.frames.files]
    return [ClipFootage(_posed(clip), f"{files} {clip.name}") for clip in (source[i] for i in range(len(source)))]


def _videos(path: Path) -> list[ClipFootage]:
    source = FolderSource(path)
    return [ClipFootage(_posed(source[i]), FileFootage(files).stamp) for i, files in enumerate(source.files)]


def _posed(clip: Clip | DrawnClip) -> Clip:
    if is_drawn(clip):
        raise ValueError(f"{clip.name} has drawn poses, expected keypoints")
    return clip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line on stderr for each problem."""
    args = parser().parse_args(arguments)

    def command() -> None:
        try:
            tell(evaluate(args), _protocol(args), as_json=args.json)
        except ProblemsError as error:
            for line in error.lines:
                print(f"evaluate: {line}", file=sys.stderr)
            raise

    return cli.run("evaluate", command, args.output)


if __name__ == "__main__":
    sys.exit(main())
