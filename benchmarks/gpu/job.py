"""What a part of the measurements is given, and what it is timed with."""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.scale import SCALES, Scale

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One part's work, in a process of its own.

    Attributes:
      scale: what is measured.
      options: the part's own, see `parts`.
      work: folder for what later parts take up.
      records: file that gets a line of JSON as soon as something is measured, so that nothing is lost.
      deadline: of `time.time()`, after which the process may be ended.
    """

    scale: Scale
    options: dict[str, Any]
    work: Path
    records: Path
    deadline: float

    @classmethod
    def of(cls, text: str) -> "Job":
        """The job of `to_json`."""
        fields = json.loads(text)
        paths = {name: Path(fields[name]) for name in ("work", "records")}
        sizes = tuple(map(tuple, fields.pop("sizes")))
        return cls(**fields | paths | {"scale": dataclasses.replace(SCALES[fields["scale"]], sizes=sizes)})

    def to_json(self) -> str:
        return json.dumps(
            {
                "scale": self.scale.name,
                "sizes": self.scale.sizes,
                "options": self.options,
                "work": str(self.work),
                "records": str(self.records),
                "deadline": self.deadline,
            }
        )

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def record(self, kind: str, **facts: Any) -> Record:
        """Keep a measurement; `kind` tells the report what it is."""
        line = {"kind": kind, **facts}
        with self.records.open("a") as file:
            file.write(json.dumps(line, default=_plain) + "\n")
        print(f"  {kind}: {_shown(facts)}", flush=True)
        return line


def read_records(path: Path) -> list[Record]:
    """What a part has kept; a line that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes; what it returns has to be there when it ends."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def repeated(run: Callable[[], Any], repeats: int, left: float = float("inf")) -> list[float]:
    """Seconds of each of several calls, fewer than asked for, but at least one, where `left` seconds do not suffice."""
    taken: list[float] = []
    while len(taken) < repeats and (not taken or sum(taken) + max(taken) < left):
        taken.append(seconds(run))
    return taken


def spread(taken: list[float]) -> Record:
    """The figures that are quoted of some times."""
    return {"median": statistics.median(taken), "least": min(taken), "most": max(taken), "all": taken}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _shown(facts: Record) -> str:
    text = json.dumps(facts, default=_plain)
    return text if len(text) < 400 else text[:397] + "..."
