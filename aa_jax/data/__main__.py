"""Make a data set to train on: frames as encoded images and poses as keypoints, in files with fast random access.

    python -m aa_jax.data prepare folder videos/ --output data/mine
    python -m aa_jax.data prepare ubc_fashion downloads/ubc/ --output data/ubc_fashion --num-workers 8
    python -m aa_jax.data prepare tiktok TikTok_dataset/ --test 335-340 --output data/tiktok
    python -m aa_jax.data prepare synthetic --num-clips 200 --height 256 --width 192 --output data/synthetic

And encode its frames once for all training runs that neither mirror nor recolour them:

    python -m aa_jax.data cache --model models/moore --records data/mine --height 784 --width 512 --output data/cache

A run that was interrupted goes on where it was when it is started again. Videos that are broken are left out and
listed, also in report.json in the output folder.
"""  # fmt: skip

import argparse
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aa_jax import cli

# Lines of a summary; the report has them all.
LISTED = 20


def parser() -> cli.Parser:
    """The command line."""
    command = cli.Parser(prog="aa-jax data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = command.add_subparsers(dest="command", required=True, metavar="prepare|cache")
    prepare = commands.add_parser(
        "prepare",
        prog="aa-jax data prepare",
        help="make a data set to train on",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sets = prepare.add_subparsers(dest="data_set", required=True, metavar="folder|ubc_fashion|tiktok|synthetic")

    folder = sets.add_parser("folder", prog="aa-jax data prepare folder", help="any folder of videos with keypoints")
    folder.add_argument(
        "source", type=Path, metavar="DIR",
        help="NAME.mp4 (or a folder of images NAME/) with NAME.npz or NAME_kps.mp4 beside it, in any depth; or a meta "
        "JSON of Moore-AnimateAnyone's tools. Folders train/, val/ and test/ are splits",
    )  # fmt: skip

    ubc = sets.add_parser(
        "ubc_fashion", prog="aa-jax data prepare ubc_fashion", help="UBC Fashion, downloaded if need be"
    )
    ubc.add_argument(
        "source", type=Path, metavar="DIR", help="where the videos are, or are downloaded to, in train/ and test/"
    )
    ubc.add_argument("--no-download", action="store_true", help="use the videos that are there")
    ubc.add_argument("--lists-url", metavar="URL", help="where fashion_train.txt and fashion_test.txt are, if moved")

    tiktok = sets.add_parser("tiktok", prog="aa-jax data prepare tiktok", help="the TikTok dancing videos")
    tiktok.add_argument("source", type=Path, metavar="DIR", help="the folder with 00001 to 00340")
    tiktok.add_argument(
        "--test", required=True, metavar="335-340|FILE",
        help="test set: the last six sequences, or the videos in DisCo's TSV file of images, which are unpacked into "
        "DIR where it lacks them. The numbers of the two do not compare",
    )  # fmt: skip

    synthetic = sets.add_parser("synthetic", prog="aa-jax data prepare synthetic", help="rendered characters")
    synthetic.add_argument(
        "--splits", nargs="+", default=["train"], choices=("train", "identity", "motion", "both"), metavar="SPLIT",
        help="train (default), and with held-out characters (identity), motions (motion) or both",
    )  # fmt: skip
    synthetic.add_argument("--num-clips", type=int, default=200, metavar="N", help="of each split, default 200")
    synthetic.add_argument("--num-identities", type=int, metavar="N", help="characters in a split, default one a clip")
    synthetic.add_argument("--num-frames", type=int, default=48, metavar="N", help="of a clip, default 48")
    synthetic.add_argument("--height", type=int, default=256, metavar="PIXELS", help="default 256")
    synthetic.add_argument("--width", type=int, default=192, metavar="PIXELS", help="default 192")
    synthetic.add_argument("--fps", type=float, default=12.0, help="frames per second, default 12")
    synthetic.add_argument("--moving-camera", action="store_true", help="the camera pans and zooms")

    for one in (folder, ubc, tiktok, synthetic):
        _add_common(one, videos=one is not synthetic)
    _add_cache(commands)
    return command


def _add_cache(commands: Any) -> None:
    cache = commands.add_parser("cache", prog="aa-jax data cache", help="encode a data set's frames with a model, once")
    cache.add_argument("--model", required=True, metavar="DIR", help="a model folder, or a hub id")
    clips = cache.add_mutually_exclusive_group(required=True)
    clips.add_argument("--records", type=Path, metavar="DIR", help="a data set that `prepare` wrote")
    clips.add_argument("--folder", type=Path, metavar="DIR", help="a folder of videos with keypoints")
    cache.add_argument("--split", default="train", metavar="SPLIT", help="of the records, default train")
    cache.add_argument("--height", type=int, required=True, metavar="PIXELS", help="of samples")
    cache.add_argument("--width", type=int, required=True, metavar="PIXELS", help="of samples")
    cache.add_argument("--resize", choices=("crop", "letterbox"), default="crop", help="default crop")
    dtypes = ("float32", "bfloat16")
    cache.add_argument("--dtype", choices=dtypes, default="float32", help="of weights and computation, default float32")
    cache.add_argument("--frame-batch", type=int, default=16, metavar="N", help="frames at once, default 16")
    cache.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder, or one to go on with")
    cache.add_argument("--quiet", action="store_true", help="print errors only")


def _add_common(command: argparse.ArgumentParser, *, videos: bool) -> None:
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    if videos:
        poses = command.add_argument_group("videos without keypoints: extract them with DWPose")
        poses.add_argument("--detector", type=Path, metavar="FILE", help="yolox_l.onnx")
        poses.add_argument("--pose-model", type=Path, metavar="FILE", help="dw-ll_ucoco_384.onnx")
    records = command.add_argument_group("records")
    default = "jpeg" if videos else "png"
    records.add_argument("--image-format", choices=("jpeg", "png"), default=default, help=f"default {default}")
    records.add_argument("--quality", type=int, default=95, metavar="Q", help="of JPEG, default 95")
    records.add_argument(
        "--short-side", type=int, metavar="PIXELS", help="shrink larger frames; default: keep their size"
    )
    records.add_argument("--min-frames", type=int, default=2, metavar="N", help="skip clips with fewer, default 2")
    records.add_argument("--clips-per-shard", type=int, default=16, metavar="N", help="clips in a file, default 16")
    workers = os.cpu_count() or 1 if videos else 1
    command.add_argument("--num-workers", type=int, default=workers, metavar="N", help=f"processes, default {workers}")
    command.add_argument("--quiet", action="store_true", help="print errors only")


def run_cache(args: argparse.Namespace) -> None:
    """`cache`. What can be checked without much work is checked first."""
    # JAX and the networks take seconds to import, and --help does not need them.
    from aa_jax.data import encode_frames
    from aa_jax.data.cache import write_cache
    from aa_jax.data.sample import SampleConfig
    from aa_jax.data.source import Kind, SourceConfig, open_source
    from aa_jax.models.config import needed
    from aa_jax.weights import load_config, resolve

    kind: Kind = "records" if args.records else "folder"
    place: Path = args.records or args.folder
    with cli.warnings_as_lines("data"):
        source = open_source(SourceConfig(kind=kind, path=str(place), split=args.split))
    model = resolve(args.model)
    made_with, config = encode_frames.made_with(model), load_config(model)
    clip_size = needed(config.image_encoder, "image encoder").image_size
    sample = SampleConfig(height=args.height, width=args.width, resize=args.resize, clip_size=clip_size)
    downscale = needed(config.vae, "VAE").downscale
    for name in ("height", "width"):
        if getattr(args, name) % downscale:
            raise ValueError(f"{name} is {getattr(args, name)}, but the model's VAE takes multiples of {downscale}")
    write_cache(
        args.output,
        source,
        sample,
        encode_frames.FrameEncoder(model, dtype=args.dtype),
        made_with=made_with,
        how={"dtype": args.dtype, "data": f"{kind} {place.resolve()}", "split": args.split},
        frame_batch=args.frame_batch,
        progress=lambda clips: tqdm(
            clips, "encode", total=len(source), unit="clip", disable=args.quiet, file=sys.stderr
        ),
    )
    if not args.quiet:
        print(f"cached    {args.output}: {len(source)} clips")


def run_prepare(args: argparse.Namespace) -> None:
    """`prepare`. What can be checked without much work is checked first."""
    # TFDS takes a second to import, and --help does not need it.
    from aa_jax.data.encode import RecordConfig
    from aa_jax.data.prepare import prepare

    records = RecordConfig(
        image_format=args.image_format,
        quality=args.quality,
        short_side=args.short_side,
        min_frames=args.min_frames,
        clips_per_shard=args.clips_per_shard,
    )
    if args.num_workers < 1:
        raise ValueError(f"num-workers is {args.num_workers}, expected 1 or more")
    if args.output.exists():
        raise ValueError(f"{args.output} exists already: remove it, or choose another output folder")
    builder, splits, missing = SETS[args.data_set](args)
    with cli.Bar("prepare", "clip", quiet=args.quiet) as bar:
        make = functools.partial(_make, builder, splits, records, args.output)
        report = prepare(make, args.output, num_workers=args.num_workers, missing=missing, progress=bar)
    if not args.quiet:
        print(summary(report, args.output))


def _make(builder: Any, splits: Any, records: Any, output: Path, table: str) -> Any:
    return builder(splits, records, config=table, data_dir=output.absolute())


def summary(report: Any, output: Path) -> str:
    """What became of the clips, in lines."""
    lines = [f"prepared  {output}"]
    lines += [
        f"split     {split}: {clips} clips, {report.frames[split]} frames" for split, clips in report.clips.items()
    ]
    for what, entries in (("skipped", report.skipped), ("handled", report.handled)):
        lines.append(f"{what}   {len(entries)}")
        lines += [f"  {name}: {why}" for name, why in entries[:LISTED]]
        if len(entries) > LISTED:
            lines.append(f"  and {len(entries) - LISTED} more, see {output / 'report.json'}")
    return "\n".join(lines)


def _folder(args: argparse.Namespace) -> Any:
    from aa_jax.data.builders import VideoFolder
    from aa_jax.data.folder import find_clips

    return VideoFolder, *_with_poses(args, _by_split(find_clips(args.source)), {})


def _by_split(clips: Sequence[Any]) -> dict[str, list[Any]]:
    """By the top folders, where they are named like splits."""
    tops = [files.name.partition("/")[0] for files in clips]
    if not clips or not set(tops) <= {"train", "val", "validation", "test"} or any("/" not in c.name for c in clips):
        return {"train": list(clips)}
    return {top: [c for c, of in zip(clips, tops, strict=True) if of == top] for top in dict.fromkeys(tops)}


def _ubc_fashion(args: argparse.Namespace) -> Any:
    from aa_jax.data import ubc_fashion

    lists, failed = None, {}
    try:
        url = args.lists_url or ubc_fashion.LISTS
        lists = ubc_fashion.load_lists(args.source, url=url, download=not args.no_download)
    except (ubc_fashion.CannotFetchError, FileNotFoundError) as error:
        if not any((args.source / split).is_dir() for split in ubc_fashion.SPLITS):
            raise
        print(f"the videos in train/ and test/ are used, without the lists: {error}", file=sys.stderr)
    if lists is not None and not args.no_download:
        with cli.Bar("download", "video", quiet=args.quiet) as bar:
            failed = ubc_fashion.download_videos(args.source, lists, progress=bar)
    splits, missing = ubc_fashion.find_splits(args.source, lists)
    return ubc_fashion.UbcFashion, *_with_poses(args, splits, missing | failed)


def _tiktok(args: argparse.Namespace) -> Any:
    from aa_jax.data import tiktok

    if args.test == "335-340":
        return tiktok.Tiktok, *_with_poses(args, tiktok.split_last(tiktok.find_videos(args.source)), {})
    names = tiktok.read_disco(args.test)
    tiktok.unpack_disco(args.test, args.source)
    return tiktok.Tiktok, *_with_poses(args, *tiktok.split_disco(tiktok.find_videos(args.source), names))


def _synthetic(args: argparse.Namespace) -> Any:
    from aa_jax.data.builders import SyntheticCharacters
    from aa_jax.data.synthetic import SyntheticSource

    names = ("num_clips", "num_identities", "num_frames", "height", "width", "fps", "moving_camera")
    options = {name: getattr(args, name) for name in names}
    return SyntheticCharacters, {split: SyntheticSource(split=split, **options) for split in args.splits}, {}


SETS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "folder": _folder,
    "ubc_fashion": _ubc_fashion,
    "tiktok": _tiktok,
    "synthetic": _synthetic,
}


def _with_poses(args: argparse.Namespace, splits: Mapping[str, Sequence[Any]], missing: Mapping[str, str]) -> Any:
    """The sources of the clips that have poses, extracted where they have none, and the clips that are missing."""
    from aa_jax.data.folder import FilesSource

    if (args.detector is None) != (args.pose_model is None):
        raise ValueError("--detector and --pose-model go together: give both, or neither")
    without = [files for clips in splits.values() for files in clips if files.poses is None]
    lost = dict(missing)
    if without and args.detector:
        from aa_jax.data.poses import extract_missing
        from aa_jax.pose.dwpose import DWPose

        with cli.Bar("extract", "clip", quiet=args.quiet) as bar:
            splits, broken = extract_missing(splits, DWPose(args.detector, args.pose_model), progress=bar)
        lost |= broken
    elif without:
        hint = "give --detector and --pose-model to extract them, or run `python -m aa_jax.pose extract` first"
        if len(without) == sum(map(len, splits.values())):
            raise ValueError(f"none of {len(without)} clips in {args.source} has keypoints: {hint}")
        lost |= {files.name: f"it has no keypoints: {hint}" for files in without}
        splits = {split: [files for files in clips if files.poses] for split, clips in splits.items()}
    return {split: FilesSource(clips) for split, clips in splits.items()}, lost


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 2 after one line on stderr."""
    args = parser().parse_args(arguments)
    run = {"prepare": run_prepare, "cache": run_cache}[args.command]
    return cli.run("data", lambda: run(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
