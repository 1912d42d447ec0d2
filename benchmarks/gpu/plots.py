"""What was measured, as pictures."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

from benchmarks.gpu.job import Record
from benchmarks.gpu.tables import GIB, TERA, limits, of_kind

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the choice of a backend

SIZE = (6, 4)


def pictures(runs: Sequence[Sequence[Record]]) -> dict[str, Any]:
    """Figures by name, of what there is; all of the first run but for the last, which compares runs."""
    if not runs:
        return {}
    first = runs[0]
    found = {
        "roofline": _roofline(first),
        "cost_by_frames": _cost(first, "frames"),
        "cost_by_size": _cost(first, "sizes"),
        "cost_by_steps": _cost(first, "steps"),
        "training_by_devices": _devices(runs),
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def _roofline(records: Sequence[Record]) -> Any:
    """What each group of layers reaches, and the evaluation as a whole, under what the device can."""
    limit = limits(records)
    groups = [group for group in of_kind(records, "group") if group["flops"]]
    if limit is None or not groups:
        return None
    figure, axis = plt.subplots(figsize=(8, 5))
    intensities = np.array([group["operations_per_byte"] for group in groups])
    span = np.geomspace(intensities.min() / 3, max(intensities.max(), limit["flops"] / limit["bytes_per_second"]) * 3)
    roof = np.minimum(span * limit["bytes_per_second"], limit["flops"]) / TERA
    axis.plot(span, roof, color="0.3", label="the device's limits, measured")
    longest = max(group["seconds"] for group in groups)
    for number, group in enumerate(sorted(groups, key=lambda group: -group["seconds"])):
        axis.scatter(
            group["operations_per_byte"], group["teraflops_per_second"], s=30 + 300 * group["seconds"] / longest,
            color=f"C{number % 10}", marker="os"[number // 10 % 2], alpha=0.8,
            label=f"{group['group']}, {1e3 * group['seconds']:.1f} ms",
        )  # fmt: skip
    for whole in of_kind(records, "evaluation")[:1]:
        axis.axhline(
            whole["teraflops_per_second"], color="0.6", linestyle="--", linewidth=1,
            label=f"the evaluation as one program, {1e3 * whole['seconds']['median']:.1f} ms",
        )  # fmt: skip
    axis.set(
        xscale="log", yscale="log", xlabel="operations per byte that must move", ylabel="TFLOP/s",
        title=f"Layers of the denoising UNet, {groups[0]['frames']} frames, "
        f"{groups[0]['height']}x{groups[0]['width']}, {groups[0]['dtype']}",
    )  # fmt: skip
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=0.6)
    figure.tight_layout()
    return figure


def _cost(records: Sequence[Record], of: str) -> Any:
    """Time, and memory where it is known, of a sweep."""
    points = [each for each in of_kind(records, "sweep") if each["of"] == of]
    if not points:
        return None
    figure, axis = plt.subplots(figsize=SIZE)
    first = points[0]
    fixed = {
        "frames": f"{first['height']}x{first['width']}, {first['steps']} steps",
        "sizes": f"{first['frames']} frames, {first['steps']} steps",
        "steps": f"{first['frames']} frames, {first['height']}x{first['width']}",
    }
    if of == "sizes":
        places = [each["height"] * each["width"] / 1e6 for each in points]
        axis.set_xlabel("size, megapixels")
        for place, each in zip(places, points, strict=True):
            axis.annotate(f"{each['height']}x{each['width']}", (place, each["seconds"]), fontsize=7)
    else:
        places = [each[of] for each in points]
        axis.set_xlabel(of)
    axis.plot(places, [each["seconds"] for each in points], "o-", color="C0")
    axis.set_ylabel("seconds", color="C0")
    axis.set(title=f"{fixed[of]}, {first['dtype']}", ylim=(0, None))
    if all(each["peak_bytes"] for each in points):
        other = axis.twinx()
        other.plot(places, [each["peak_bytes"] / GIB for each in points], "s--", color="C1", markersize=4)
        other.set_ylabel("peak memory, GiB", color="C1")
        other.set_ylim(0, None)
    figure.tight_layout()
    return figure


def _devices(runs: Sequence[Sequence[Record]]) -> Any:
    """Samples per second of each stage, the best of its trials, by the number of devices."""
    best: dict[str, dict[int, float]] = {}
    for records in runs:
        for each in of_kind(records, "training"):
            if each["fits"]:
                of_stage = best.setdefault(each["stage"], {})
                speed = max(each["samples_per_second"], of_stage.get(each["devices"], 0))
                of_stage[each["devices"]] = speed
    if not best:
        return None
    figure, axis = plt.subplots(figsize=SIZE)
    for number, (stage, speeds) in enumerate(sorted(best.items())):
        devices = sorted(speeds)
        axis.plot(devices, [speeds[count] for count in devices], "o-", color=f"C{number}", label=stage)
    axis.set(xlabel="devices", ylabel="samples per second", ylim=(0, None), title="Training")
    axis.set_xticks(sorted({count for speeds in best.values() for count in speeds}))
    axis.legend()
    figure.tight_layout()
    return figure
