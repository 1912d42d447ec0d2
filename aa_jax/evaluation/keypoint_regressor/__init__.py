"""How well generated frames of synthetic characters follow the pose: the body's points are found in them and compared
with the truth. `python -m aa_jax.evaluation.keypoint_regressor` trains the network that finds them."""

from aa_jax.evaluation.keypoint_regressor.pck import pck
from aa_jax.evaluation.keypoint_regressor.regressor import WEIGHTS, KeypointRegressor, load

__all__ = ["WEIGHTS", "KeypointRegressor", "load", "pck"]
