"""A run of the VAE's stage that takes seconds, and ways to start it, to interrupt it and to read what it left.

    python -m tests.training.runs '[[null, [ARGUMENT, ...]], ["KILL 3", [...]]]'

runs `aa_jax.train` several times in one process, each interrupted by a signal when it tells of a step, and prints the
exit codes.
"""  # fmt: skip

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aa_jax.config import ModelConfig
from aa_jax.data.sample import SampleConfig
from aa_jax.data.source import SourceConfig
from aa_jax.models.config import VAEConfig
from aa_jax.pose.files import save_keypoints
from aa_jax.training.autoencoder import AutoencoderObjective
from aa_jax.training.config import CheckpointConfig, DataConfig, OptimizerConfig, TrainConfig, ValidationConfig
from aa_jax.video import write_video
from tests.datasets.videos import keypoints, picture

REPOSITORY = Path(__file__).parents[2]
SIDE, FRAMES, BATCH, STEPS = 32, 4, 8, 4
# Of arrays: the kernels of the tiny network are cut too.
SMALLEST_CUT = 64


def config() -> TrainConfig:
    """This file is what `--config` takes; `command` says where the clips are."""
    return TrainConfig(
        model=ModelConfig(vae=VAEConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4)),
        trains=("vae.*",),
        data=DataConfig(
            source=SourceConfig(kind="folder", path="clips"),
            sample=SampleConfig(height=SIDE, width=SIDE, clip_size=8, num_frames=2),
        ),
        # Not l1, whose gradient jumps where a pixel is right to the last bits.
        autoencoder=AutoencoderObjective(reconstruction="l2", kl_weight=1e-4),
        # Where a gradient is nothing but rounding, Adam would make whole steps of it with its usual epsilon.
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2, epsilon=1e-3, ema_decay=0.9),
        checkpoints=CheckpointConfig(every=2, keep_last=1),
        validation=ValidationConfig(
            every=2, source=SourceConfig(kind="folder", path="held_out"), num_clips=2, num_frames=3
        ),
        batch_size=BATCH,
        steps=STEPS,
        log_every=1,
    )


def write_clips(folder: Path, count: int, *, seed: int = 0, height: int = SIDE, width: int = SIDE) -> None:
    """Folders of frames with keypoints."""
    folder.mkdir(parents=True)
    for number in range(count):
        write_video(folder / f"clip{number}", picture(FRAMES, height, width, seed + number), 12)
        save_keypoints(folder / f"clip{number}.npz", keypoints(FRAMES, height, width, seed + number))


def command(clips: Path, workdir: Path, *changes: object) -> list[str]:
    """Arguments of `aa_jax.train`."""
    held_out = clips.with_name("held_out")
    return [
        "--config", __file__, "--workdir", str(workdir),
        "--data.source.path", str(clips), "--validation.source.path", str(held_out), *map(str, changes),
    ]  # fmt: skip


def start(runs: Sequence[tuple[str | None, list[str]]], *, cache: Path, devices: int = 1) -> subprocess.Popen:
    """This module as a program, on so many fake devices; `cache` keeps what was compiled."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {
        "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.runs", json.dumps(runs)],
        env=os.environ | environment, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def saved(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, as Orbax reads them by itself."""
    import orbax.checkpoint as ocp

    folder = workdir / "checkpoints" / str(step) / "state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        names = checkpointer.metadata(folder).item_metadata.tree
        plain = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        return checkpointer.restore(folder, restore_args=plain)


def lines(workdir: Path) -> list[dict[str, Any]]:
    """Those of metrics.jsonl, without their times."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in found]


def _interrupt(number: signal.Signals, at: int) -> None:
    """Send this process a signal when a run tells of step `at`, which is when the next step is computed already."""
    from aa_jax.training import loop

    report = loop.Run._report

    def report_and_interrupt(self: loop.Run, step: int, *rest: Any) -> None:
        report(self, step, *rest)
        if step == at:
            loop.Run._report = report  # type: ignore[method-assign,assignment]
            self.checkpoints.wait()
            os.kill(os.getpid(), number)

    loop.Run._report = report_and_interrupt  # type: ignore[method-assign,assignment]


def _main(runs: Sequence[tuple[str | None, list[str]]]) -> None:
    from aa_jax import sharding
    from aa_jax.train import main

    sharding.SMALLEST = SMALLEST_CUT
    for interruption, arguments in runs:
        if interruption:
            name, step = interruption.split()
            _interrupt(signal.Signals[f"SIG{name}"], int(step))
        print("exit code", main(arguments), flush=True)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
