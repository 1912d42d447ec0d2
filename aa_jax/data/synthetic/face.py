"""The face: where its features are on the head, drawn as they are found by the 68 landmarks.

Places on the face are (x, y): x lateral, positive to the character's left, y up from the middle between the eyes, both
in half-widths of the skull. They follow the head's surface, so that landmarks are where features are.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aa_jax.data.synthetic.character import Face
from aa_jax.data.synthetic.paint import Colour, colour, mix, shade, soft
from aa_jax.data.synthetic.tube import Surface

# Metres along the head's tube from its start (the jaw's middle) to the eyes, in half-widths of the skull.
EYE_LINE = 0.66
EYE_ASIDE, EYE_HALF = 0.38, (0.215, 0.145)
BROW_HEIGHT, BROW_HALF = 0.30, 0.24
NOSE_TIP, NOSE_ASIDE = -0.40, 0.15
MOUTH, MOUTH_HALF, LIP = -0.80, 0.33, 0.095
CHIN, JAW_WIDTH = -1.33, 0.97
EAR = (1.0, -0.05)


def iris_places(face: Face) -> Float[Array, "2 2"]:
    """Middles of both eyes, left first."""
    aside, height = EYE_ASIDE * face.eyes[0], 1.2 * (face.eyes[2] - 1)
    return jnp.stack([jnp.stack([aside, height]), jnp.stack([-aside, height])])


def landmarks(face: Face) -> Float[Array, "68 2"]:
    """The 68 points of the face in the usual order: the jaw line begins at the character's right ear."""
    # Jaw line from ear to ear round the chin.
    angle = np.linspace(-np.pi / 2, np.pi / 2, 17)
    jaw_x = -JAW_WIDTH * np.sign(-np.sin(angle)) * np.abs(np.sin(angle)) ** 0.8
    jaw = np.stack([jaw_x, -0.1 + (CHIN + 0.1) * np.cos(angle) ** 0.75], -1)
    brow_x = np.linspace(-BROW_HALF, BROW_HALF, 5)
    bow = 0.06 * (1 - (brow_x / BROW_HALF) ** 2)
    bridge = np.stack([np.zeros(4), np.linspace(-0.02, NOSE_TIP, 4)], -1)
    nostril_x = np.linspace(-NOSE_ASIDE, NOSE_ASIDE, 5)
    nostrils = np.stack([nostril_x, NOSE_TIP - 0.09 - 0.03 * np.cos(nostril_x / NOSE_ASIDE * 1.5)], -1)
    eye_angle = np.deg2rad([180, 120, 60, 0, -60, -120])
    eye = np.stack([np.cos(eye_angle) * EYE_HALF[0], np.sin(eye_angle) * EYE_HALF[1]], -1)
    outer = np.deg2rad([180, 145, 115, 90, 65, 35, 0, -35, -65, -90, -115, -145])
    inner = np.deg2rad([180, 125, 90, 55, 0, -55, -90, -125])
    lips = np.concatenate([
        np.stack([np.cos(outer), np.sin(outer) * LIP], -1), np.stack([0.75 * np.cos(inner), np.sin(inner) * 0.03], -1),
    ])  # fmt: skip

    eyes = iris_places(face)
    slant = face.brows[1] * jnp.asarray(brow_x)
    brow = jnp.stack([jnp.asarray(brow_x), BROW_HEIGHT + jnp.asarray(bow)], -1)
    # Brows rise outwards with the slant.
    brow_right = eyes[1] + brow + jnp.stack([jnp.zeros(5), -slant], -1)
    brow_left = eyes[0] + brow + jnp.stack([jnp.zeros(5), slant], -1)
    mouth_x = MOUTH_HALF * face.mouth[0] * lips[:, 0]
    mouth = jnp.stack([mouth_x, MOUTH + jnp.asarray(lips[:, 1]) + smile(face, mouth_x)], -1)
    size = face.eyes[1]
    return jnp.concatenate([
        jnp.asarray(jaw), brow_right, brow_left, jnp.asarray(bridge), jnp.asarray(nostrils), eyes[1] + size * eye,
        eyes[0] + size * eye, mouth,
    ])  # fmt: skip


