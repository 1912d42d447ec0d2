"""What each tube of the body looks like: skin, cloth, hair, leather."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aa_jax.data.synthetic.body import CHEST_TOP, PARTS
from aa_jax.data.synthetic.character import BOTTOMS, HAIR, Character, Fabric
from aa_jax.data.synthetic.face import draw_face
from aa_jax.data.synthetic.garment import around, cloth, digit, emblem
from aa_jax.data.synthetic.paint import Colour, colour, mix, shade, soft
from aa_jax.data.synthetic.skeleton import SHOULDER_BELOW
from aa_jax.data.synthetic.tube import Outline, Surface


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Limb:
    """What a limb's paint depends on, for several limbs.

    Attributes:
      fabric: of the sleeve or leg.
      sock: (n, 4) RGB and the fraction of the bone from which it is worn.
      stripe: (n, 4) RGB and 0 or 1: a stripe down the outside.
      outside: (n,) 1 or -1: on which side that is.
      numbered: (n,) 0 or 1: the character's number is on it.
    """

    fabric: Fabric
    sock: Float[Array, "n 4"]
    stripe: Float[Array, "n 4"]
    outside: Float[Array, " n"]
    numbered: Float[Array, " n"]


def arms(person: Character) -> Limb:
    """Upper arms, then forearms; left and right."""
    count = 4
    fabric = jax.tree.map(lambda value: jnp.stack([value] * count), person.top_fabric)
    colours = jnp.concatenate([person.sleeve_colours, person.sleeve_colours])
    return Limb(
        fabric=dataclasses.replace(fabric, colours=colours),
        sock=jnp.tile(jnp.array([0.0, 0.0, 0.0, 9.0]), (count, 1)),
        stripe=jnp.zeros((count, 4)),
        outside=jnp.ones(count),
        numbered=jnp.zeros(count),
    )


def legs(person: Character) -> Limb:
    """Thighs, then shins; left and right."""
    count = 4
    bare = (person.bottom != BOTTOMS.index("trousers")).astype(jnp.float32)
    from_ = 1 - person.socks[3] * bare
    shin = jnp.concatenate([person.socks[:3], jnp.where(bare > 0, from_, 9.0)[None]])
    return Limb(
        fabric=jax.tree.map(lambda value: jnp.stack([value] * count), person.bottom_fabric),
        sock=jnp.stack([jnp.array([0.0, 0.0, 0.0, 9.0])] * 2 + [shin] * 2),
        stripe=jnp.stack([person.side_stripe] * count),
        outside=jnp.array([-1.0, 1.0, -1.0, 1.0]),
        numbered=jnp.array([1.0, 1.0, 0.0, 0.0]),
    )


def paint_limb(person: Character, limb: Limb, shown: Surface, tube: Outline) -> Colour:
    """An arm or a leg: cloth to the hem, then skin, then a sock."""
    worn = cloth(limb.fabric, shown, tube.scale)
    aside = shown.across * limb.outside
    stripe = soft((0.016 - jnp.abs(shown.front) * shown.width) * tube.scale) * (aside > 0) * limb.stripe[3]
    worn = mix(worn, limb.stripe[:3], stripe)
    edge = (tube.hem - shown.fraction) * tube.bone
    worn = shade(worn, 1 - 0.35 * soft((0.010 - jnp.abs(edge - 0.006)) * tube.scale))
    skin = mix(colour(person.skin), limb.sock[:3], soft((shown.fraction - limb.sock[3]) * tube.bone * tube.scale))
    return mix(skin, worn, shown.clothed)


def paint_leg(person: Character, limb: Limb, shown: Surface, tube: Outline) -> Colour:
    """A thigh or a shin: a limb, with a number if it has one."""
    paint = paint_limb(person, limb, shown, tube)
    return digit(paint, person.digit, shown, 0.42 * tube.bone, person.belt, limb.numbered, tube.scale)


def paint_chest(person: Character, shown: Surface, tube: Outline) -> Colour:
    """The top: its cloth, emblems on both sides, and a neckline."""
    paint = cloth(person.top_fabric, shown, tube.scale)
    paint = emblem(paint, person.chest, shown, back=False, scale=tube.scale)
    paint = emblem(paint, person.back, shown, back=True, scale=tube.scale)
    x, y = shown.across * shown.width, shown.along - tube.bone - CHEST_TOP
    return _neckline(person, paint, x, y, shown.front > 0, tube.scale)


def paint_shoulders(person: Character, shown: Surface, tube: Outline) -> Colour:
    """The top from shoulder to shoulder."""
    paint = cloth(person.top_fabric, shown, tube.scale)
    x, y = shown.along - tube.bone / 2, shown.across * shown.width - SHOULDER_BELOW
    return _neckline(person, paint, x, y, shown.front > 0, tube.scale)


def _neckline(person: Character, paint: Colour, x: Array, y: Array, front: Array, scale: Array) -> Colour:
    """A round or V-shaped opening with a hem; `x` and `y` are metres from the neck, aside and up."""
    depth, pointed = person.neckline
    below = jnp.maximum(-y, 0.0) * jnp.where(front, 0.075 / (0.055 + depth), 1.8)
    away = jnp.where(pointed * front > 0, jnp.abs(x) + 0.85 * below, jnp.hypot(x, below)) - 0.078
    paint = mix(paint, person.top_fabric.colours[2], soft((0.012 - away) * scale))
    return mix(paint, person.skin, soft(-away * scale))


def paint_bottom(person: Character, belted: Float[Array, ""], shown: Surface, tube: Outline) -> Colour:
    """The pelvis or the skirt."""
    paint = cloth(person.bottom_fabric, shown, tube.scale)
    return mix(paint, person.belt, belted * soft((shown.along - tube.bone + 0.035) * tube.scale))


def paint_head(person: Character, shown: Surface, tube: Outline) -> Colour:
    """The face and the skull."""
    return draw_face(person.skin, person.hair_colour, person.face, shown, tube.scale, tube.end_width)


def _hair(person: Character) -> Float[Array, "8 4"]:
    """Colours of the tubes of hair, cap and brim, and 1 for hair on the skull, 2 for the cap, 0 for the rest."""
    colours = jnp.stack([person.hair_colour] * 6 + [person.cap[0], person.cap[1]])
    return jnp.concatenate([colours, jnp.array([1.0, 0, 0, 0, 0, 0, 2, 0])[:, None]], axis=1)


def paint_hair(person: Character, hair: Float[Array, "4"], shown: Surface, tube: Outline) -> Colour:
    """Strands of hair, or a cap's panels."""
    strands = around(shown) * 5.5
    return shade(colour(hair[:3]), 0.9 + 0.28 * jnp.abs(strands - jnp.floor(strands) - 0.5))


