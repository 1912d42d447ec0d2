"""Where a run's figures go: a table, TensorBoard, the terminal, and what describes the run itself."""

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from aa_jax.atomic import aside
from aa_jax.closing import Closing
from aa_jax.environment import environment

METRICS, TENSORBOARD, IMAGES, RUN = "metrics.jsonl", "tensorboard", "images", "run"


class RunLog(Closing):
    """Writes `metrics.jsonl`, `tensorboard/` and `images/` in a run's folder. One process of a run has it."""

    def __init__(self, folder: Path, *, resumed_at: int | None) -> None:
        """Open the files, and drop the figures of steps that will come again.

        Args:
          folder: made if need be.
          resumed_at: the last step done, which stays; None: the run starts anew, and nothing stays.

        Raises:
          OSError: the folder or a file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        last = -1 if resumed_at is None else resumed_at
        self._images = folder / IMAGES
        _trim(folder / METRICS, last)
        self._metrics = open(folder / METRICS, "a", encoding="utf-8")  # noqa: SIM115 closed by `close`
        from tensorboardX import SummaryWriter  # an extra, which readers of a run's files do not need

        self._board = SummaryWriter(str(folder / TENSORBOARD), purge_step=last + 1, flush_secs=10)

    def close(self) -> None:
        """Write what is not yet written, and end."""
        self._board.close()
        self._metrics.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A line `{"step": ..., "time": (seconds since 1970), NAME: VALUE, ...}`, written at once, and TensorBoard's.

        Values that are not finite are null in the line, and absent from TensorBoard.
        """
        finite = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        line = {"step": step, "time": round(time.time(), 3), **finite}
        self._metrics.write(json.dumps(line, allow_nan=False) + "\n")
        self._metrics.flush()
        for name, value in finite.items():
            if value is not None:
                self._board.add_scalar(name, value, step)

    def images(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """`images/NAME_STEP.png` ("/" in a name becomes "_"), and TensorBoard's.

        Raises:
          OSError: it cannot be written.
        """
        self._images.mkdir(exist_ok=True)
        with aside(self._images / f"{name.replace('/', '_')}_{step}.png") as partial:
            Image.fromarray(image).save(partial, format="PNG")
        self._board.add_image(name, image, step, dataformats="HWC")


def _trim(path: Path, last: int) -> None:
    """Drop lines of later steps than `last`, and one that was cut by a crash."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    with aside(path) as partial:
        partial.write_text("".join(_up_to(lines, last)), encoding="utf-8")


def _up_to(lines: Iterable[str], last: int) -> Iterable[str]:
    for line in lines:
        try:
            whole = line.endswith("\n") and json.loads(line)["step"] <= last
        except (ValueError, KeyError, TypeError):
            whole = False
        if whole:
            yield line


class Progress(Closing):
    """A bar over steps with the loss, steps and samples a second, the time left, and the model FLOP utilisation."""

    def __init__(
        self,
        total: int,
        initial: int,
        *,
        batch_size: int,
        flops_per_step: float | None,
        peak_flops: float | None,
        disable: bool = False,
    ) -> None:
        """Show it.

        Args:
          total: steps of the run.
          initial: steps done already.
          batch_size: samples of a step, over all devices.
          flops_per_step: over all devices; None: no utilisation is shown.
          peak_flops: a second, of all devices together; None: no utilisation is shown.
          disable: show nothing.
        """
        self._batch_size = batch_size
        self._flops_fraction = None if flops_per_step is None or not peak_flops else flops_per_step / peak_flops
        self._bar = tqdm(
            total=total,
            initial=initial,
            disable=disable,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
        )

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def update(self, step: int, loss: float) -> None:
        """`step` steps are done."""
        if self._bar.disable:
            return
        self._bar.set_postfix_str(", ".join([f"loss {loss:.4g}", *self._speed(step)]), refresh=False)
        self._bar.update(step - self._bar.n)

    def _speed(self, step: int) -> list[str]:
        facts = self._bar.format_dict
        # tqdm's moving average, which is there after its first drawing.
        rate = facts["rate"] or (step - facts["initial"]) / max(facts["elapsed"], 1e-9)
        shown = [f"{rate:.3g} steps/s", f"{rate * self._batch_size:.3g} samples/s"]
        return shown if self._flops_fraction is None else [*shown, f"MFU {rate * self._flops_fraction:.1%}"]


def describe_run(folder: Path, config: Mapping[str, Any]) -> Path:
    """Write down what is run: `run.json`, or the next of `run_1.json`, `run_2.json`... where a run is resumed.

    Args:
      folder: made if need be.
      config: the full configuration; what JSON has no form for is written as its text.

    Returns:
      The file, with `config`, `versions`, `devices`, `git`, `command` and `started`.

    Raises:
      OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / f"{RUN}.json", 0
    while path.exists():
        number += 1
        path = folder / f"{RUN}_{number}.json"
    description = {
        "config": config,
        **environment(),
        "command": sys.orig_argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    with aside(path) as partial:
        partial.write_text(json.dumps(description, indent=1, default=str) + "\n", encoding="utf-8")
    return path
