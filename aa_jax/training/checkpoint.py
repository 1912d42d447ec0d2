"""Checkpoints of a run: written while training goes on, read onto any number of devices, never half of one.

A run's folder holds one folder per step kept, and `frozen`, which all of them share. Orbax does the work: it writes
aside and renames, on all processes of a run, so that an interrupted checkpoint is never found.
"""

import contextlib
import errno
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from aa_jax.atomic import StrPath, cannot_write
from aa_jax.closing import Closing
from aa_jax.network_tensors import check_tensors, listing
from aa_jax.training.state import TrainState

STATE, FROZEN, SCORE = "state", "frozen", "score"


class Checkpoints(Closing):
    """The checkpoints in a folder, of one run at a time. With several processes, all of them make the same calls.

    Nothing is made or removed in the folder before the first `save`.
    """

    def __init__(
        self, folder: StrPath, *, keep_last: int = 2, keep_best: int = 1, higher_is_better: bool = True
    ) -> None:
        """Look into the folder.

        Args:
          folder: of the run's checkpoints alone; need not exist.
          keep_last: how many of the latest are kept.
          keep_best: how many of those with the best scores are kept besides.
          higher_is_better: of scores.

        Raises:
          ValueError: a number to keep is too small.
        """
        if keep_last < 1 or keep_best < 0:
            raise ValueError(
                f"keep_last is {keep_last} and keep_best {keep_best}, expected at least 1 and at least 0 checkpoints"
            )
        self.folder = epath.Path(folder).resolve()
        _ORBAX.addFilter(_not_from_orbax)
        self._tidied = False
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_handlers={STATE: ocp.StandardCheckpointHandler()},
            options=ocp.CheckpointManagerOptions(
                create=False,
                step_name_format=_CommittedSteps(),
                best_fn=_score,
                best_mode="max" if higher_is_better else "min",
                preservation_policy=AnyPreservationPolicy(
                    [
                        LatestN(keep_last),
                        BestN(
                            get_metric_fn=_score,
                            reverse=not higher_is_better,
                            n=keep_best,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
            ),
        )

    def close(self) -> None:
        """Wait for what is being written, and end; errors as in `wait`."""
        try:
            self.wait()
        finally:
            self._manager.close()
            _ORBAX.removeFilter(_not_from_orbax)

    def wait(self) -> None:
        """Wait for what is being written.

        Raises:
          OSError: it could not be written; the checkpoints before it are there still.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def save(
        self,
        state: TrainState,
        *,
        metrics: Mapping[str, float] | None = None,
        score: float | None = None,
        wait: bool = False,
    ) -> None:
        """Write a checkpoint of `state.step`, unless there is one.

        Returns when the state is copied from the devices; it may be donated then. `frozen` is written by the first
        save of a run alone, which waits for it.

        Args:
          state: everything of it.
          metrics: kept with it, for people.
          score: by which the best are known; one that is not finite is none.
          wait: until it is written.

        Raises:
          OSError: this checkpoint, or the one before it, could not be written.
          ValueError: there are later checkpoints.
        """
        self.wait()
        step, steps = int(state.step), self._manager.all_steps()
        if step in steps:
            return
        if steps and step < steps[-1]:
            raise ValueError(
                f"step {step} cannot be saved in {self.folder}, which has step {steps[-1]} already: "
                "remove the later steps or choose another folder"
            )
        arrays, frozen = _split(_named_leaves(state))
        with self._writing():
            self._tidy()
            if frozen and not self._has_frozen:
                with ocp.StandardCheckpointer() as checkpointer:
                    # What has this name without being whole is replaced.
                    checkpointer.save(self.folder / FROZEN, frozen, force=True)
            self._manager.save(
                step,
                args=ocp.args.Composite(**{STATE: ocp.args.StandardSave(arrays)}),
                metrics=None if score is None or not math.isfinite(score) else {SCORE: float(score)},
                custom_metadata={"metrics": _finite(metrics)} if metrics else None,
                force=True,
            )
        if wait:
            self.wait()

    def latest(self) -> int | None:
        """The last step there is, after waiting for what is being written; errors as in `wait`."""
        self.wait()
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the best score, the later one of equals; without scores the latest. Errors as in `wait`."""
        self.wait()
        step = self._manager.best_step()
        return self._manager.latest_step() if step is None else step

    def restore(self, abstract: TrainState, step: int | None = None) -> TrainState:
        """Read a checkpoint onto devices.

        Args:
          abstract: a state of `jax.ShapeDtypeStruct`s; each array gets the sharding of its own, or goes to the default
            device where there is none.
          step: the latest by default.

        Raises:
          FileNotFoundError: there is no such checkpoint.
          ValueError: keys, shapes or dtypes are not those of `abstract`, or the checkpoint is damaged.
        """
        self.wait()
        steps = list(self._manager.all_steps())
        if not steps:
            raise FileNotFoundError(f"{self.folder} has no checkpoint")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise FileNotFoundError(
                f"{self.folder} has no checkpoint of step {step}, only of {', '.join(map(str, steps))}"
            )
        wanted = {name: _placed(leaf) for name, leaf in _named_leaves(abstract).items()}
        arrays, frozen = _split(wanted)
        place = self.folder / str(step)
        with ocp.StandardCheckpointer() as checkpointer, _reading(place):
            stored = dict(self._manager.item_metadata(step)[STATE].items())
            if self._has_frozen:
                stored |= dict(checkpointer.metadata(self.folder / FROZEN).item_metadata.items())
        _check(stored, wanted, f"checkpoint {place}")
        with ocp.StandardCheckpointer() as checkpointer, _reading(place):
            restored = self._manager.restore(
                step, args=ocp.args.Composite(**{STATE: ocp.args.StandardRestore(arrays)})
            )[STATE]
            if frozen:
                restored = restored | checkpointer.restore(self.folder / FROZEN, frozen)
        return jax.tree.unflatten(jax.tree.structure(abstract), [restored[name] for name in wanted])

    @property
    def _has_frozen(self) -> bool:
        return _is_whole(self.folder / FROZEN)

    def _tidy(self) -> None:
        """Make the folder, and remove what an interrupted run has left in it."""
        if self._tidied:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            for partial in ocp.path.step.all_temporary_paths(self.folder):
                partial.get().rmtree()
        self._tidied = True

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Errors of writing as OSErrors of one line."""
        try:
            yield
        except (OSError, ValueError) as error:
            # What was to be removed is there still; what is half written is removed before the next one is.
            self._manager.reload()
            self._tidied = False
            raise cannot_write(self.folder, _os_error(error)) from error


class _CommittedSteps(ocp.path.step.NameFormat[ocp.path.step.Metadata]):
    """Folders named by their step, without those that only look like it."""

    def __init__(self) -> None:
        self._plain = ocp.path.step.standard_name_format()

    def build_name(self, step: int) -> str:
        return self._plain.build_name(step)

    def find_all(self, base_path: epath.PathLike) -> Iterator[ocp.path.step.Metadata]:
        return (found for found in self._plain.find_all(base_path) if found.commit_timestamp_nsecs is not None)

    def find_step(self, base_path: epath.PathLike, step: int) -> ocp.path.step.Metadata:
        return self._plain.find_step(base_path, step)


def _is_whole(folder: epath.Path) -> bool:
    return folder.exists() and ocp.path.step.Metadata(step=0, path=folder).commit_timestamp_nsecs is not None


def _named_leaves(state: TrainState) -> dict[str, Any]:
    """Leaves by their path; neither the classes of an optimizer's state nor its empty parts are stored."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _split(leaves: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is saved each time, and what once."""
    frozen = {name: leaf for name, leaf in leaves.items() if name.startswith(f"{FROZEN}.")}
    return {name: leaf for name, leaf in leaves.items() if name not in frozen}, frozen


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _check(stored: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    check_tensors(stored, wanted, where)
    dtypes = [
        f"{name} {stored[name].dtype} instead of {leaf.dtype}"
        for name, leaf in wanted.items()
        if stored[name].dtype != leaf.dtype
    ]
    if dtypes:
        raise ValueError(f"{where} does not fit: {len(dtypes)} of another dtype: {listing(dtypes)}")


@contextlib.contextmanager
def _reading(place: epath.Path) -> Iterator[None]:
    """Errors of reading what should be there as ValueErrors of one line."""
    try:
        yield
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"checkpoint {place} cannot be read, it is damaged: {_first_line(error)}") from error


def _os_error(error: OSError | ValueError) -> OSError:
    """What TensorStore raises as ValueError, with the system's number in its text."""
    if isinstance(error, OSError):
        return error
    found = re.search(r"os_error_code='(\d+)'", str(error))
    if found is None:
        return OSError(errno.EIO, _first_line(error))
    return OSError(int(found[1]), os.strerror(int(found[1])))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _score(metrics: Mapping[str, float]) -> float:
    return metrics[SCORE]


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}


_ORBAX = logging.getLogger("absl")
"""Where Orbax logs, with others."""


def _not_from_orbax(record: logging.LogRecord) -> bool:
    """Orbax logs every stage of its work, and its errors besides raising them."""
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname
