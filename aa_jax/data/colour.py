"""Colour changes that the frames of one sample share."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, UInt8

# Rec. 709 luma, which saturation pulls towards.
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
GREY_AXIS = np.full(3, 1 / math.sqrt(3), np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Random brightness, contrast, saturation and hue, drawn once per sample.

    Attributes:
      brightness: the image is multiplied by 1 - brightness to 1 + brightness.
      contrast: its distance from mid-grey likewise.
      saturation: its distance from its own luma likewise.
      hue: it is turned about the grey axis by up to so many turns to either side.

    Raises:
      ValueError: a strength outside of [0, 1], or a hue outside of [0, 0.5].
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, largest = getattr(self, field.name), 0.5 if field.name == "hue" else 1.0
            if not 0 <= value <= largest:
                raise ValueError(f"ColourJitter.{field.name} is {value}, expected 0 to {largest:g}")

    def draw(self, rng: np.random.Generator) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
        """A random colour change x -> x matrix + offset of RGB in [0, 1]."""
        gains = [1 + rng.uniform(-s, s) for s in (self.brightness, self.contrast, self.saturation)]
        brightness, contrast, saturation = (np.float32(gain) for gain in gains)
        angle = 2 * math.pi * rng.uniform(-self.hue, self.hue)
        desaturated = np.outer(LUMA, np.ones(3, np.float32))
        matrix = (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * desaturated) @ _turn(angle)
        return brightness * contrast * matrix, np.full(3, (1 - contrast) / 2, np.float32)


def change_colours(
    images: UInt8[np.ndarray, "*n 3"], change: tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]
) -> UInt8[np.ndarray, "*n 3"]:
    """Apply what `ColourJitter.draw` gave."""
    matrix, offset = change
    return np.clip(np.rint(images.astype(np.float32) @ matrix + 255 * offset), 0, 255).astype(np.uint8)


def _turn(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about the grey axis, for row vectors (Rodrigues' formula)."""
    x, y, z = GREY_AXIS
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], np.float32)
    outer = np.outer(GREY_AXIS, GREY_AXIS)
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * outer
    return turn.T.astype(np.float32)
