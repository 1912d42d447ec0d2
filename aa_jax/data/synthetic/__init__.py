"""Synthetic dressed characters, drawn in JAX: a benchmark with true answers, and nothing to download."""

from aa_jax.data.synthetic.export import export
from aa_jax.data.synthetic.keypoints import perturb
from aa_jax.data.synthetic.logo import bit_accuracy
from aa_jax.data.synthetic.source import SyntheticClip, SyntheticSource

__all__ = ["SyntheticClip", "SyntheticSource", "bit_accuracy", "export", "perturb"]
