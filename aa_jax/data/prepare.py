"""From clips to a folder of records: in parallel, going on where it was interrupted, leaving out what is broken.

Work is done in `.NAME.preparing` beside the output, shard by shard (a shard is a file of each table, with the records
of `clips_per_shard` clips), and each file is renamed when it is whole. At the end the folder takes its name. A run that
is started again keeps the shards whose clips have not changed, so its result is that of a run that was never
interrupted.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from aa_jax.atomic import StrPath, aside, temporary
from aa_jax.data.builders import ClipBuilder, RecordFile, features, serialize
from aa_jax.data.clips import Clip
from aa_jax.data.encode import Shard
from aa_jax.data.folder import ClipFiles, DrawnClip, FolderClip
from aa_jax.data.records import CLIPS, FRAMES, VERSION, shard_name

REPORT = "report.json"
TABLES = (CLIPS, FRAMES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What became of a data set's clips.

    Attributes:
      clips: number of clips of each split.
      frames: number of frames of each split.
      skipped: (clip, reason) of those that are left out, in order.
      handled: (clip, note) of what was put right, in order.
    """

    clips: Mapping[str, int]
    frames: Mapping[str, int]
    skipped: tuple[tuple[str, str], ...]
    handled: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One shard to write."""

    shard: Shard
    split: str
    endings: tuple[str, ...]  # "", and "_references" where the split has them
    files: Mapping[str, Path]  # by table and ending, such as "clips" or "frames_references"
    result: Path  # what became of the clips; written when the files are whole
    fingerprint: str


def prepare(
    make_builder: Callable[[str], ClipBuilder],
    output: StrPath,
    *,
    num_workers: int = 1,
    missing: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write a data set's records, or go on with it.

    Args:
      make_builder: gives the TFDS builder of a table, "clips" or "frames".
      output: a new folder, which appears when all is done; `aa_jax.data.records.RecordSource` reads it.
      num_workers: processes; with 1, this one does the work.
      missing: clips known to be missing, and why; they are listed with those that turn out to be broken.
      progress: is told the number of clips done, and of all, at the start and after each shard.

    Returns:
      What became of the clips; it lies in `output/report.json`, too.

    Raises:
      ValueError: `output` exists, or no clip could be used.
      OSError: writing failed; started again, it goes on.
    """
    target = Path(output).absolute()
    if target.exists():
        raise ValueError(f"{output} exists already: remove it, or choose another output folder")
    work = target.with_name(f".{target.name}.preparing")
    builders = {table: make_builder(table) for table in TABLES}
    tasks = _tasks(builders[CLIPS], work)
    results = [_finished(task) for task in tasks]
    total = sum(len(task.shard.clips) for task in tasks)
    done = sum(len(task.shard.clips) for task, result in zip(tasks, results, strict=True) if result)
    progress(done, total)
    for place, result in _run({place: tasks[place] for place, result in enumerate(results) if not result}, num_workers):
        results[place] = result
        done += len(tasks[place].shard.clips)
        progress(done, total)
    report = _report(tasks, results, missing or {})
    if not any(report.clips.values()):
        shutil.rmtree(work, ignore_errors=True)
        reason = f"{report.skipped[0][0]}: {report.skipped[0][1]}" if report.skipped else "there are none"
        raise ValueError(f"no clip can be used; {reason}")
    _publish(builders, tasks, results, report, work, target)
    return report


def load_report(path: StrPath) -> Report:
    """The report of a prepared data set."""
    values = json.loads((Path(path) / REPORT).read_text(encoding="utf-8"))
    pairs = {key: tuple((entry["clip"], entry["why"]) for entry in values[key]) for key in ("skipped", "handled")}
    return Report(clips=values["clips"], frames=values["frames"], **pairs)


def _tasks(builder: ClipBuilder, work: Path) -> list[Task]:
    tasks = []
    for split, endings in builder.endings().items():
        shards = builder.shards(split)
        for number, shard in enumerate(shards):
            files = {
                table + ending: work
                / "data"
                / table
                / VERSION
                / shard_name(builder.name, split + ending, number, len(shards))
                for table in TABLES
                for ending in endings
            }
            result = work / "done" / f"{split}-{number:05d}-of-{len(shards):05d}.json"
            fingerprint = hashlib.sha256(json.dumps(_traits(shard)).encode()).hexdigest()
            task = Task(shard=shard, split=split, endings=endings, files=files, result=result, fingerprint=fingerprint)
            tasks.append(task)
    return tasks


def _traits(shard: Shard) -> Any:
    """What the records of a shard depend on."""
    return [dataclasses.asdict(shard.config), shard.drawn, [_traits_of_clip(clip) for clip in shard.clips]]


