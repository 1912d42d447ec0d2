"""Evaluations as the rows of a table."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aa_jax.atomic import aside
from aa_jax.environment import environment
from aa_jax.evaluate import SCORES
from aa_jax.evaluation.protocols import Metric
from aa_jax.evaluation.report import finite
from aa_jax.evaluation.results import Results
from aa_jax.evaluation.suite import INFO
from aa_jax.metrics.interval import mean_interval

TRUTH = "the truth itself"
BETTER = {"higher": "Higher is better", "lower": "Lower is better", "truth": "Best near the truth"}
Row = Mapping[Metric, Mapping[str, Any]]


def load_results(folder: Path) -> Results:
    """What an evaluation left in its folder."""
    return Results.from_dict(json.loads((folder / SCORES).read_text()))


def merged(found: Sequence[Results], metrics: Iterable[Metric]) -> Row:
    """A row of one evaluation, or of several with different seeds, in which a clip counts by its mean over them: by
    metric the mean over clips, its interval, each seed's mean, and the true frames' own value."""
    return {metric: _merged(found, metric) for metric in metrics}


def _merged(found: Sequence[Results], metric: Metric) -> dict[str, Any]:
    estimates = [results.estimates[metric] for results in found]
    value, interval = float(np.mean([each.value for each in estimates])), estimates[0].interval
    if len(found) > 1:
        each = np.array([[results.clips[name].get(metric, np.nan) for name in found[0].clips] for results in found])
        whole = each[:, np.isfinite(each).all(axis=0)]
        interval = mean_interval(whole.mean(axis=0)) if whole.size else None
    return {
        "value": value,
        "interval": interval,
        "seeds": [each.value for each in estimates],
        "clips": estimates[0].clips,
        "truth": estimates[0].own,
    }


def markdown(table: Mapping[str, Row], metrics: Sequence[Metric]) -> str:
    """Rows by their titles, and below them the true frames'."""
    lines = [["", *(INFO[metric].title for metric in metrics)], ["---"] * (1 + len(metrics))]
    for title, row in table.items():
        lines.append([title, *(_cell(row[metric]["value"], row[metric]["interval"], metric) for metric in metrics)])
    first = next(iter(table.values()))
    lines.append([TRUTH, *(_cell(first[metric]["truth"], None, metric) for metric in metrics)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: float | None, interval: Sequence[float] | None, metric: Metric) -> str:
    digits = INFO[metric].digits
    ends = "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return "" if value is None or not np.isfinite(value) else f"{value:.{digits}f}{ends}"


def legend(metrics: Sequence[Metric], unavailable: Mapping[Metric, str], num_clips: int) -> str:
    """What there is to know of the columns."""
    lines = [f"Means over {num_clips} clips, and in brackets their 95 % bootstrap interval over clips."]
    for better, words in BETTER.items():
        titles = [INFO[metric].title for metric in metrics if INFO[metric].better == better]
        lines += [f"{words}: {'; '.join(titles)}."] if titles else []
    lines += [f"{INFO[metric].title} is left out: it {reason}." for metric, reason in unavailable.items()]
    return " ".join(lines) + "\n"


def write(folder: Path, text: str, facts: Mapping[str, Any]) -> None:
    """table.md of the text, which is printed too, and table.json of the facts beside what they rest on."""
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(finite({**facts, **environment()}), indent=1, allow_nan=False) + "\n"
    for name, content in (("table.md", text), ("table.json", document)):
        with aside(folder / name) as partial:
            partial.write_text(content, encoding="utf-8")
    print(text, end="")
