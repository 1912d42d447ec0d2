"""What is behind the character: a wall and a floor of four colours, smooth noise, a few shapes, and the light."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aa_jax.data.synthetic.camera import View
from aa_jax.data.synthetic.character import hsv
from aa_jax.data.synthetic.dice import Dice
from aa_jax.data.synthetic.paint import Colour, mix, shade

NOISE_GRID = 12
NUM_SHAPES = 6
# Heights of the image that the noise reaches to both sides of the middle.
NOISE_REACH = 0.6
NOISE_STRENGTH, NOISE_TINT = 0.11, 0.35
SHADOW = 0.45


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Background:
    """A plane behind the character. Places are in heights of the image from its middle, x to the right, y down.

    Attributes:
      colours: (4, 3) RGB: top and foot of the wall, far and near floor.
      noise: (12, 12, 3) added to it.
      horizon: where the floor meets the wall.
      shapes: (6, 4) centre and half-sizes of rectangles and ellipses on the wall.
      shape_colours: (6, 3) RGB.
      round: (6,) 1: an ellipse.
      shown: (6,) 1: the shape is there.
      light: (3,) direction to the light.
      ambient: brightness of what faces away from it.
    """

    colours: Float[Array, "4 3"]
    noise: Float[Array, "12 12 3"]
    horizon: Float[Array, ""]
    shapes: Float[Array, "6 4"]
    shape_colours: Float[Array, "6 3"]
    round: Float[Array, "6"]
    shown: Float[Array, "6"]
    light: Float[Array, "3"]
    ambient: Float[Array, ""]


def background(number: Int[Array, ""] | int) -> Background:
    """The background `number`. Its colours are muted: the character is what stands out."""
    dice = Dice("background", number, 520)
    colours = hsv(dice.uniform(shape=(4,)), dice.uniform(0.05, 0.4, (4,)), dice.uniform(0.35, 0.85, (4,)))
    # Foot and top of the wall, and the two ends of the floor, are shades of one colour.
    colours = jnp.stack(
        [colours[0], 0.75 * colours[0] + 0.25 * colours[1], 0.8 * colours[2], 0.7 * colours[2] + 0.3 * colours[3]]
    )
    centre = jnp.stack([dice.uniform(-0.42, 0.42, (NUM_SHAPES,)), dice.uniform(-0.5, 0.25, (NUM_SHAPES,))], axis=-1)
    light = jnp.stack([dice.uniform(-0.7, 0.7), dice.uniform(0.3, 0.8), jnp.float32(0.8)])
    wall = colours[dice.below(2, (NUM_SHAPES,))]
    own = hsv(
        dice.uniform(shape=(NUM_SHAPES,)), dice.uniform(0.1, 0.5, (NUM_SHAPES,)), dice.uniform(0.3, 0.9, (NUM_SHAPES,))
    )
    noise = dice.uniform(-1, 1, (NOISE_GRID, NOISE_GRID, 3))
    return Background(
        colours=colours,
        noise=NOISE_STRENGTH * (NOISE_TINT * noise + (1 - NOISE_TINT) * noise.mean(axis=-1, keepdims=True)),
        horizon=dice.uniform(0.17, 0.34),
        shapes=jnp.concatenate([centre, dice.uniform(0.03, 0.16, (NUM_SHAPES, 2))], axis=-1),
        shape_colours=0.45 * wall + 0.55 * own,
        round=dice.chance(0.35, (NUM_SHAPES,)),
        shown=dice.chance(0.55, (NUM_SHAPES,)),
        light=light / jnp.linalg.norm(light),
        ambient=dice.uniform(0.55, 0.7),
    )


def draw_background(scene: Background, view: View, height: int, width: int) -> Colour:
    """The background in every pixel of an image."""
    x = (jnp.arange(width) + 0.5 - view.middle[0] - view.pan[0]) / (view.zoom * height)
    y = (jnp.arange(height) + 0.5 - view.middle[1] - view.pan[1]) / (view.zoom * height)
    pixel = 1 / (view.zoom * height)
    wall = jnp.clip((y + 0.5) / (scene.horizon + 0.5), 0.0, 1.0)[:, None]
    floor = jnp.clip((y - scene.horizon) / (0.5 - scene.horizon), 0.0, 1.0)[:, None]
    # One column is enough: wall and floor change with the height alone.
    column = jnp.where(
        (y < scene.horizon)[:, None],
        scene.colours[0] + wall * (scene.colours[1] - scene.colours[0]),
        scene.colours[2] + floor * (scene.colours[3] - scene.colours[2]),
    )
    # The second product has x as its last axis: other layouts are read three times as slowly.
    noise = jnp.einsum("yk,klc->cyl", _weights(y), scene.noise) @ _weights(x).T
    r, g, b = (column[:, channel, None] + noise[channel] for channel in range(3))
    planes: Colour = r, g, b
    for shape, colour, rounded, shown in zip(scene.shapes, scene.shape_colours, scene.round, scene.shown, strict=True):
        dx, dy = jnp.abs(x - shape[0]), jnp.abs(y - shape[1])
        box = (
            jnp.clip((shape[2] - dx) / pixel + 0.5, 0, 1)[None, :]
            * jnp.clip((shape[3] - dy) / pixel + 0.5, 0, 1)[:, None]
        )
        inside = 1 - ((dx / shape[2]) ** 2)[None, :] - ((dy / shape[3]) ** 2)[:, None]
        disc = jnp.clip(inside * (0.5 * jnp.minimum(shape[2], shape[3]) / pixel) + 0.5, 0, 1)
        planes = mix(planes, colour, shown * jnp.where(rounded > 0.5, disc, box))
    return planes


def shadow_place(feet: Float[Array, "2 3 3"], view: View) -> Float[Array, "4"]:
    """Centre and half-sizes in pixels of the shadow under the soles, whose toes and heels are at `feet`."""
    points = view.project(feet)[0]
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    scale = view.focal * view.zoom
    half_x, half_y = (high[0] - low[0]) / 2 + 0.16 * scale, 0.075 * scale
    return jnp.stack([(low[0] + high[0]) / 2, high[1] - 0.015 * scale, half_x, half_y])


def cast_shadow(behind: Colour, place: Float[Array, "4"]) -> Colour:
    """A background with a soft shadow at `place`."""
    height, width = behind[0].shape
    x, y = (jnp.arange(width) + 0.5 - place[0]) / place[2], (jnp.arange(height) + 0.5 - place[1]) / place[3]
    return shade(behind, 1 - SHADOW * jnp.maximum(1 - (x * x)[None, :] - (y * y)[:, None], 0.0))


def _weights(place: Float[Array, " n"]) -> Float[Array, "n 12"]:
    """Of the noise's lattice points at each place: smooth, and of sum 1."""
    lattice = jnp.clip((place / NOISE_REACH + 1) / 2, 0.0, 1.0) * (NOISE_GRID - 1)
    near = jnp.clip(1 - jnp.abs(lattice[:, None] - jnp.arange(NOISE_GRID)), 0.0, 1.0)
    return near * near * (3 - 2 * near)
