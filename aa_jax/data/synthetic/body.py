"""From a character and its posed skeleton to the tubes that it is made of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aa_jax.data.synthetic.character import BONES, BOTTOMS, BUILD, HAIR, TOPS, Character
from aa_jax.data.synthetic.skeleton import FOOT, THIGH, Skeleton
from aa_jax.data.synthetic.tube import Tube

# The tubes in their order; of two sides the left comes first. A finger has two tubes.
PARTS = (
    "chest", "shoulders", "pelvis", "skirt",
    "left_thigh", "right_thigh", "left_shin", "right_shin",
    "left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm",
    "head",
    "hair", "hanging_hair", "bun", "pony_1", "pony_2", "pony_3", "cap", "brim",
    "left_foot", "right_foot",
    "neck", "nose", "left_ear", "right_ear", "left_palm", "right_palm",
    *(f"{side}_{finger}_{bone}" for bone in (1, 2) for side in ("left", "right")
      for finger in ("thumb", "index", "middle", "ring", "little")),
)  # fmt: skip
# Half the skull's width and its top above the skull's base, metres, at size 1; heads are large, so that faces show.
SKULL, TOP, HEAD_SIZE = 0.082, 0.245, 1.1
FINGER_WIDTH = 0.0098
# The chest's tube ends so far below the neck.
CHEST_TOP = 0.055
# How far the links of a pony tail swing.
PONY_BENDS = (0.35, 0.9, 1.25)


def tubes(person: Character, bones: Skeleton, hair: Float[Array, "2"], skirt: Float[Array, "2"]) -> Tube:
    """The tubes of one moment, (parts,) in the order of `PARTS`.

    Args:
      person: who it is.
      bones: the skeleton at the moment.
      hair: radians by which hair hangs to +x and to +z.
      skirt: the same of a skirt.
    """
    of = dict(zip(BONES, bones.factors, strict=True))
    build = dict(zip(BUILD, person.build, strict=True))
    pieces = (
        _trunk(person, bones, of, build, skirt), _legs(person, bones, build), _arms(person, bones, build),
        _head(person, bones, of, build, hair), _feet(bones, of), _neck(bones, of, build), _hands(bones, of, build),
    )  # fmt: skip
    return jax.tree.map(lambda *fields: jnp.concatenate(fields), *pieces)


def _is(index: Array, names: tuple[str, ...], *wanted: str) -> Float[Array, ""]:
    return jnp.isin(index, jnp.array([names.index(name) for name in wanted])).astype(jnp.float32)


def _batch(
    start: Array, end: Array, side: Array, start_width: Array | float, end_width: Array | float, *,
    depth: Array | float = 1.0, caps: tuple[float, float] = (1.0, 1.0), layer: Array | float = 0.0,
    hem: Array | float = 0.0, present: Array | float = 1.0,
) -> Tube:  # fmt: skip
    """Tubes that are alike: a leading axis where something differs."""

    def fill(value: Array | float) -> Float[Array, " n"]:
        return jnp.broadcast_to(jnp.asarray(value, jnp.float32), (len(start),))

    return Tube(
        start=start, end=end, side=jnp.broadcast_to(side, start.shape), start_width=fill(start_width),
        end_width=fill(end_width), depth=fill(depth), start_cap=fill(caps[0]), end_cap=fill(caps[1]), layer=fill(layer),
        hem=fill(hem), present=fill(present),
    )  # fmt: skip


def _single(start: Array, end: Array, *rest: Array | float, **fields: Array | float | tuple[float, float]) -> Tube:
    return _batch(start[None], end[None], *rest, **fields)  # type: ignore[arg-type]


def _join(*pieces: Tube) -> Tube:
    return jax.tree.map(lambda *fields: jnp.concatenate(fields), *pieces)


def _trunk(
    person: Character, bones: Skeleton, of: dict[str, Array], build: dict[str, Array], sway: Float[Array, "2"]
) -> Tube:
    """Chest, shoulders, pelvis and skirt."""
    loose = person.looseness
    across, up = bones.chest_axes[:, 0], bones.chest_axes[:, 1]
    hips, hips_up, hips_front = bones.pelvis_axes[:, 0], bones.pelvis_axes[:, 1], bones.pelvis_axes[:, 2]
    pelvis_width, waist_width = 0.148 * build["pelvis"] * of["hips"], 0.128 * build["waist"]
    chest_width = 0.158 * build["chest"] * of["shoulders"]
    # The skirt's hem hangs over the knees, and is wide enough for them.
    fraction = 0.3 + 0.7 * person.leg
    knees = bones.knee - bones.pelvis
    fore = (knees @ hips_front).mean()
    spread, stride = (jnp.abs(knees @ hips).max(), jnp.abs(knees @ hips_front - fore).max())
    gravity = jnp.stack([jnp.sin(sway[0]), jnp.float32(-1.0), jnp.sin(sway[1])])
    hang = fraction * THIGH * of["thigh"] * gravity / jnp.linalg.norm(gravity)
    hem_width = jnp.maximum(pelvis_width * 1.35, spread * fraction + 0.11)
    hem_depth = jnp.clip((stride * fraction + 0.12) / hem_width, 0.8, 1.6)
    top = bones.waist + 0.02 * hips_up
    return _join(
        _single(bones.waist - 0.035 * up, bones.neck - CHEST_TOP * up, across, waist_width * 1.03, chest_width,
                depth=0.64, caps=(0.12, 0.4), layer=loose[0] + 0.006, hem=2.0),
        _single(bones.shoulder[0], bones.shoulder[1], up, 0.046 * build["upper_arm"], 0.046 * build["upper_arm"],
                depth=1.1, caps=(0.9, 0.9), layer=loose[0], hem=2.0),
        _single(bones.pelvis - 0.045 * hips_up, top, hips, pelvis_width, waist_width * 1.02, depth=0.72,
                caps=(0.55, 0.3), layer=loose[1], hem=2.0),
        _single(top - 0.02 * hips_up, bones.pelvis + hang + 0.45 * fore * hips_front, hips, waist_width * 1.08,
                hem_width, depth=hem_depth, caps=(0.2, 0.06), layer=loose[1], hem=2.0,
                present=_is(person.bottom, BOTTOMS, "skirt")),
    )  # fmt: skip


def _legs(person: Character, bones: Skeleton, build: dict[str, Array]) -> Tube:
    """Thighs and shins."""
    trousers, shorts = _is(person.bottom, BOTTOMS, "trousers"), _is(person.bottom, BOTTOMS, "shorts")
    thigh, shin = 0.078 * build["thigh"], 0.054 * build["shin"]
    return _join(
        _batch(bones.hip, bones.knee, -bones.thigh_axes[..., 0], thigh, shin * 1.02, depth=1.05,
               layer=person.looseness[1], hem=2 * trousers + person.leg * shorts),
        _batch(bones.knee, bones.ankle, -bones.shin_axes[..., 0], shin, 0.035 * build["shin"],
               layer=person.looseness[1] * 1.1, hem=0.97 * trousers),
    )  # fmt: skip


def _arms(person: Character, bones: Skeleton, build: dict[str, Array]) -> Tube:
    """Upper arms and forearms."""
    long, short = _is(person.top, TOPS, "long"), _is(person.top, TOPS, "short")
    upper, lower = 0.047 * build["upper_arm"], 0.037 * build["forearm"]
    return _join(
        _batch(bones.shoulder, bones.elbow, -bones.upper_arm_axes[..., 0], upper, lower * 1.04,
               layer=person.looseness[0], hem=2 * long + person.sleeve * short),
        _batch(bones.elbow, bones.wrist, -bones.forearm_axes[..., 0], lower, 0.026 * build["forearm"],
               layer=person.looseness[0], hem=0.93 * long),
    )  # fmt: skip


def _skull(bones: Skeleton, of: dict[str, Array]) -> tuple[Array, Callable[..., Float[Array, "3"]]]:
    """The head's size, and the function from places in its own axes, at size 1, to space."""
    size = HEAD_SIZE * of["head"]

    def place(*xyz: Array | float) -> Float[Array, "3"]:
        return bones.head + size * (bones.head_axes @ jnp.stack([jnp.asarray(value, jnp.float32) for value in xyz]))

    return size, place


