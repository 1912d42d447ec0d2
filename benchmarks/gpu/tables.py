"""What was measured, as tables in Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.gpu.job import Record

TERA, GIGA, GIB = 1e12, 1e9, 2**30
# Names of the programs in the order in which they run, for people.
PROGRAMS = {
    "encode_reference": "reference", "encode_poses": "poses", "advance": "denoising", "decode": "decoding",
}  # fmt: skip
SCALES_ARE = {"cpu": "the bundled model, to see how costs grow", "tiny": "the figures mean nothing"}
MISSING = "–"


def sections(records: Sequence[Record]) -> list[str]:
    """A section for each thing that was measured."""
    makers = (_about, _end_to_end, _programs, _starts, _layers, _traced, _peers, _sweeps, _precision, _training, _left)
    return [text for text in (make(records) for make in makers) if text]


def cpu(records: Iterable[Record]) -> list[str]:
    """One guided evaluation on a CPU, against PyTorch."""
    rows = [
        (
            f"{each['frames']} frames, {each['size']}x{each['size']}, {each['threads']} threads, {each['machine']}",
            *(f"{statistics.median(each['seconds'][name]):.2f} s" for name in ("aa_jax", "PyTorch")),
            f"{each['ratio']:.2f}",
            *(_gib((each.get("peak_bytes") or {}).get(name)) for name in ("aa_jax", "PyTorch")),
        )
        for each in records
    ]
    head = ("one guided evaluation, float32", "aa_jax", "PyTorch", "ratio", "peak memory, aa_jax", "PyTorch")
    return [_section("On a CPU", head, rows)] if rows else []


def of_kind(records: Sequence[Record], kind: str) -> list[Record]:
    """The measurements of a kind."""
    return [record for record in records if record["kind"] == kind]


def limits(records: Sequence[Record]) -> Record | None:
    """What the device itself was found to do: operations and bytes per second."""
    return next(iter(of_kind(records, "limits")), None)


def shape(record: Record) -> str:
    """Of a video."""
    return f"{record['frames']} frames, {record['height']}x{record['width']}, {record['steps']} steps"


def _about(records: Sequence[Record]) -> str:
    run, found = records[0], of_kind(records, "machine")
    git = run["git"] or {}
    lines = [f"Measured on {run['date']} by `{run['command']}`, commit {(git.get('commit') or 'unknown')[:12]}."]
    for machine in found[:1]:
        versions = {**machine["versions"], **machine["packages"]}
        known = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines.append(f"{machine['devices']['count']} x {machine['devices']['kind']}; {known}.")
    limit = limits(records)
    if limit:
        lines.append(
            f"The device's own limits, measured in the same run: {_figure(limit['teraflops'])} TFLOP/s in a product of "
            f"{limit['dtype']} matrices of {limit['square']} a side, {_figure(limit['bytes_per_second'] / TERA)} TB/s "
            "in an element-wise pass."
        )
    if run["scale"] != "full":
        lines.append(f"At scale {run['scale']}: {SCALES_ARE[run['scale']]}.")
    return "## What was measured\n\n" + "\n".join(lines) + "\n"


def _end_to_end(records: Sequence[Record]) -> str:
    limit, rows = limits(records), []
    for each in of_kind(records, "end_to_end"):
        seconds, speed = each["seconds"], each["teraflops_per_second"]
        rows.append(
            (
                shape(each),
                each["dtype"],
                f"{seconds['median']:.2f} s ({seconds['least']:.2f} to {seconds['most']:.2f}, {len(seconds['all'])})",
                f"{each['frames_per_second']:.1f}",
                _figure(each["flops"] / TERA),
                _figure(speed),
                _percent(speed / limit["teraflops"] if limit else None),
                _gib(each["peak_bytes"]),
            )
        )
    head = ("video", "dtype", "time, from and to, runs", "frames/s", "TFLOP", "TFLOP/s", "of the limit", "peak memory")
    return _section("End to end", head, rows)


def _programs(records: Sequence[Record]) -> str:
    rows = []
    for each in of_kind(records, "end_to_end"):
        for name, title in PROGRAMS.items():
            if name in each["program_seconds"]:
                seconds, flops = each["program_seconds"][name], each["program_flops"][name]
                memory = each["program_memory"].get(name, {})
                rows.append(
                    (
                        shape(each),
                        title,
                        f"{seconds:.3f} s",
                        _figure(flops / TERA),
                        _figure(flops / seconds / TERA),
                        _gib(memory.get("temp_size_in_bytes")),
                    )
                )
    return _section("By program", ("video", "program", "time", "TFLOP", "TFLOP/s", "temporary memory"), rows)


def _starts(records: Sequence[Record]) -> str:
    rows = []
    titles = {"cache": "from JAX's cache", "save_compiled": "from save_compiled"}
    for each in (*of_kind(records, "cold"), *of_kind(records, "warm")):
        programs = sum(each["compile_seconds"].values())
        title = titles.get(each.get("how", ""), "compiled anew")
        rows.append((shape(each), title, f"{programs:.1f} s", f"{each['first_seconds']:.1f} s"))
    return _section("The first video", ("video", "programs", "compiling or loading", "first video in"), rows)


def _layers(records: Sequence[Record]) -> str:
    limit, evaluation = limits(records), of_kind(records, "evaluation")
    groups = sorted(of_kind(records, "group"), key=lambda group: -group["seconds"])
    total = sum(group["seconds"] for group in groups)
    rows = [
        (
            group["group"],
            f"{group['calls']}",
            _figure(group["flops"] / TERA),
            _figure(group["bytes"] / GIGA),
            f"{1e3 * group['seconds']:.2f} ms",
            _percent(group["seconds"] / total),
            _figure(group["teraflops_per_second"]),
            f"{group['bytes'] / group['seconds'] / TERA:.2f}",
            _percent(_roof(group, limit) / group["seconds"] if limit else None),
        )
        for group in groups
    ]
    head = ("layers", "calls", "TFLOP", "GB", "time", "share", "TFLOP/s", "TB/s", "of the limit")
    text = _section("A guided evaluation of the denoising UNet, layer by layer", head, rows)
    for whole in evaluation[:1] if text else ():
        text += (
            f"\nEach kind of layer was timed alone, {1e3 * total:.1f} ms in all; the evaluation as one program takes "
            f"{1e3 * whole['seconds']['median']:.1f} ms ({_figure(whole['flops'] / TERA)} TFLOP, "
            f"{_figure(whole['teraflops_per_second'])} TFLOP/s). Bytes are those that must be read "
            "and written at least.\n"
        )
    return text


def _traced(records: Sequence[Record]) -> str:
    rows = [
        (group["group"], f"{1e3 * group['seconds']:.2f} ms", _percent(group["seconds"] / total["busy_seconds"]))
        for total in of_kind(records, "traced")[:1]
        for group in sorted(of_kind(records, "traced_group"), key=lambda group: -group["seconds"])
    ]
    text = _section("The same evaluation as one program, by the profiler", ("layers", "time", "share"), rows)
    for total in of_kind(records, "traced")[:1] if text else ():
        text += (
            f"\nThe device was busy for {1e3 * total['busy_seconds']:.1f} ms of {1e3 * total['seconds']:.1f} ms. "
            "What the compiler has joined counts where it ends.\n"
        )
    return text


def _roof(group: Record, limit: Record) -> float:
    """Seconds that the device's limits allow."""
    return max(group["flops"] / limit["flops"], group["bytes"] / limit["bytes_per_second"])


