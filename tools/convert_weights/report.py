"""What a conversion did, as a table and as JSON."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from aa_jax.tensor_file import FileFacts
from tools.convert_weights.convert import Conversion
from tools.convert_weights.detect import describe_config, motion_version
from tools.convert_weights.export import ExportFile

COLUMNS = ("network", "file", "keys", "parameters", "dtype", "sha256", "variant")


def conversion_report(conversion: Conversion, facts: Mapping[str, FileFacts]) -> dict[str, Any]:
    """JSON values: the family, a row for each network, the sources, and notes on what was left out or filled in."""
    rows = []
    for name, parts in conversion.parts.items():
        config = getattr(conversion.config, name)
        variant = describe_config(config)
        motion = {key: tensor for part in parts for key, tensor in part.tensors.items() if ".motion_modules." in key}
        if motion:
            variant += f" ({motion_version(motion)})"
        rows.append(
            {
                "network": name,
                "file": f"{name}.safetensors",
                **dataclasses.asdict(facts[f"{name}.safetensors"]),
                "variant": variant,
            }
        )
    sources = {part.source.role: str(part.source.path) for parts in conversion.parts.values() for part in parts}
    return {"family": conversion.config.family, "networks": rows, "sources": sources, "notes": _notes(conversion)}


def _notes(conversion: Conversion) -> list[str]:
    notes = [f"{name}: {note}" for name, note in conversion.filled.items()]
    ignored: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for parts in conversion.parts.values():
        for part in parts:
            ignored[part.source.argument].update(part.ignored)
            notes += [
                f"{part.source.argument}: entry {name} is no tensor and was left out" for name in part.source.dropped
            ]
    for argument, left_out in ignored.items():
        notes += [f"{argument}: {name} left out ({number} tensors)" for name, number in left_out.items()]
    guider = conversion.config.pose_guider
    novita = guider is not None and guider.block_out_channels == (16, 32, 64, 128)
    if conversion.config.family == "moore" and novita:
        notes.append(
            "the pose guider has novita's channels: if these are novita's weights, "
            "convert them with `novita`, which runs them differently"
        )
    return list(dict.fromkeys(notes))


def table(report: Mapping[str, Any]) -> str:
    """The report's networks as an aligned table, then its notes."""
    rows = [
        (
            row["network"],
            row["file"],
            str(row["tensors"]),
            f"{row['parameters']:,}",
            row["dtype"],
            row["sha256"][:12],
            row["variant"],
        )
        for row in report["networks"]
    ]
    return "\n".join([_align([COLUMNS, *rows]), *(f"note: {note}" for note in report["notes"])])


def export_table(files: Sequence[ExportFile]) -> str:
    """The exported files as an aligned table, then what the originals had besides."""
    rows = [(str(file.path), str(len(file.tensors)), file.format) for file in files]
    notes = [f"note: {file.path}: without {', '.join(file.not_kept)}" for file in files if file.not_kept]
    return "\n".join([_align([("file", "keys", "format"), *rows]), *notes])


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
