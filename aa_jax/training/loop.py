"""A run from its first step, or from where it stopped, to its last."""

import contextlib
import functools
import itertools
import json
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from aa_jax.data.pipeline import Samples, load
from aa_jax.data.sample import Sample
from aa_jax.models.config import require
from aa_jax.network_tensors import listing
from aa_jax.sharding import make_mesh
from aa_jax.training.autoencoder import latent_scale
from aa_jax.training.card import model_card, stages
from aa_jax.training.checkpoint import Checkpoints
from aa_jax.training.config import StoredDtype, TrainConfig, to_dict
from aa_jax.training.export import export, with_scale
from aa_jax.training.flops import peak_flops
from aa_jax.training.log import Progress, RunLog, describe_run
from aa_jax.training.lora import merge_lora
from aa_jax.training.plan import check_memory, format_plan, with_memory
from aa_jax.training.setup import Setup, check_batch, open_clips, samples_of, set_up
from aa_jax.training.state import TrainState
from aa_jax.training.validation import Validator, score

CHECKPOINTS, MODEL = "checkpoints", "model"
# Images whose latents tell a VAE's scaling factor.
SCALED_ON = 64


def train(
    config: TrainConfig, workdir: Path, *, dry_run: bool = False, quiet: bool = False, say: Callable[[str], Any] = print
) -> None:
    """Train until `config.steps`, going on from the last checkpoint in `workdir`.

    `workdir` gets `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `images/`, `run.json`, and at the end `model/`, a
    model folder.

    Args:
      dry_run: compile the step, say what it takes, and stop.
      quiet: show no bar.
      say: is told what a person wants to know.

    Raises:
      FileNotFoundError, ValueError: the configuration cannot be run; nothing was compiled. Or a batch cannot be read,
        or the loss is not finite: the last checkpoint is intact.
      OSError: a checkpoint cannot be written.
    """
    main = jax.process_index() == 0
    say = say if main else lambda _: None
    mesh = make_mesh(config.compute.fsdp)
    check_batch(config, mesh)
    samples, _ = samples_of(config, open_clips(config))
    with Checkpoints(
        workdir / CHECKPOINTS, keep_last=config.checkpoints.keep_last, keep_best=config.checkpoints.keep_best
    ) as checkpoints:
        done = checkpoints.latest() or 0
        require(
            done <= config.steps,
            f"steps is {config.steps}, but {checkpoints.folder} has a checkpoint of step {done}: take more steps, or "
            "another workdir",
        )
        batches = _batches(config, done)
        with _naming_the_batch(done):
            first = next(batches)
        setup = set_up(config, mesh, first)
        check_memory(setup.plan)
        # Compiled here, so that what is wrong with it comes before anything is written.
        validator = Validator(config, setup.networks) if config.validation.every else None
        say("compiling the step ...")
        step = setup.compile()
        plan = with_memory(setup.plan, step)
        say(format_plan(plan))
        if dry_run:
            return
        state = checkpoints.restore(setup.abstract) if done else setup.initial_state()
        say(f"going on from step {done} of {config.steps}" if done else f"{config.steps} steps")
        log = None
        if main:
            workdir.mkdir(parents=True, exist_ok=True)
            describe_run(workdir, to_dict(config))
            log = RunLog(workdir, resumed_at=done or None)
        run = Run(setup, step, samples, checkpoints, validator, log)
        with log or contextlib.nullcontext(), _progress(setup, plan, done, disable=quiet or not main) as bar:
            state = run.steps(state, itertools.chain([first], batches), bar)
        if int(state.step) == config.steps:
            _export_final(setup, state, workdir)
            say(f"written  {workdir / MODEL}")
        else:
            say(f"stopped at step {int(state.step)}, which is saved: the same command goes on from there")


class Run:
    """The steps of a run."""

    def __init__(
        self,
        setup: Setup,
        step: Callable[..., Any],
        samples: Samples,
        checkpoints: Checkpoints,
        validator: Validator | None,
        log: RunLog | None,
    ):
        self.setup, self.step, self.samples, self.log = setup, step, samples, log
        self.checkpoints, self.validator, self.config = checkpoints, validator, setup.config

    def steps(self, state: TrainState, batches: Iterator[Sample], bar: Progress) -> TrainState:
        """Step until the end or until the run is asked to stop; the state is saved then."""
        config, at = self.config, int(state.step)
        pending: tuple[int, Any] | None = None
        with _asked_to_stop() as stop:
            while at < config.steps:
                with _naming_the_batch(at):
                    batch = self.setup.put_batch(next(batches))
                state, metrics = self.step(state, batch)
                at += 1
                # Figures are read a step late, while the device works on the next one.
                if pending is not None:
                    self._report(*pending, bar)
                pending = (at, metrics)
                stopping = at == config.steps or stop(at)
                validating = bool(config.validation.every) and (at % config.validation.every == 0 or at == config.steps)
                if stopping or validating or at % config.checkpoints.every == 0:
                    self._report(*pending, bar)
                    pending = None
                    self._save(state, at, validate=validating)
                if stopping:
                    break
        self.checkpoints.wait()
        return state

    def _report(self, step: int, metrics: dict[str, jax.Array], bar: Progress) -> None:
        """Show and write a step's figures; `step` counts steps done."""
        losses = np.asarray(metrics.pop("sample_losses"))
        values = {name: float(value) for name, value in metrics.items()}
        if not values.pop("finite"):
            raise ValueError(self._not_finite(step, losses, values))
        bar.update(step, values["loss"])
        if self.log and (step % self.config.log_every == 0 or step == self.config.steps or step == 1):
            self.log.scalars(step, values)

    def _not_finite(self, step: int, losses: np.ndarray, values: dict[str, float]) -> str:
        bad = [row for row in range(len(losses)) if not math.isfinite(losses[row])]
        first = (step - 1) * self.config.batch_size
        what = f"the gradient's norm is {values['grad_norm']}"
        if bad:
            clips = listing(self.samples.clip(first + row)[0].name for row in bad)
            what = f"the loss of {len(bad)} of {len(losses)} samples is not finite (clips {clips})"
        kept = self.checkpoints.latest()
        where = f"the last checkpoint is of step {kept}" if kept else "there is no checkpoint yet"
        return f"step {step}: {what}; {where}, in {self.checkpoints.folder}"

    def _save(self, state: TrainState, step: int, *, validate: bool) -> None:
        figures: dict[str, float] = {}
        if validate and self.validator:
            figures, picture = self.validator(merge_lora(state.best))
            if self.log:
                self.log.scalars(step, {f"validation/{name}": value for name, value in figures.items()})
                self.log.images(step, "validation", picture)
        self.checkpoints.save(state, metrics=figures or None, score=score(figures) if figures else None)


