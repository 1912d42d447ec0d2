"""The results as a table for the terminal, as JSON, and as a page with pictures."""

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from aa_jax.evaluation.pairs import Pair, read_pair
from aa_jax.evaluation.protocols import Metric, Protocol
from aa_jax.evaluation.published import PUBLISHED, Column
from aa_jax.evaluation.results import Estimate, Results
from aa_jax.evaluation.suite import INFO

# Clips shown at each end, and frames of each.
SHOWN, FRAMES = 3, 6
# Columns of published tables and the metrics they may be held against.
COMPARED: Mapping[Column, tuple[Metric, ...]] = {
    "ssim": ("ssim",),
    "psnr": ("psnr",),
    "psnr_uint8_overflow": ("psnr_uint8_overflow",),
    "l1_disco": ("l1_disco",),
    "lpips": ("lpips_alex", "lpips_vgg"),
    "fvd": ("fvd",),
    "fid_vid": ("fid_vid",),
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px
solid #ddd } td:first-child, th:first-child { text-align: left } img { max-width: 100% } pre { white-space: pre-wrap }
.note { color: #a40 } .mine { font-weight: bold }
""".replace("\n", " ")


def rows(results: Results, protocol: Protocol) -> list[tuple[str, str, str, str, str]]:
    """Of each metric: title, value, interval, the true frames' own value, and what is to be said."""
    found = []
    for metric in protocol.metrics:
        info = INFO[metric]
        if metric in results.unavailable:
            found.append((info.title, "n/a", "", "", results.unavailable[metric]))
            continue
        if metric not in results.estimates:
            continue
        estimate = results.estimates[metric]
        interval = " to ".join(_number(end, info.digits) for end in estimate.interval or ())
        own = "" if estimate.own is None else _number(estimate.own, info.digits)
        notes = [f"{info.better} is better" if info.better != "truth" else "best near the truth's", *_few(estimate)]
        if metric.startswith("lpips") and protocol.lpips_range == "unit":
            notes.append("given pixels in [0, 1], as in DisCo: no LPIPS as defined")
        found.append((info.title, _number(estimate.value, info.digits), interval, own, "; ".join(notes)))
    return found


def _few(estimate: Estimate) -> list[str]:
    return [f"{estimate.clips} clips, {estimate.samples} samples", *([estimate.warning] if estimate.warning else [])]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "n/a"


def table(results: Results, protocol: Protocol) -> str:
    """For the terminal."""
    lines = [("", "value", "95 % interval", "true frames", ""), *rows(results, protocol)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    aligned = [
        [line[0].ljust(widths[0]), *(line[column].rjust(widths[column]) for column in range(1, 4)), line[4]]
        for line in lines
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def to_json(results: Results) -> str:
    """All of it; numbers that are not finite are null."""
    return json.dumps(finite(results.to_dict()), indent=1, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def page(results: Results, protocol: Protocol, pairs: Sequence[Pair]) -> str:
    """An HTML page that needs no other file.

    Args:
      pairs: of which the best and the worst clips are read again, for their pictures.
    """
    head = ("", "value", "95 % interval", "true frames", "")
    parts = [
        f"<h1>{html.escape(protocol.name)}</h1>",
        f"<p>{html.escape(protocol.clips)}: {len(results.clips)} clips scored.</p>",
        _table(head, rows(results, protocol)),
        *_lines("Left out", results.problems),
        *_lines("Handled as the protocol says", results.handled),
        *_lines("Chosen here, since the published description does not say", protocol.choices),
        *_pictures(results, protocol, pairs),
        *_published(results, protocol),
        "<h2>All that the numbers depend on</h2>",
        f"<pre>{html.escape(json.dumps(finite(dict(results.card)), indent=1))}</pre>",
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(protocol.name)}</title>'
        f"<style>{STYLE}</style>{''.join(parts)}</html>\n"
    )


def _table(head: Sequence[str], body: Iterable[Sequence[str]], mine: str = "") -> str:
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    for row in body:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        lines.append(cells if row[0] != mine else cells.replace("<td>", '<td class="mine">'))
    return f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table>"


def _lines(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return [f"<h2>{html.escape(title)} ({len(lines)})</h2><ul>{items}</ul>"]


def order(results: Results) -> tuple[Metric | None, list[str]]:
    """The clips from the worst to the best, and the metric that says so: the first with values of clips."""
    for metric in ("foreground_psnr", "psnr"):
        scored = {name: each[metric] for name, each in results.clips.items() if metric in each}  # type: ignore[index]
        if scored:
            return metric, sorted(scored, key=scored.__getitem__)  # type: ignore[return-value]
    return None, []


def _pictures(results: Results, protocol: Protocol, pairs: Sequence[Pair]) -> list[str]:
    metric, names = order(results)
    if metric is None:
        return []
    by_name = {pair.name: pair for pair in pairs}
    count = min(SHOWN, (len(names) + 1) // 2)
    ends = {"Worst": names[:count], "Best": names[::-1][: min(count, len(names) - count)]}
    parts = []
    for title, some in ends.items():
        if some:
            parts.append(f"<h2>{title} clips by {html.escape(INFO[metric].title)}</h2>")
        for name in some:
            value = results.clips[name][metric]
            caption = f"{name}: {_number(value, INFO[metric].digits)} (above: predicted; below: true)"
            predicted, truth, _ = read_pair(by_name[name], protocol)
            parts.append(
                f'<p>{html.escape(caption)}</p><img alt="{html.escape(name)}" src="{_embed(predicted, truth)}">'
            )
    return parts


def _embed(predicted: UInt8[np.ndarray, "t h w 3"], truth: UInt8[np.ndarray, "t h w 3"]) -> str:
    moments = np.linspace(0, len(truth) - 1, min(FRAMES, len(truth))).round().astype(int)
    picture = np.concatenate([np.concatenate(list(frames[moments]), axis=1) for frames in (predicted, truth)])
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _published(results: Results, protocol: Protocol) -> list[str]:
    if protocol.published is None:
        return []
    printed = PUBLISHED[protocol.published]
    columns = [column for column in COMPARED if any(column in row.values for row in printed.rows)]
    mine = ["this run"]
    for column in columns:
        known = [
            f"{_number(results.estimates[metric].value, INFO[metric].digits)} ({INFO[metric].title})"
            if len(COMPARED[column]) > 1
            else _number(results.estimates[metric].value, INFO[metric].digits)
            for metric in COMPARED[column]
            if metric in results.estimates
        ]
        mine.append(", ".join(known) or "n/a")
    body = [[row.method, *(f"{row.values[c]:g}" if c in row.values else "" for c in columns)] for row in printed.rows]
    notes = "".join(f'<li class="note">{html.escape(line)}</li>' for line in printed.warnings)
    return [
        f"<h2>Published numbers</h2><p>{html.escape(printed.source)}</p><ul>{notes}</ul>",
        _table(["", *columns], [mine, *body], mine="this run"),
    ]
