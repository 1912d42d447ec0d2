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
from aa_jax.metrics.interval import difference_interval, mean_interval

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
        each = _clips(found, metric)
        whole = each[np.isfinite(each)]
        interval = mean_interval(whole) if whole.size else None
    return {
        "value": value,
        "interval": interval,
        "seeds": [each.value for each in estimates],
        "clips": estimates[0].clips,
        "truth": estimates[0].own,
    }


def _clips(found: Sequence[Results], metric: Metric) -> np.ndarray:
    """Of each clip the mean over the seeds; NaN where one has none."""
    names = sorted(found[0].clips)
    return np.mean([[results.clips[name].get(metric, np.nan) for name in names] for results in found], axis=0)


def differences(found: Sequence[Results], others: Sequence[Results], metrics: Iterable[Metric]) -> Row:
    """A row of how far one system is above another on the same clips, each of them with one or several seeds: by metric
    the mean over clips, and its interval, in which what makes a clip hard for both cancels.

    Raises:
      ValueError: they were scored on different clips.
    """
    if any(set(results.clips) != set(found[0].clips) for results in [*found, *others]):
        raise ValueError("systems were scored on different clips, expected the same: score one of them again")
    row = {}
    for metric in metrics:
        these, those = _clips(found, metric), _clips(others, metric)
        whole = np.isfinite(these - those)
        row[metric] = {
            "value": float(np.mean((these - those)[whole])) if whole.any() else np.nan,
            "interval": difference_interval(these[whole], those[whole]) if whole.any() else None,
        }
    return row


def markdown(table: Mapping[str, Row], metrics: Sequence[Metric]) -> str:
    """Rows by their titles, and below them the true frames'."""
    first = next(iter(table.values()))
    truth = {metric: {"value": first[metric]["truth"], "interval": None} for metric in metrics}
    return _markdown({**table, TRUTH: truth}, metrics, "")


def markdown_of_differences(table: Mapping[str, Row], metrics: Sequence[Metric]) -> str:
    """Rows of `differences` by their titles, with signs."""
    return _markdown(table, metrics, "+")


def _markdown(table: Mapping[str, Row], metrics: Sequence[Metric], sign: str) -> str:
    lines = [["", *(INFO[metric].title for metric in metrics)], ["---"] * (1 + len(metrics))]
    for title, row in table.items():
        lines.append(
            [title, *(_cell(row[metric]["value"], row[metric]["interval"], metric, sign) for metric in metrics)]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: float | None, interval: Sequence[float] | None, metric: Metric, sign: str) -> str:
    form = f"{sign}.{INFO[metric].digits}f"
    ends = "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"
    return "" if value is None or not np.isfinite(value) else f"{value:{form}}{ends}"


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