def export_checkpoint(
    config: TrainConfig,
    workdir: Path,
    folder: Path,
    *,
    step: int | None = None,
    dtype: StoredDtype = "float32",
    scores: Sequence[Path] = (),
    notes: Path | None = None,
    licence: str | None = None,
) -> None:
    """Write a checkpoint of a run as a model folder with its card: the best one by default, averaged weights where
    there are any.

    Args:
      dtype: that weights are stored in, those of norms aside.
      scores: what `aa_jax.evaluate` wrote, for the card: scores.json in folders, by which they are named there.
      notes: a text for the card.
      licence: of the weights, for the card.

    Raises:
      FileNotFoundError: there is no checkpoint, or a file for the card is missing.
      ValueError: the checkpoint is not of this configuration, or `folder` has something in it.
    """
    found = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in scores}
    text = "" if notes is None else notes.read_text(encoding="utf-8")
    mesh = make_mesh(config.compute.fsdp)
    check_batch(config, mesh)
    setup = set_up(config, mesh, next(_batches(config)))
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        state = checkpoints.restore(setup.abstract, checkpoints.best() if step is None else step)
    _export(setup, state, workdir, folder, dtype=dtype, scores=found, notes=text, licence=licence)


def _export(
    setup: Setup, state: TrainState, workdir: Path, folder: Path, *, dtype: StoredDtype = "float32", **told: Any
) -> None:
    model, params = setup.config.model, state.best
    if setup.config.autoencoder is not None:
        scale = jax.jit(lambda params, batch: latent_scale(setup.networks, merge_lora(params), batch))
        model = with_scale(model, float(scale(params, setup.put_batch(_first_references(setup.config)))))
    card = functools.partial(model_card, model, runs=stages(workdir), **told)
    export(folder, model, setup.networks, params, dtype=dtype, card=card)


def _first_references(config: TrainConfig) -> Sample:
    """This process's part of the run's first references, in whole batches, at least `SCALED_ON` in all: the same
    wherever the run was interrupted."""
    batches = itertools.islice(_batches(config), math.ceil(SCALED_ON / config.batch_size))
    return {"reference": np.concatenate([batch["reference"] for batch in batches])}


def _export_final(setup: Setup, state: TrainState, workdir: Path) -> None:
    folder = workdir / MODEL
    if jax.process_index() == 0 and folder.exists():  # of a run that was continued
        shutil.rmtree(folder)
    _export(setup, state, workdir, folder)


def _batches(config: TrainConfig, first_step: int = 0) -> Iterator[Sample]:
    """This process's parts of the run's batches, from a step on."""
    samples, loader = samples_of(config, open_clips(config))
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    return load(samples.source, config.data.sample, loader, first_step=first_step, **share)


def _progress(setup: Setup, plan: Any, done: int, *, disable: bool) -> Progress:
    config = setup.config
    flops = None if plan.sample_flops is None else plan.sample_flops * config.batch_size
    peak = peak_flops(setup.mesh.local_devices[0], config.compute.dtype)
    return Progress(
        config.steps, done, batch_size=config.batch_size, flops_per_step=flops,
        peak_flops=None if peak is None else peak * setup.mesh.size, disable=disable,
    )  # fmt: skip


@contextlib.contextmanager
def _naming_the_batch(step: int) -> Iterator[None]:
    """Errors of reading a batch, with the step it was for."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(f"the batch of step {step + 1} cannot be made: {error}") from error


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[int], bool]]:
    """A function of the step that tells whether SIGTERM has come, to this process or, with several, to any of them:
    all agree on one step then. A second SIGTERM ends the process as ever."""
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False
        return
    asked = threading.Event()

    def ask(number: int, _: Any) -> None:
        if asked.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        asked.set()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield lambda step: asked.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
