"""A pinhole camera that looks at the place where the character stands, and pans and zooms slowly if it moves."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aa_jax.data.synthetic.dice import Dice

Size = Int[Array, ""] | int

DISTANCE = 4.0
STATURE = 1.7
# Where the soles of a standing character are, as a fraction of the image's height.
GROUND = 0.93


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """The camera at one moment, or at several (leading axes).

    Attributes:
      focal: pixels per metre at the character's distance.
      pitch: (2,) cosine and sine of the angle by which the camera looks down.
      centre: (2,) pixel where the middle of the character's stature is.
      zoom: magnification of the whole image, background included, about its middle.
      pan: (2,) shift of the whole image, pixels.
      middle: (2,) middle of the image, pixels.
    """

    focal: Float[Array, "*t"]
    pitch: Float[Array, "*t 2"]
    centre: Float[Array, "*t 2"]
    zoom: Float[Array, "*t"]
    pan: Float[Array, "*t 2"]
    middle: Float[Array, "*t 2"]

    def turn(self, vector: Float[Array, "*p 3"]) -> Float[Array, "*p 3"]:
        """A direction in space, in the camera's axes."""
        x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
        cosine, sine = self.pitch
        return jnp.stack([x, cosine * y - sine * z, sine * y + cosine * z], axis=-1)

    def depth(self, point: Float[Array, "*p 3"]) -> Float[Array, "*p"]:
        """Metres towards the camera."""
        return self.turn(point - jnp.array([0.0, STATURE / 2, 0.0]))[..., 2]

    def project(self, point: Float[Array, "*p 3"]) -> tuple[Float[Array, "*p 2"], Float[Array, "*p"]]:
        """Pixels of a point in space, and pixels per metre there."""
        turned = self.turn(point - jnp.array([0.0, STATURE / 2, 0.0]))
        scale = self.focal * DISTANCE / (DISTANCE - turned[..., 2])
        place = self.centre + scale[..., None] * turned[..., :2] * jnp.array([1.0, -1.0])
        return self.middle + self.zoom * (place - self.middle) + self.pan, self.zoom * scale


def views(
    number: Int[Array, ""] | int, times: Float[Array, " t"], *, height: Size, width: Size, moving: Array | bool
) -> View:
    """The camera `number` at `times` (seconds), for images of this size.

    A standing character takes 74 to 84 % of the image's height. A still camera differs from a moving one with the same
    number in pan and zoom alone.
    """
    dice = Dice("camera", number, 32)
    size = dice.uniform(0.74, 0.84)
    pitch = dice.uniform(-0.03, 0.13)
    aside = dice.uniform(-0.03, 0.03) * width
    speed = dice.uniform(0.05, 0.2, (3,))
    phase = dice.uniform(0, 2 * jnp.pi, (3,))
    swing = dice.uniform(0.3, 1.0, (3,)) * jnp.array([0.05 * width, 0.02 * height, 0.07]) * moving
    path = swing * jnp.sin(2 * jnp.pi * speed * times[:, None] + phase)
    focal = size * height / STATURE
    centre = jnp.stack([width / 2 + aside, GROUND * height - size * height / 2])

    def still(value: Float[Array, "..."]) -> Float[Array, "t ..."]:
        return jnp.broadcast_to(value, (len(times), *value.shape))

    return View(
        focal=still(focal),
        pitch=still(jnp.stack([jnp.cos(pitch), jnp.sin(pitch)])),
        centre=still(centre),
        zoom=1 + path[:, 2],
        pan=path[:, :2],
        middle=still(jnp.array([width / 2, height / 2])),
    )