def smile(face: Face, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """How much higher the mouth is at `x` than in its middle."""
    return face.mouth[1] * 0.9 * x * x


def draw_face(
    skin: Float[Array, "3"], hair: Float[Array, "3"], face: Face, shown: Surface, scale: Array, skull: Array
) -> Colour:
    """The head's surface without its hair.

    Args:
      skin, hair: RGB.
      face: its features.
      shown: the head's tube.
      scale: pixels per metre.
      skull: half-width of the skull, metres.
    """
    x, y = shown.across * shown.width / skull, shown.along / skull - EYE_LINE
    front = shown.front > 0
    pixels = scale * skull
    paint = shade(colour(skin), jnp.ones_like(x))
    side = jnp.abs(x)

    # A rosy cheek, a shadow under brows and nose, and perhaps a beard.
    cheek = jnp.clip(1 - ((side - 0.55) ** 2 + (y + 0.45) ** 2) * 9, 0.0, 1.0) * front
    paint = mix(paint, skin * jnp.array([1.0, 0.72, 0.70]), 0.45 * cheek)
    beard = soft(
        (jnp.maximum(-0.55 - y - 0.9 * jnp.maximum(0.6 - side, 0.0) * (y > -1.05), side - 0.86) * 1.0 - 0.0) * pixels
    )
    beard = beard * (y < -0.05) * (shown.front > -0.2) * face.beard
    paint = mix(paint, 0.85 * hair + 0.15 * skin, 0.9 * beard)

    height = 1.2 * (face.eyes[2] - 1)
    ex, ey = side - EYE_ASIDE * face.eyes[0], y - height
    half_x, half_y = EYE_HALF[0] * face.eyes[1], EYE_HALF[1] * face.eyes[1]
    opening = 1 - (ex / half_x) ** 2 - (ey / half_y) ** 2
    eye = soft(opening * (half_y * 0.5) * pixels) * front
    paint = mix(paint, jnp.array([0.97, 0.97, 0.97]), eye)
    iris = ex * ex + ey * ey
    paint = mix(paint, face.iris, eye * soft((0.118**2 - iris) * (pixels / 0.24)))
    paint = mix(paint, jnp.array([0.04, 0.04, 0.05]), eye * soft((0.06**2 - iris) * (pixels / 0.12)))
    lash = soft((0.035 - jnp.abs(ey - half_y * (0.95 - (ex / half_x) ** 2 * 0.8))) * pixels) * (
        jnp.abs(ex) < half_x * 1.05
    )
    paint = mix(paint, 0.35 * hair, 0.85 * lash * front)

    rise = ey - BROW_HEIGHT - face.brows[1] * ex - 0.06 * (1 - (ex / BROW_HALF) ** 2)
    brow = soft(jnp.minimum(0.05 * face.brows[0] - jnp.abs(rise), BROW_HALF - jnp.abs(ex)) * pixels)
    paint = mix(paint, 0.75 * hair, 0.9 * brow * front)

    mx, my = x / (MOUTH_HALF * face.mouth[0]), y - MOUTH - smile(face, x)
    lips = soft((1 - mx * mx - (my / LIP) ** 2) * (0.5 * LIP) * pixels) * front
    paint = mix(paint, face.lips, lips)
    gap = soft(jnp.minimum(0.028 - jnp.abs(my), (0.92 - jnp.abs(mx)) * MOUTH_HALF) * pixels) * front
    paint = mix(paint, face.lips * 0.35, gap)
    nostril = soft((0.05**2 - (side - 0.07) ** 2 - (y - NOSE_TIP + 0.07) ** 2) * (pixels / 0.1)) * front
    paint = mix(paint, skin * 0.5, 0.7 * nostril)

    for mole in face.moles:
        away = (x - 0.6 * mole[0]) ** 2 + (y + 0.45 - 0.55 * mole[1]) ** 2
        paint = mix(paint, skin * 0.35, 0.8 * soft((0.034**2 - away) * (pixels / 0.068)) * front)

    ring = jnp.abs(jnp.maximum(jnp.abs(ex) * 0.95, jnp.abs(ey) * 1.25) - 0.25)
    bridge = jnp.maximum(jnp.abs(ey - 0.03) - 0.03, side - EYE_ASIDE)
    temple = jnp.maximum(jnp.abs(ey - 0.03) - 0.03, 0.55 - side)
    frame = soft(jnp.maximum(jnp.maximum(0.032 - ring, -bridge * (ex < -0.24)), -temple * (ex > 0.24)) * pixels)
    return mix(paint, jnp.array([0.08, 0.07, 0.08]), face.glasses * frame * (shown.front > -0.1))