def _peers(records: Sequence[Record]) -> str:
    ours = {(each["height"], each["width"]): each for each in of_kind(records, "end_to_end")}
    rows = []
    for each in of_kind(records, "peer"):
        mine = ours.get((each["height"], each["width"]))
        seconds = each["seconds"]["median"]
        ratio = seconds / mine["seconds"]["median"] if mine else None
        likeness = each["psnr_to_ours"]
        rows.append(
            (
                f"{each['peer']}, {'torch.compile' if each['compiled'] else 'eager'}",
                shape(each),
                each["dtype"],
                f"{seconds:.2f} s",
                MISSING if ratio is None else f"{ratio:.2f}",
                _gib(each["peak_bytes"]),
                MISSING if likeness is None else f"{likeness:.0f} dB",
            )
        )
    head = ("in PyTorch", "video", "dtype", "time", "times ours", "peak memory", "PSNR to ours")
    return _section("Against PyTorch", head, rows)


def _sweeps(records: Sequence[Record]) -> str:
    rows = [
        (
            shape(each),
            f"{each['seconds']:.2f} s",
            f"{each['frames_per_second']:.2f}",
            _figure(each["flops"] / each["seconds"] / TERA),
            f"{each['compile_seconds']:.0f} s",
            _gib(each["peak_bytes"]),
        )
        for of in ("sizes", "frames", "steps")
        for each in of_kind(records, "sweep")
        if each["of"] == of
    ]
    return _section("Costs", ("video", "time", "frames/s", "TFLOP/s", "compiling", "peak memory"), rows)


def _precision(records: Sequence[Record]) -> str:
    rows = []
    for each in of_kind(records, "precision"):
        products = {"highest": " (exact products)", "default": " (products as XLA likes)"}.get(each["products"], "")
        exact = each["products"] == "highest"
        likeness = MISSING if exact else f"{each['psnr_to_float32']:.1f} dB"
        rows.append((each["model"], shape(each), each["dtype"] + products, f"{each['seconds']:.2f} s", likeness))
    return _section("Precision", ("weights", "video", "dtype", "time", "PSNR to float32"), rows)


def _training(records: Sequence[Record]) -> str:
    rows = []
    for each in of_kind(records, "training"):
        what = (
            each["stage"],
            f"{each['batch_size']} x {each['frames']}, {each['height']}x{each['width']}",
            each["remat"],
        )
        if each["fits"]:
            rows.append(
                (
                    *what,
                    f"{each['seconds']['median']:.2f} s",
                    f"{each['samples_per_second']:.2f}",
                    _figure(each["teraflops_per_second"]),
                    _percent(each["mfu"]),
                    _gib(each["peak_bytes"] or each["planned_bytes"]),
                )
            )
        else:
            rows.append((*what, "does not fit", MISSING, MISSING, MISSING, _gib(each["planned_bytes"])))
    head = ("stage", "batch x frames", "computed again", "step", "samples/s", "TFLOP/s", "MFU", "memory")
    return _section("Training", head, rows)


def _left(records: Sequence[Record]) -> str:
    tests = [f"Tests on the device: {each['summary'] or each['exit_code']}." for each in of_kind(records, "tests")]
    missing = [f"{name} ({status})" for name, status in records[0]["status"].items() if status != "done"]
    lines = tests + ([f"Not measured in full: {', '.join(missing)}."] if missing else [])
    return "## Besides\n\n" + "\n".join(lines) + "\n" if lines else ""


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figure(value: float) -> str:
    """With two digits at least."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.0f} %"


def _gib(size: Any) -> str:
    return MISSING if size is None else f"{size / GIB:.1f} GiB"
