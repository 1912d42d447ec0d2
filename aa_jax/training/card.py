"""A trained model's card: what it is, how it came about, what it is worth, and what is not known of it."""

import dataclasses
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aa_jax.config import ModelConfig
from aa_jax.training.config import Start
from aa_jax.training.log import METRICS, RUN

TAGS = {"library_name": "aa_jax", "pipeline_tag": "image-to-video"}

SCORES = "## Scores: "
# A pause that is so many times longer than usual is none of the training's time.
PAUSE = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A run that a model went through.

    Attributes:
      name: of its folder.
      config: its configuration, as JSON has it.
      machine: devices and versions.
      hours: that its steps took, as its log tells; pauses between sessions do not count.
      figures: of its last validation.
    """

    name: str
    config: Mapping[str, Any]
    machine: str
    hours: float
    figures: Mapping[str, float]


def stages(workdir: Path) -> list[Stage]:
    """The run in `workdir`, after those that its weights came from as far as their folders are there."""
    found: dict[Path, Stage] = {}
    _collect(workdir, found)
    return list(found.values())


def _collect(workdir: Path, found: dict[Path, Stage]) -> None:
    path = workdir / f"{RUN}.json"
    if workdir in found or not path.is_file():
        return
    facts = json.loads(path.read_text(encoding="utf-8"))
    for field in dataclasses.fields(Start):
        source = facts["config"]["start"].get(field.name)
        if isinstance(source, str):
            _collect(Path(source).parent, found)
    hours, figures = _logged(workdir / METRICS)
    devices, versions = facts["devices"], facts["versions"]
    found[workdir] = Stage(
        name=workdir.name,
        config=facts["config"],
        machine=f"{devices['count']} x {devices['kind']}, jax {versions['jax']}, flax {versions['flax']}",
        hours=hours,
        figures=figures,
    )


def _logged(path: Path) -> tuple[float, dict[str, float]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    gaps = [after["time"] - before["time"] for before, after in zip(lines, lines[1:], strict=False)]
    usual = statistics.median(gaps) if gaps else 0.0
    figures: dict[str, float] = {}
    for line in lines:
        found = {name: value for name, value in line.items() if name.startswith("validation/")}
        figures = found or figures
    return sum(gap for gap in gaps if gap <= PAUSE * usual) / 3600, figures


def model_card(
    model: ModelConfig,
    parameters: Mapping[str, int],
    runs: Sequence[Stage],
    *,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
    notes: str = "",
    licence: str | None = None,
) -> str:
    """The card as Markdown.

    Args:
      parameters: of each network.
      runs: from `stages`.
      scores: by a name, what `aa_jax.evaluate` wrote into scores.json.
      notes: text about purpose, limits, licence of the data: what no file tells.
      licence: of the weights, by the hub's name (such as "apache-2.0").
    """
    inference = model.inference
    tags = TAGS | ({"license": licence} if licence else {})
    parts = [
        "".join(f"{line}\n" for line in ("---", *(f"{name}: {value}" for name, value in tags.items()), "---")),
        "# A model of aa_jax\n",
        notes.strip() + "\n" if notes.strip() else "",
        "A reference image and a pose sequence go in, a video comes out:\n",
        "```python\nfrom aa_jax import Animator\n\n"
        'video = Animator.from_pretrained("this folder")(reference, pose)\n```\n',
        f"Made for {inference.height}x{inference.width} (height x width), {inference.num_inference_steps} steps, "
        f"guidance {inference.guidance_scale:g}, windows of {inference.window_length} frames.\n",
        "## Networks\n",
        _table(("network", "parameters"), [(name, f"{count:,}") for name, count in parameters.items()]),
        "## Training\n",
        _table(
            ("stage", "data", "steps", "batch", "frames", "learning rate", "hours", "machine"),
            [_row(stage) for stage in runs],
        )
        if runs
        else "Nothing is known of it.\n",
        *(_scores(name, found) for name, found in (scores or {}).items()),
        "## Limits\n",
        "It is worth what the tables say, on that data; of other images, sizes and motions nothing is known."
        + ("" if scores else " It was not evaluated.")
        + "\n",
        "## Licence\n",
        f"The weights: {licence}.\n"
        if licence
        else "None is stated for the weights. They may be bound to the terms of those that training began from, and of "
        "its data: ask before you use them.\n",
    ]
    return "\n".join(part for part in parts if part)


def _row(stage: Stage) -> tuple[str, ...]:
    config = stage.config
    source, sample = config["data"]["source"], config["data"]["sample"]
    data = source["path"] or f"synthetic characters, split {source['split']}, {source['num_clips']:,} clips"
    size = f"{sample['num_frames']} x {sample['height']}x{sample['width']}"
    return (
        stage.name, data, f"{config['steps']:,}", str(config["batch_size"]), size,
        f"{config['optimizer']['learning_rate']:g} ({config['optimizer']['schedule']})", f"{stage.hours:.2f}",
        stage.machine,
    )  # fmt: skip


def _scores(name: str, scores: Mapping[str, Any]) -> str:
    protocol = scores["card"]["protocol"]
    rows = []
    for metric, each in scores["estimates"].items():
        interval = "" if each["interval"] is None else " to ".join(f"{end:.4g}" for end in each["interval"])
        own = "" if each["own"] is None else f"{each['own']:.4g}"
        rows.append((metric, f"{each['value']:.4g}", interval, own))
    text = f"Protocol {protocol['name']}, split {protocol['split']}, {scores['card']['clips']} clips.\n"
    return f"{SCORES}{name}\n\n{text}\n" + _table(("metric", "value", "95 %", "true frames"), rows)


def read_scores(card: str) -> dict[str, dict[str, float]]:
    """By name, each metric's value in a card that `model_card` made; empty where it has none."""
    found: dict[str, dict[str, float]] = {}
    for title, text in re.findall(rf"^{SCORES}(.+)\n((?:(?!## ).*\n?)*)", card, flags=re.MULTILINE):
        rows = re.findall(r"^\| ([^|]+) \| (-?\d[\d.e+-]*) \|", text, flags=re.MULTILINE)
        found[title] = {metric: float(value) for metric, value in rows}
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
