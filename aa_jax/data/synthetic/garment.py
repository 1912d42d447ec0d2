"""Cloth with patterns, and prints on it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from aa_jax.data.synthetic.character import PATTERNS, Emblem, Fabric
from aa_jax.data.synthetic.paint import Colour, colour, mix, soft
from aa_jax.data.synthetic.tube import Surface

# Emblems: half-sizes and place up the chest, metres.
CHEST_HALF, CHEST_MIDDLE = 0.110, 0.175
BACK_HALF, BACK_MIDDLE = 0.105, 0.165
EMBLEM_BORDER = 0.008
# 3 x 5 digits, a bit each, rows from the top.
DIGITS = (0b111101101101111, 0b010110010010111, 0b111001111100111, 0b111001111001111, 0b101101111001001,
          0b111100111001111, 0b111100111101111, 0b111001001001001, 0b111101111101111, 0b111101111001111)  # fmt: skip


def around(shown: Surface) -> Float[Array, "..."]:
    """Quarter turns from the front, (-2, 2]: a cheap stand-in for the angle, right to 4 degrees."""
    quarter = shown.across / jnp.maximum(jnp.abs(shown.across) + jnp.abs(shown.front), 1e-6)
    return jnp.where(shown.front >= 0, quarter, jnp.sign(shown.across) * 2 - quarter)


def cloth(fabric: Fabric, shown: Surface, scale: Float[Array, ""]) -> Colour:
    """A garment's pattern in every pixel.

    Args:
      fabric: the cloth.
      shown: the tube that wears it.
      scale: pixels per metre; patterns finer than pixels fade to their mean.
    """
    u, v = around(shown) * (shown.width * (jnp.pi / 2)), shown.along
    x = (u * fabric.direction[0] + v * fabric.direction[1]) * fabric.frequency + fabric.phase[0]
    y = (v * fabric.direction[0] - u * fabric.direction[1]) * fabric.frequency + fabric.phase[1]
    period = scale / fabric.frequency
    sharp = jnp.clip(period / 2 - 0.5, 0.0, 1.0)
    # Distance from the middle of a repeat, [0, 0.5].
    a, b = jnp.abs(x - jnp.floor(x) - 0.5), jnp.abs(y - jnp.floor(y) - 0.5)
    stripes = soft((0.25 - a) * period)
    across_stripes = soft((0.25 - b) * period)
    dots = soft((0.09 - a * a - b * b) * (period / 0.6))
    bent_x, bent_y = 0.55 * x + fabric.phase[2] + 1.3 * a, 0.55 * y + fabric.phase[3] + 1.1 * b
    blots_a = jnp.abs(bent_x + 0.5 * b - jnp.floor(bent_x + 0.5 * b) - 0.5)
    blots_b = jnp.abs(bent_y + 0.5 * a - jnp.floor(bent_y + 0.5 * a) - 0.5)
    blots = soft((0.42 - blots_a - blots_b) * period * 1.2)
    kind = fabric.pattern
    figure = jnp.where(kind == PATTERNS.index("stripes"), stripes, 0.0)
    figure = jnp.where(kind == PATTERNS.index("checks"), 0.6 * stripes + 0.4 * across_stripes, figure)
    figure = jnp.where(kind == PATTERNS.index("dots"), dots, figure)
    figure = jnp.where(kind == PATTERNS.index("blots"), blots, figure)
    # Every other repeat has the second figure's colour.
    even = x * 0.5 - jnp.floor(x * 0.5) < 0.5
    other = mix(colour(fabric.colours[2]), fabric.colours[1], even)
    mean = 0.4 * (kind > 0)
    return mix(colour(fabric.colours[0]), other, mean + sharp * (figure - mean))


def emblem(below: Colour, print_: Emblem, shown: Surface, *, back: bool, scale: Float[Array, ""]) -> Colour:
    """A print of bits over a cloth, flat on the front or the back of the chest."""
    half, middle = (BACK_HALF, BACK_MIDDLE) if back else (CHEST_HALF, CHEST_MIDDLE)
    rows, columns = print_.bits.shape
    x = shown.across * shown.width * (-1 if back else 1)
    y = middle - shown.along
    row = jnp.clip((y / half + 1) * (rows / 2), 0, rows - 1).astype(jnp.int32)
    column = jnp.clip((x / half + 1) * (columns / 2), 0, columns - 1).astype(jnp.int32)
    bit = print_.bits.reshape(-1)[row * columns + column]
    side = -shown.front if back else shown.front
    opacity = soft((half + EMBLEM_BORDER - jnp.maximum(jnp.abs(x), jnp.abs(y))) * scale) * (side > 0)
    inside = jnp.maximum(jnp.abs(x), jnp.abs(y)) < half
    paint = mix(colour(print_.colours[0]), print_.colours[1], bit * inside)
    return mix(below, paint, opacity)


def cell_centres(grid: tuple[int, int], *, back: bool) -> tuple[Float[Array, " cells"], Float[Array, " cells"]]:
    """Where the cells of an emblem are: metres across (to the wearer's left) and along the chest, row by row."""
    half, middle = (BACK_HALF, BACK_MIDDLE) if back else (CHEST_HALF, CHEST_MIDDLE)
    rows, columns = grid
    row, column = jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij")
    x = ((column + 0.5) * (2 / columns) - 1) * half * (-1 if back else 1)
    y = ((row + 0.5) * (2 / rows) - 1) * half
    return x.reshape(-1), middle - y.reshape(-1)


def digit(
    below: Colour, number: Array, shown: Surface, middle: Array, paint: Array, opacity: Array, scale: Array
) -> Colour:
    """A digit on the front of a thigh, `middle` metres down it."""
    half_x, half_y = 0.034, 0.058
    x, y = -shown.across * shown.width, shown.along - middle
    row = jnp.clip((y / half_y + 1) * 2.5, 0, 4).astype(jnp.int32)
    column = jnp.clip((x / half_x + 1) * 1.5, 0, 2).astype(jnp.int32)
    bit = (jnp.array(DIGITS)[number] >> (14 - row * 3 - column)) & 1
    inside = soft((half_x - jnp.abs(x)) * scale) * soft((half_y - jnp.abs(y)) * scale) * (shown.front > 0)
    return mix(below, paint, opacity * bit * inside)