def _head(
    person: Character, bones: Skeleton, of: dict[str, Array], build: dict[str, Array], sway: Float[Array, "2"]
) -> Tube:
    """Head, hair and cap."""
    size, place = _skull(bones, of)
    across, front = bones.head_axes[:, 0], bones.head_axes[:, 2]
    skull = SKULL * size * of["face"]

    def worn(*styles: str) -> Float[Array, ""]:
        return _is(person.hair, HAIR, *styles)

    hang = jnp.stack([sway[0], jnp.float32(-1.0), sway[1]])
    fall = (0.17 + 0.10 * person.hair_length) * size * hang / jnp.linalg.norm(hang) - 0.015 * front
    # A pony tail's links stand off the head first, and swing more towards their end.
    bends = jnp.array(PONY_BENDS)[:, None]
    links = bends * (hang + jnp.array([0.0, 1.0, 0.0])) + jnp.array([0.0, -1.0, 0.0]) - (1.3 - bends) * 0.55 * front
    links = 0.105 * size * person.hair_length * links / jnp.linalg.norm(links, axis=-1, keepdims=True)
    ends = place(0.0, 0.165, -0.085) + jnp.cumsum(links, axis=0)
    thick = size * jnp.array([0.034, 0.042, 0.036, 0.014])
    return _join(
        _single(place(0.0, 0.058, 0.018), place(0.0, TOP - 0.082, 0.0), across, 0.70 * skull, skull, depth=1.12,
                caps=(0.95, 1.0)),
        _single(place(0.0, 0.10, -0.008), place(0.0, TOP - 0.075, -0.004), across, skull * 1.06, skull * 1.12,
                depth=1.13, caps=(0.9, 1.0), present=worn("short", "long", "bun", "pony", "cap")),
        _single(place(0.0, 0.15, -0.034), place(0.0, 0.10, -0.055) + fall, across, skull * 1.05, skull, depth=0.72,
                caps=(0.8, 0.5), present=worn("long")),
        _single(place(0.0, 0.235, -0.06), place(0.0, 0.255, -0.075), across, 0.046 * size, 0.044 * size,
                present=worn("bun")),
        _batch(ends - links, ends, across, thick[:3], thick[1:], present=worn("pony")),
        _single(place(0.0, 0.155, -0.004), place(0.0, TOP - 0.072, -0.004), across, skull * 1.17, skull * 1.15,
                depth=1.13, caps=(0.3, 0.95), present=worn("cap")),
        _single(place(0.0, 0.166, 0.065), place(0.0, 0.150, 0.135), across, skull * 0.98, skull * 0.7, depth=0.10,
                caps=(0.3, 0.5), present=worn("cap")),
    )  # fmt: skip