def _traits_of_clip(clip: Clip | DrawnClip) -> Any:
    if isinstance(clip, FolderClip):
        return _traits_of_files(clip.files)
    if isinstance(clip, DrawnClip):
        return [clip.name, *(_stamp(frames.path) for frames in (clip.images, clip.poses))]
    return repr(clip)


def _traits_of_files(files: ClipFiles) -> Any:
    stamps = [_stamp(path) for path in (files.images, files.poses) if path]
    return [files.name, files.fps, stamps, _traits_of_files(files.reference) if files.reference else None]


def _stamp(path: Path) -> Any:
    """Changes when the file, or a file of the folder, does."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            return [str(path), sorted(_stamp(file) for file in path.iterdir() if file.is_file())]
        return [str(path), path.stat().st_size, path.stat().st_mtime_ns]
    return [str(path)]


def _finished(task: Task) -> dict[str, Any] | None:
    """What became of a shard's clips, if it has been written and they have not changed since."""
    try:
        result = json.loads(task.result.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    whole = result["fingerprint"] == task.fingerprint and all(file.exists() for file in task.files.values())
    return result if whole else None


def write_shard(task: Task) -> dict[str, Any]:
    """Write one shard; returns what became of its clips."""
    result: dict[str, Any] = {"fingerprint": task.fingerprint, "skipped": [], "handled": []}
    result["counts"] = dict.fromkeys(task.files, 0)
    kinds = {table: features(table, drawn=task.shard.drawn) for table in TABLES}
    for path in (*task.files.values(), task.result):
        path.parent.mkdir(parents=True, exist_ok=True)
    task.result.unlink(missing_ok=True)  # of other clips, whose files are about to be replaced
    partials = {key: temporary(path) for key, path in task.files.items()}
    try:
        writers = {key: RecordFile(path) for key, path in partials.items()}
        for example in task.shard.examples(
            skipped=lambda name, why: result["skipped"].append([name, why]),
            handled=lambda name, why: result["handled"].append([name, why]),
        ):
            key = example.table + example.split
            writers[key].write(serialize(kinds[example.table], example.fields))
            result["counts"][key] += 1
        for key, writer in writers.items():
            writer.close()
            os.replace(partials[key], task.files[key])
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
    with aside(task.result) as partial:
        partial.write_text(json.dumps(result), encoding="utf-8")
    return result


def _run(tasks: Mapping[int, Task], num_workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Write shards, each as soon as a process is free."""
    if num_workers <= 1 or len(tasks) <= 1:
        yield from ((place, write_shard(task)) for place, task in tasks.items())
        return
    before = set(multiprocessing.active_children())
    pool = concurrent.futures.ProcessPoolExecutor(
        min(num_workers, len(tasks)), mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker
    )
    futures = {pool.submit(write_shard, task): place for place, task in tasks.items()}
    try:
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise OSError(
            "a worker process was ended, perhaps for want of memory: run the command again to go on, "
            "with fewer workers or a smaller short side"
        ) from error
    finally:
        # Nothing is left of these if all went well; else what they have begun is not waited for.
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _report(tasks: list[Task], results: list[Any], missing: Mapping[str, str]) -> Report:
    clips: dict[str, int] = {}
    frames: dict[str, int] = {}
    skipped, handled = list(missing.items()), []
    for task, result in zip(tasks, results, strict=True):
        clips[task.split] = clips.get(task.split, 0) + result["counts"][CLIPS]
        frames[task.split] = frames.get(task.split, 0) + result["counts"][FRAMES]
        skipped += [(name, why) for name, why in result["skipped"]]
        handled += [(name, why) for name, why in result["handled"]]
    return Report(clips=clips, frames=frames, skipped=tuple(skipped), handled=tuple(handled))


def _publish(
    builders: Mapping[str, ClipBuilder],
    tasks: list[Task],
    results: list[Any],
    report: Report,
    work: Path,
    target: Path,
) -> None:
    """Describe the records, and give the folder its name."""
    data = work / "data"
    kept = {file for task in tasks for file in task.files.values()}
    for file in data.rglob("*"):
        if file.is_file() and file not in kept:  # of an earlier run with other clips, or cut off
            file.unlink()
    for table, builder in builders.items():
        lengths: dict[str, list[int]] = {}
        for task, result in zip(tasks, results, strict=True):
            for ending in task.endings:
                lengths.setdefault(task.split + ending, []).append(result["counts"][table + ending])
        builder.write_info(data / table / VERSION, lengths)
    pairs = {key: [{"clip": name, "why": why} for name, why in getattr(report, key)] for key in ("skipped", "handled")}
    values = {"clips": report.clips, "frames": report.frames, **pairs}
    (data / REPORT).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(data, target)
    shutil.rmtree(work, ignore_errors=True)
