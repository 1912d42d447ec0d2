"""Who the character is: body, face, hair, garments and emblems, drawn from the identity's stream alone."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aa_jax.data.synthetic.dice import Dice

CHEST_GRID, BACK_GRID = (8, 8), (6, 6)
# Bones with a length factor of their own, the width of the face among them.
BONES = (
    "thigh", "shin", "torso", "shoulders", "hips", "upper_arm", "forearm", "neck", "head", "hand", "foot", "face",
)  # fmt: skip
# Limbs with a thickness factor of their own, independent of the lengths: a skeleton must not tell the build.
BUILD = ("thigh", "shin", "chest", "waist", "pelvis", "upper_arm", "forearm", "neck")
PATTERNS = ("plain", "stripes", "checks", "dots", "blots")
TOPS = ("sleeveless", "short", "long")
BOTTOMS = ("shorts", "trousers", "skirt")
HAIR = ("short", "long", "bun", "pony", "bald", "cap")
# Styles are not equally frequent.
HAIR_CHOICE = (0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 5, 5)

SKIN_DARK, SKIN_MIDDLE, SKIN_LIGHT = (0.30, 0.18, 0.12), (0.72, 0.48, 0.34), (0.97, 0.80, 0.69)
HAIR_COLOURS = (
    (0.07, 0.06, 0.06), (0.20, 0.12, 0.08), (0.38, 0.22, 0.11), (0.80, 0.62, 0.32),
    (0.62, 0.24, 0.10), (0.72, 0.71, 0.70), (0.86, 0.30, 0.52), (0.20, 0.42, 0.70),
)  # fmt: skip


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Fabric:
    """A patterned cloth.

    Attributes:
      pattern: index in `PATTERNS`.
      colours: (3, 3) RGB in [0, 1]: ground, figure, and a second figure.
      frequency: repeats per metre.
      direction: (2,) cosine and sine of the pattern's angle.
      phase: (4,) of the repeats.
    """

    pattern: Int[Array, "*p"]
    colours: Float[Array, "*p 3 3"]
    frequency: Float[Array, "*p"]
    direction: Float[Array, "*p 2"]
    phase: Float[Array, "*p 4"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Emblem:
    """A print of random bits.

    Attributes:
      bits: (rows, columns) 0 or 1, the first row on top, the first column at the viewer's left.
      colours: (2, 3) RGB of 0 and 1.
    """

    bits: Float[Array, "rows columns"]
    colours: Float[Array, "2 3"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Face:
    """A face's colours and proportions.

    Attributes:
      iris, lips: (3,) RGB.
      eyes: (3,) distance apart, size and height, as factors.
      brows: (2,) thickness and slant.
      mouth: (2,) width factor and curve, positive smiling.
      moles: (3, 2) places across and along, fractions of the face.
      glasses: 0 or 1.
      beard: 0 or 1.
    """

    iris: Float[Array, "3"]
    lips: Float[Array, "3"]
    eyes: Float[Array, "3"]
    brows: Float[Array, "2"]
    mouth: Float[Array, "2"]
    moles: Float[Array, "3 2"]
    glasses: Float[Array, ""]
    beard: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Character:
    """All of an identity.

    Attributes:
      lengths: a factor for each of `BONES`, [0.75, 1.3].
      build: a factor for each of `BUILD`.
      skin: (3,) RGB.
      face: the face.
      hair: index in `HAIR`.
      hair_colour: (3,) RGB.
      hairline: (3,) height over the eyes, slant, and how far it reaches to the front at the temples.
      hair_length: of what hangs, as a factor.
      cap: colours (2, 3) of the cap's crown and brim.
      top: index in `TOPS`.
      top_fabric: its cloth.
      sleeve_colours: (2, 3, 3) the cloth's colours on the left and the right sleeve; alike on most characters.
      sleeve: fraction of the upper arm that a short sleeve covers.
      neckline: (2,) depth in metres, and from 0 (round) to 1 (a V).
      bottom: index in `BOTTOMS`.
      bottom_fabric: its cloth.
      leg: fraction of the thigh that shorts cover, or of the leg's length that a skirt has.
      looseness: (2,) thickness of the cloth of top and bottom, metres.
      belt: (3,) RGB.
      shoes: (2, 3) RGB of leather and sole.
      socks: (4,) RGB and fraction of the shin.
      chest: emblem on the front of the top.
      back: emblem on its back.
      digit: number on the thigh, 0 to 9.
      side_stripe: (4,) RGB and 0 or 1: a stripe down the outside of the legs.
      swing: (2,) frequency in Hz of hair and of the skirt.
      damping: (2,) damping ratio of both.
    """

    lengths: Float[Array, "12"]
    build: Float[Array, "8"]
    skin: Float[Array, "3"]
    face: Face
    hair: Int[Array, ""]
    hair_colour: Float[Array, "3"]
    hairline: Float[Array, "3"]
    hair_length: Float[Array, ""]
    cap: Float[Array, "2 3"]
    top: Int[Array, ""]
    top_fabric: Fabric
    sleeve_colours: Float[Array, "2 3 3"]
    sleeve: Float[Array, ""]
    neckline: Float[Array, "2"]
    bottom: Int[Array, ""]
    bottom_fabric: Fabric
    leg: Float[Array, ""]
    looseness: Float[Array, "2"]
    belt: Float[Array, "3"]
    shoes: Float[Array, "2 3"]
    socks: Float[Array, "4"]
    chest: Emblem
    back: Emblem
    digit: Int[Array, ""]
    side_stripe: Float[Array, "4"]
    swing: Float[Array, "2"]
    damping: Float[Array, "2"]


def hsv(hue: Float[Array, "*c"], saturation: Float[Array, "*c"], value: Float[Array, "*c"]) -> Float[Array, "*c 3"]:
    """RGB in [0, 1]."""
    ramp = jnp.abs((hue[..., None] * 6 + jnp.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return value[..., None] * (1 - saturation[..., None] * (1 - jnp.clip(ramp, 0.0, 1.0)))


def luminance(colour: Float[Array, "*c 3"]) -> Float[Array, "*c"]:
    """Brightness of an RGB colour, [0, 1]."""
    return colour @ jnp.array([0.299, 0.587, 0.114])


def character(number: Int[Array, ""] | int) -> Character:
    """The character of an identity."""
    dice = Dice("identity", number, 400)
    lengths = jnp.clip(1 + 0.12 * dice.normal((len(BONES),)), 0.75, 1.3)
    # Shoulders, hips, neck and head vary less, or bodies come apart.
    lengths = 1 + (lengths - 1) * jnp.array([1, 1, 0.8, 0.6, 0.6, 1, 1, 0.8, 0.6, 0.8, 0.8, 0.5])
    build = dice.uniform(0.8, 1.3, (len(BUILD),))
    build = 1 + (build - 1.0) * jnp.array([1, 1, 0.6, 0.7, 0.6, 1, 1, 0.8])
    skin = _skin(dice)
    hair_colour = _hair_colour(dice)
    top_fabric, bottom_fabric = _fabric(dice), _fabric(dice)
    return Character(
        lengths=lengths,
        build=build,
        skin=skin,
        face=_face(dice, skin),
        hair=jnp.array(HAIR_CHOICE)[dice.below(len(HAIR_CHOICE))],
        hair_colour=hair_colour,
        hairline=jnp.stack([dice.uniform(0.36, 0.62), dice.uniform(-0.22, 0.22), dice.uniform(0.0, 0.35)]),
        hair_length=dice.uniform(0.7, 1.3),
        cap=_colours(dice, 2),
        top=dice.below(len(TOPS)),
        top_fabric=top_fabric,
        sleeve_colours=_sleeves(dice, top_fabric.colours),
        sleeve=dice.uniform(0.45, 0.8),
        neckline=jnp.stack([dice.uniform(0.0, 0.075), dice.chance(0.4)]),
        bottom=dice.below(len(BOTTOMS)),
        bottom_fabric=bottom_fabric,
        leg=dice.uniform(0.45, 0.95),
        looseness=jnp.stack([dice.uniform(0.006, 0.022), dice.uniform(0.006, 0.026)]),
        belt=_colours(dice, 1)[0],
        shoes=_colours(dice, 2),
        socks=jnp.append(_colours(dice, 1)[0], dice.uniform(0.1, 0.45)),
        chest=_emblem(dice, CHEST_GRID),
        back=_emblem(dice, BACK_GRID),
        digit=dice.below(10),
        side_stripe=jnp.append(_colours(dice, 1)[0], dice.chance(0.4)),
        swing=jnp.stack([dice.uniform(0.9, 1.5), dice.uniform(1.1, 1.8)]),
        damping=dice.uniform(0.12, 0.3, (2,)),
    )


def _skin(dice: Dice) -> Float[Array, "3"]:
    dark, middle, light = jnp.array(SKIN_DARK), jnp.array(SKIN_MIDDLE), jnp.array(SKIN_LIGHT)
    tone = dice.uniform(0.0, 2.0)
    ramp = jnp.where(tone < 1, dark + tone * (middle - dark), middle + (tone - 1) * (light - middle))
    return jnp.clip(ramp * dice.uniform(0.95, 1.05, (3,)), 0.0, 1.0)


def _hair_colour(dice: Dice) -> Float[Array, "3"]:
    return jnp.array(HAIR_COLOURS)[dice.below(len(HAIR_COLOURS))] * dice.uniform(0.8, 1.15)


def _face(dice: Dice, skin: Float[Array, "3"]) -> Face:
    lips = jnp.clip(skin * jnp.array([0.95, 0.62, 0.62]) + jnp.array([0.06, 0.0, 0.02]), 0.0, 1.0)
    return Face(
        iris=hsv(dice.uniform(0.05, 0.62), dice.uniform(0.4, 0.8), dice.uniform(0.25, 0.6)),
        lips=lips,
        eyes=jnp.stack([dice.uniform(0.9, 1.12), dice.uniform(0.85, 1.25), dice.uniform(0.94, 1.06)]),
        brows=jnp.stack([dice.uniform(0.7, 1.5), dice.uniform(-0.25, 0.3)]),
        mouth=jnp.stack([dice.uniform(0.8, 1.25), dice.uniform(-0.3, 1.0)]),
        moles=dice.uniform(-1, 1, (3, 2)),
        glasses=dice.chance(0.25),
        beard=dice.chance(0.2),
    )


def _colours(dice: Dice, count: int) -> Float[Array, "count 3"]:
    return hsv(dice.uniform(shape=(count,)), dice.uniform(0.1, 0.9, (count,)), dice.uniform(0.15, 0.95, (count,)))


def _fabric(dice: Dice) -> Fabric:
    angle = dice.below(12) * (jnp.pi / 12)
    colours = _colours(dice, 3)
    # The figure is clearly lighter or darker than the ground.
    ground = luminance(colours[0])
    wanted = jnp.where(ground > 0.5, ground - 0.38, ground + 0.38)
    figure = jnp.clip(colours[1] + (wanted - luminance(colours[1])), 0.0, 1.0)
    return Fabric(
        pattern=dice.below(len(PATTERNS)),
        colours=colours.at[1].set(figure),
        frequency=dice.uniform(7.0, 20.0),
        direction=jnp.stack([jnp.cos(angle), jnp.sin(angle)]),
        phase=dice.uniform(shape=(4,)),
    )


def _sleeves(dice: Dice, colours: Float[Array, "3 3"]) -> Float[Array, "2 3 3"]:
    other = jnp.roll(colours, 1, axis=0)
    different = dice.chance(0.3, (2, 1, 1))
    return colours + different * (other - colours)


def _emblem(dice: Dice, grid: tuple[int, int]) -> Emblem:
    hue, saturation = dice.uniform(shape=(2,)), dice.uniform(0.2, 0.8, (2,))
    dark, light = hsv(hue, saturation, jnp.array([0.22, 1.0]) - jnp.array([0.0, 0.02]))
    light = jnp.clip(light + jnp.maximum(0.78 - luminance(light), 0.0), 0.0, 1.0)
    inverted = dice.chance(0.5)
    colours = jnp.stack([dark + inverted * (light - dark), light + inverted * (dark - light)])
    return Emblem(bits=dice.chance(0.5, grid), colours=colours)


def look(person: Character) -> Float[Array, " n"]:
    """A character's appearance as numbers: all but the lengths of its bones and the places of its features in the face,
    which are what keypoints give."""
    face = person.face
    seen = vars(person) | {"lengths": (), "face": (face.iris, face.lips, face.moles, face.glasses, face.beard)}
    numbers = [jnp.ravel(leaf) for leaf in jax.tree.leaves(seen) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    kinds = (
        (person.hair, HAIR), (person.top, TOPS), (person.bottom, BOTTOMS), (person.top_fabric.pattern, PATTERNS),
        (person.bottom_fabric.pattern, PATTERNS), (person.digit, range(10)),
    )  # fmt: skip
    return jnp.concatenate([*numbers, *(jax.nn.one_hot(index, len(names)) for index, names in kinds)])