def _neck(bones: Skeleton, of: dict[str, Array], build: dict[str, Array]) -> Tube:
    """Neck, nose and ears."""
    size, place = _skull(bones, of)
    across, front = bones.head_axes[:, 0], bones.head_axes[:, 2]
    half = SKULL * of["face"]
    ears = jnp.stack([place(side * half * 0.97, 0.085, -0.005) for side in (1.0, -1.0)])
    ear_tops = jnp.stack([place(side * half * 1.04, 0.118, -0.012) for side in (1.0, -1.0)])
    return _join(
        _single(bones.neck - 0.05 * bones.chest_axes[:, 1], place(0.0, 0.05, -0.014), across, 0.054 * build["neck"],
                0.049 * build["neck"]),
        _single(place(0.0, 0.118, half * 1.02), place(0.0, 0.088, half * 1.12 + 0.006), across, 0.008 * size,
                0.0145 * size),
        _batch(ears, ear_tops, jnp.stack([-front, front]), 0.014 * size, 0.018 * size, depth=0.6),
    )  # fmt: skip


def _feet(bones: Skeleton, of: dict[str, Array]) -> Tube:
    side, up, front = (bones.foot_axes[..., axis] for axis in range(3))
    sole = bones.ankle - 0.036 * up
    length = FOOT * of["foot"] - 0.055
    return _batch(
        sole - 0.022 * front, sole + length * front - 0.008 * up, -side, 0.040, 0.042, depth=0.82, caps=(0.9, 1.1)
    )


def _hands(bones: Skeleton, of: dict[str, Array], build: dict[str, Array]) -> Tube:
    """Palms, then the fingers' first bones, then what is beyond them in one."""
    size = of["hand"]
    across = bones.hand_axes[..., 2]
    fingers = bones.hands[:, 1:].reshape(2, 5, 4, 3)
    palm = _batch(bones.hands[:, 0], fingers[:, 1:, 0].mean(axis=1), across, 0.027 * size, 0.040 * size, depth=0.42,
                  caps=(0.8, 0.35))  # fmt: skip
    thumbs_first = jnp.tile(jnp.array([1.2, 1.0, 1.0, 1.0, 1.0]), 2)
    width = FINGER_WIDTH * size * (0.6 + 0.4 * build["forearm"]) * thumbs_first
    roots, middles, tips = (fingers[:, :, joint].reshape(10, 3) for joint in (0, 1, 3))
    side = jnp.repeat(across, 5, axis=0)
    return _join(
        palm, _batch(roots, middles, side, width, width * 0.95), _batch(middles, tips, side, width * 0.95, width * 0.75)
    )
