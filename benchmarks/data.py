"""Frames per second of the data's parts: renderer, drawing, readers, and the pipeline from each source.

    python -m benchmarks.data [--height 256] [--width 192] [--seconds 10] [--workers 2] [--output FILE.json]

Clips are rendered, exported as a folder of videos with keypoints, and prepared as records, all in a temporary folder.
"source" reads the frames of the pipeline's own samples, in its order, one after the other; "pipeline" makes the batches
(read, cut to size, draw poses) in worker processes. The two take turns. Quoted are the medians of frames read or made
per second, the reference images among them, and of the turns' quotients.
"""  # fmt: skip

import argparse
import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np

from aa_jax.data.__main__ import main as prepare_main
from aa_jax.data.clips import ClipSource
from aa_jax.data.folder import FolderSource
from aa_jax.data.pipeline import LoaderConfig, Samples, load
from aa_jax.data.records import RecordSource
from aa_jax.data.sample import SampleConfig, choose_frames
from aa_jax.data.synthetic import SyntheticSource, export
from aa_jax.pose.draw import draw_poses

BATCH_SIZE = 8
# Items before each turn; more than the pipeline makes ahead.
WARM_UP = 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--frames", type=int, default=48, help="of each clip")
    parser.add_argument("--workers", type=int, default=2, help="processes of the pipeline")
    parser.add_argument("--turns", type=int, default=3, help="of each part")
    parser.add_argument("--seconds", type=float, default=4, help="of a turn")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    size = {"height": args.height, "width": args.width}
    source = SyntheticSource(split="train", num_clips=args.clips, num_frames=args.frames, **size)
    figures: dict[str, float] = {}

    def report(what: str, frames_per_second: Sequence[float]) -> None:
        figures[what] = float(np.median(frames_per_second))
        print(f"{what:32} {figures[what]:8.1f} frames/s", flush=True)

    for height, width in ((args.height, args.width), (96, 72)):
        sized = SyntheticSource(split="train", num_clips=args.clips, num_frames=args.frames, height=height, width=width)
        rendered = renderer(sized, args.frames)
        report(f"renderer {height}x{width}", [per_second(rendered, args.seconds) for _ in range(args.turns)])
    drawn = drawing(source, size)
    report(f"drawing {args.height}x{args.width}", [per_second(drawn, args.seconds) for _ in range(args.turns)])
    with tempfile.TemporaryDirectory() as folder:
        videos, records = Path(folder, "videos"), Path(folder, "records")
        export(videos, source)
        prepare_main(["prepare", "folder", str(videos), "--output", str(records), "--quiet"])
        sources: dict[str, ClipSource] = {
            "synthetic": source,
            "folder": FolderSource(videos),
            "records": RecordSource(records),
        }
        for kind, num_frames in (("single", 1), ("clip", 24)):
            sample = SampleConfig(**size, frames=kind, num_frames=num_frames)
            for name, each in sources.items():
                turns = [in_turn(each, sample, args.workers, args.seconds) for _ in range(args.turns)]
                alone, made = np.transpose(turns)
                report(f"{name}, {num_frames} frames, source", alone)
                report(f"{name}, {num_frames} frames, pipeline", made)
                print(f"{'':32} {np.median(made / alone):8.2f} of the source")
    if args.output:
        args.output.write_text(json.dumps(vars(args) | {"output": None, "frames_per_second": figures}, indent=1) + "\n")


def per_second(steps: Iterator[int], seconds: float) -> float:
    """Frames per second of an iterator over numbers of frames made, after what it made ahead."""
    for _ in range(WARM_UP):
        next(steps)
    frames, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        frames += next(steps)
    return frames / passed


def in_turn(source: ClipSource, sample: SampleConfig, workers: int, seconds: float) -> tuple[float, float]:
    """Of the source and of the pipeline, whose workers are gone when the next turn begins."""
    alone = per_second(one_after_the_other(source, sample), seconds)
    batches = pipeline(source, sample, workers)
    made = per_second(batches, seconds)
    batches.close()
    for child in multiprocessing.active_children():
        child.join()
    return alone, made


def renderer(source: ClipSource, frames: int) -> Iterator[int]:
    for index in itertools.count():
        yield len(source[index % len(source)].frames(range(frames)))


def drawing(source: ClipSource, size: dict[str, int]) -> Iterator[int]:
    for keypoints in itertools.cycle([source[index].keypoints for index in range(4)]):
        yield len(draw_poses(keypoints, **size))


def one_after_the_other(source: ClipSource, sample: SampleConfig) -> Iterator[int]:
    samples = Samples(source, sample, seed=0)
    for index in itertools.count():
        clip, rng = samples.clip(index)
        reference, targets = choose_frames(clip, sample, rng)
        yield len(clip.reference.frames([reference])) + len(clip.frames(targets))


def pipeline(source: ClipSource, sample: SampleConfig, workers: int) -> Generator[int, None, None]:
    for batch in load(source, sample, LoaderConfig(batch_size=BATCH_SIZE, num_workers=workers)):
        yield len(batch["pose"]) * (1 + sample.num_frames)


if __name__ == "__main__":
    main()
