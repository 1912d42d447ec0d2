"""The trained network, ready to find the body's points in frames."""

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from aa_jax.evaluation.keypoint_regressor.network import NUM_POINTS, KeypointNetwork, decode, prepare
from aa_jax.network_tensors import fill
from aa_jax.tensor_file import Tensor, read_metadata, read_tensors

WEIGHTS = Path(__file__).with_name("weights.safetensors")
"""What comes with the package; its metadata says how it was trained, and its PCK on true renders."""
BATCH = 16


class KeypointRegressor:
    """Finds the 18 body points (`aa_jax.pose.keypoints`) of the one synthetic character in each frame.

    Attributes:
      metadata: how it was trained, and its PCK on true renders.
      sha256: of the file; empty where there is none.
    """

    def __init__(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, sha256: str = ""):
        """Fill the network.

        Args:
          tensors: of every parameter, by its path in `KeypointNetwork` with dots.

        Raises:
          ValueError: a parameter is missing, of another shape, or unknown.
        """
        self.metadata, self.sha256 = dict(metadata or {}), sha256
        network = nnx.eval_shape(lambda: KeypointNetwork(rngs=nnx.Rngs(0)))
        graphdef, state = fill(network, tensors, "the keypoint network", dtype=lambda _: np.float32)

        @jax.jit
        def find(state: nnx.State, frames: UInt8[Array, "b h w 3"]) -> Float[Array, "b 18 2"]:
            return decode(nnx.merge(graphdef, state)(prepare(frames)))

        self._find = functools.partial(find, state)

    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, "t 18 2"]:
        """x and y of every frame's points, normalised to [0, 1]; a place is found also for points that are not seen.

        Args:
          frames: RGB, of any size; they are shrunk to 48x64 (width x height) for the network.

        Raises:
          ValueError: frames of another type or shape.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
            raise ValueError(f"frames {frames.dtype} {frames.shape} given, expected uint8 (t, h, w, 3)")
        found = [np.zeros((0, NUM_POINTS, 2), np.float32)]
        for start in range(0, len(frames), BATCH):
            # The last batch is filled up with the last frame, so that one program serves.
            indices = np.minimum(np.arange(start, start + BATCH), len(frames) - 1)
            found.append(np.asarray(self._find(frames[indices])))
        return np.concatenate(found)[: len(frames)]


def load(path: str | os.PathLike[str] = WEIGHTS) -> KeypointRegressor:
    """The trained regressor.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no whole safetensors file, or not of this network.
    """
    tensors, metadata = read_tensors(path), read_metadata(path)
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    try:
        return KeypointRegressor(tensors, metadata, sha256)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
