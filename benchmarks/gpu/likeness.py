"""How like two videos are."""

import numpy as np


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of uint8 videos, in dB; 100 where they are equal."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 100.0
