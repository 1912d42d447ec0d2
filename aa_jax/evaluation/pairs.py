"""Which predicted clip is compared with which true one, and what does not fit together: named one by one."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from aa_jax.evaluation.footage import Footage
from aa_jax.evaluation.protocols import Protocol
from aa_jax.image import resize

# Rates that are stated as rounded numbers.
FPS_TOLERANCE = 0.005


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Two clips of one name.

    Attributes:
      predicted, truth: the clips.
      num_frames: that are compared, from the first on.
    """

    predicted: Footage
    truth: Footage
    num_frames: int

    @property
    def name(self) -> str:
        """Of both."""
        return self.truth.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """All clips.

    Attributes:
      pairs: in the order of the true clips.
      problems: lines about clips that cannot be compared.
      handled: lines about what does not fit and was dealt with as the protocol says.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[str, ...]
    handled: tuple[str, ...]


def find_pairs(predicted: Sequence[Footage], truth: Sequence[Footage], protocol: Protocol) -> Pairs:
    """Match clips by name, and compare what their headers state."""
    by_name = {footage.name: footage for footage in predicted}
    pairs, problems, handled = [], [], []
    for footage in truth:
        other = by_name.pop(footage.name, None)
        if other is None:
            problems.append(f"{footage.name}: there is no predicted clip of that name")
            continue
        try:
            lengths = other.num_frames, footage.num_frames
            problem = _problem(lengths, (other.fps, footage.fps), protocol)
        except (ValueError, OSError) as error:
            problem = str(error)
        if problem:
            problems.append(f"{footage.name}: {problem}")
            continue
        if lengths[0] != lengths[1]:
            handled.append(f"{footage.name}: {lengths[0]} frames predicted, {lengths[1]} true, compared {min(lengths)}")
        pairs.append(Pair(predicted=other, truth=footage, num_frames=min(lengths)))
    problems += [f"{name}: there is no true clip of that name" for name in by_name]
    return Pairs(pairs=tuple(pairs), problems=tuple(problems), handled=tuple(handled))


def _problem(lengths: tuple[int, int], rates: tuple[float | None, float | None], protocol: Protocol) -> str | None:
    if not min(lengths):
        return "a clip without frames"
    if lengths[0] != lengths[1] and protocol.lengths == "equal":
        return f"{lengths[0]} frames predicted, {lengths[1]} true: {protocol.name} compares clips of one length"
    named = dict(zip(("predicted", "true", protocol.name), (*rates, protocol.fps), strict=True))
    known = [(name, fps) for name, fps in named.items() if fps is not None]
    for (one, fps), (other, expected) in zip(known, known[1:], strict=False):
        if not math.isclose(fps, expected, rel_tol=FPS_TOLERANCE):
            return f"{fps:g} frames per second ({one}), but {expected:g} ({other}): write both at one rate"
    return None


def read_pair(
    pair: Pair, protocol: Protocol
) -> tuple[UInt8[np.ndarray, "t h w 3"], UInt8[np.ndarray, "t h w 3"], list[str]]:
    """The predicted and the true frames at the size that they are compared at, and lines about what was resized.

    Raises:
      ValueError: a file is damaged, or the sizes differ and the protocol does not resize.
    """
    predicted, truth = pair.predicted.frames(), pair.truth.frames()
    if min(len(predicted), len(truth)) < pair.num_frames:
        raise ValueError(f"{min(len(predicted), len(truth))} frames could be read, {pair.num_frames} were announced")
    predicted, truth = predicted[: pair.num_frames], truth[: pair.num_frames]
    size = (protocol.height or truth.shape[1], protocol.width or truth.shape[2])
    found = predicted.shape[1:3]
    if found != size and protocol.sizes == "equal":
        raise ValueError(
            f"predicted frames of {_size(found)}, {protocol.name} compares at {_size(size)} (width x height): "
            "write them at that size"
        )
    handled = [f"{pair.name}: predicted {_size(found)}, resized to {_size(size)}"] if found != size else []
    return fit(predicted, size, protocol), fit(truth, size, protocol), handled


def fit(frames: np.ndarray, size: tuple[int, int], protocol: Protocol) -> UInt8[np.ndarray, "t h w 3"]:
    """Frames at `size`, (height, width), as the protocol resizes them."""
    return frames if frames.shape[1:3] == size else resize(frames, *size, protocol.fit, protocol.resample)


def _size(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"


def check(pairs: Pairs, *, skip_bad: bool) -> None:
    """Raise ValueError that names every clip with a problem, unless they are to be left out, or none is left."""
    if pairs.problems and not skip_bad:
        raise ProblemsError(pairs.problems)
    if not pairs.pairs:
        raise ValueError(f"no clips to compare: {'; '.join(pairs.problems) or 'there are none'}")


class ProblemsError(ValueError):
    """Clips that cannot be compared; `lines` names each."""

    def __init__(self, lines: Sequence[str]):
        self.lines = tuple(lines)
        super().__init__(
            f"{len(lines)} clips cannot be compared, so nothing is written: mend them, or leave them out (--skip-bad)"
        )