def opening(person: Character, hair: Float[Array, "4"], shown: Surface, tube: Outline) -> Float[Array, "h w"]:
    """Opacity of hair: 0 where that on the skull leaves the face free."""
    skull = tube.end_width / 1.12
    x, y = shown.across, shown.along / skull - 0.16
    line = person.hairline[0] + 0.28 + person.hairline[1] * x - 0.25 * x * x
    fringe = (y - line) * skull
    reach = jnp.where(person.hair == HAIR.index("long"), 0.35, 0.05) + 0.3 * person.hairline[2]
    temples = (reach - shown.front) * shown.width * 0.8
    on_skull = soft(jnp.maximum(fringe, temples) * tube.scale)
    return jnp.where(hair[3] == 1, on_skull, jnp.where(hair[3] == 2, soft(shown.along * tube.scale), 1.0))


def paint_skin(person: Character) -> Colour:
    """Bare skin."""
    return colour(person.skin)


def paint_shoe(person: Character, shown: Surface, tube: Outline) -> Colour:
    """A shoe with its sole, toe cap and laces."""
    paint = colour(person.shoes[0])
    laces = (
        soft((0.016 - jnp.abs(shown.across) * shown.width) * tube.scale) * (shown.front > 0) * (shown.fraction < 0.85)
    )
    strip = jnp.abs(shown.along * 45 - jnp.floor(shown.along * 45) - 0.5) < 0.25
    paint = mix(paint, person.shoes[1], laces * strip)
    return mix(paint, person.shoes[1], soft((-0.42 - shown.front) * shown.width * tube.scale))


def shine(shown: Surface, tube: Outline, light: Float[Array, "3"], ambient: Float[Array, ""]) -> Float[Array, "h w"]:
    """Brightness of a surface under the light."""
    across, along, towards = shown.normal
    ax, ay = tube.axis[0], tube.axis[1]
    # The light's y points up, the image's down.
    on_across, on_along = -ay * light[0] - ax * light[1], ax * light[0] - ay * light[1]
    facing = on_across * across + on_along * along + light[2] * towards
    return ambient + (1.04 - ambient) * jnp.maximum(facing, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Tubes that are painted alike.

    Attributes:
      first, last: names of the first and the last in `PARTS`.
      window: side of the square that holds any of them, in heights of the image.
      paint: from the character, the tube's own parameters, its surface and its outline to its colour.
      parameters: of all tubes of the group, from the character; leaves with a leading axis.
      opacity: where the tube is cut open, if it is.
    """

    first: str
    last: str
    window: float
    paint: Callable[[Character, Any, Surface, Outline], Colour]
    parameters: Callable[[Character], Any] = lambda person: ()
    opacity: Callable[[Character, Any, Surface, Outline], Float[Array, "h w"]] | None = None

    @property
    def parts(self) -> slice:
        """Of `PARTS`."""
        return slice(PARTS.index(self.first), PARTS.index(self.last) + 1)


def _belts(person: Character) -> Float[Array, "2"]:
    return jnp.array([1.0, 0.0])


GROUPS = (
    Group(first="chest", last="chest", window=0.32, paint=lambda person, own, *rest: paint_chest(person, *rest)),
    Group(
        first="shoulders",
        last="shoulders",
        window=0.30,
        paint=lambda person, own, *rest: paint_shoulders(person, *rest),
    ),
    Group(first="pelvis", last="skirt", window=0.38, paint=paint_bottom, parameters=_belts),
    Group(first="left_thigh", last="right_shin", window=0.40, paint=paint_leg, parameters=legs),
    Group(first="left_upper_arm", last="right_forearm", window=0.29, paint=paint_limb, parameters=arms),
    Group(first="head", last="head", window=0.25, paint=lambda person, own, *rest: paint_head(person, *rest)),
    Group(first="hair", last="brim", window=0.31, paint=paint_hair, parameters=_hair, opacity=opening),
    Group(
        first="left_foot", last="right_foot", window=0.15, paint=lambda person, own, *rest: paint_shoe(person, *rest)
    ),
    Group(first="neck", last="right_palm", window=0.17, paint=lambda person, *rest: paint_skin(person)),
    Group(first="left_thumb_1", last="right_little_2", window=0.06, paint=lambda person, *rest: paint_skin(person)),
)
