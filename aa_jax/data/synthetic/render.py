"""Frames, from outlines of tubes.

Each tube is evaluated only in the window where it can be, a square of fixed size for each group of parts, so that the
shapes are static and a frame costs about three evaluations a pixel. No order is needed. Every pixel keeps the nearest
tube that touches it and the nearest that fills it: the first is blended over the second by how much of the pixel it
covers, and the figure over the background by the largest cover of any tube.

The nearest is a maximum of integers with the depth in their high bits and the payload, 24 bits such as a colour, below.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

from aa_jax.data.synthetic.character import Character
from aa_jax.data.synthetic.dress import GROUPS, Group, shine
from aa_jax.data.synthetic.paint import Colour, mix, pack, shade, unpack
from aa_jax.data.synthetic.tube import Outline, Surface, surface

# Metres before and behind the character's middle that depths tell apart, in steps of less than 0.1 mm.
DEEPEST = 1.5
FULL = 255

Payload = Callable[[Group, Any, Surface, Outline], UInt32[Array, "h w"]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """What is nearest in every pixel, as integers whose high 16 bits are a depth; 0 where nothing is.

    Attributes:
      near, near_rest: the nearest tube that touches the pixel: with the high 16 bits of its payload, and with the low 8
        and 8 bits of cover.
      solid, solid_rest: the same of the nearest that fills it.
      cover: the largest cover of any tube, 0 to 255.
    """

    near: UInt32[Array, "h w"]
    near_rest: UInt32[Array, "h w"]
    solid: UInt32[Array, "h w"]
    solid_rest: UInt32[Array, "h w"]
    cover: UInt32[Array, "h w"]

    def payloads(self) -> tuple[UInt32[Array, "h w"], UInt32[Array, "h w"], Float[Array, "h w"]]:
        """The payload in front, the one behind it (the same where nothing fills the pixel), and the front's cover."""
        near, solid = (
            ((high & 0xFFFF) << 8) | ((low >> 8) & 0xFF)
            for high, low in ((self.near, self.near_rest), (self.solid, self.solid_rest))
        )
        return near, jnp.where(self.solid > 0, solid, near), (self.near_rest & FULL).astype(jnp.float32) / FULL


def figure(person: Character, tubes: Outline, payload: Payload, height: int, width: int) -> Layers:
    """All tubes of a character.

    Args:
      person: who it is.
      tubes: (parts,) in the order of `PARTS`.
      payload: 24 bits to keep of the nearest tubes: of a group, a tube's parameters, its surface and its outline.
      height, width: of the image.
    """
    layers = Layers(**{field.name: jnp.zeros((height, width), jnp.uint32) for field in dataclasses.fields(Layers)})
    for group in GROUPS:
        part = jax.tree.map(lambda value, group=group: value[group.parts], tubes)
        layers = _draw(layers, group, person, part, payload)
    return layers


def _draw(layers: Layers, group: Group, person: Character, tubes: Outline, payload: Payload) -> Layers:
    """One group into the layers."""
    height, width = layers.cover.shape
    side = math.ceil(group.window * height) + 2
    rows, columns = min(side, height), min(side, width)

    def evaluate(tube: Outline, own: Any) -> tuple[Array, Array, UInt32[Array, "r c"], UInt32[Array, "r c"]]:
        middle = tube.origin + tube.axis * tube.length / 2
        left = jnp.clip(jnp.round(middle[0] - columns / 2), 0, width - columns).astype(jnp.int32)
        top = jnp.clip(jnp.round(middle[1] - rows / 2), 0, height - rows).astype(jnp.int32)
        shown = surface(tube, left + jnp.arange(columns) + 0.5, top + jnp.arange(rows) + 0.5)
        opacity = group.opacity(person, own, shown, tube) if group.opacity else 1.0
        cover = (shown.cover * opacity * FULL + 0.5).astype(jnp.uint32)
        depth = jnp.clip((shown.depth / DEEPEST + 1) * 0x7FFF, 1, 0xFFFF).astype(jnp.uint32) << 16
        value = payload(group, own, shown, tube)
        touched = cover > 0
        return (
            top, left, jnp.where(touched, depth | (value >> 8), 0),
            jnp.where(touched, depth | ((value & 0xFF) << 8) | cover, 0),
        )  # fmt: skip

    def merge(layers: Layers, window: tuple[Array, Array, Array, Array]) -> tuple[Layers, None]:
        top, left, high, low = window
        full = (low & FULL) == FULL
        new = Layers(
            near=high,
            near_rest=low,
            solid=jnp.where(full, high, 0),
            solid_rest=jnp.where(full, low, 0),
            cover=low & FULL,
        )

        def larger(plane: UInt32[Array, "h w"], window: UInt32[Array, "r c"]) -> UInt32[Array, "h w"]:
            here = jax.lax.dynamic_slice(plane, (top, left), (rows, columns))
            return jax.lax.dynamic_update_slice(plane, jnp.maximum(here, window), (top, left))

        return jax.tree.map(larger, layers, new), None

    return jax.lax.scan(merge, layers, jax.vmap(evaluate)(tubes, group.parameters(person)))[0]


def render(
    person: Character, tubes: Outline, behind: Colour, light: Float[Array, "3"], ambient: Array, height: int, width: int
) -> UInt32[Array, "height width"]:
    """One frame over a drawn background, packed with 8 bits a channel."""

    def payload(group: Group, parameters: Any, shown: Surface, tube: Outline) -> UInt32[Array, "h w"]:
        paint = group.paint(person, parameters, shown, tube)
        return pack(shade(paint, shine(shown, tube, light, ambient)))

    layers = figure(person, tubes, payload, height, width)
    near, second, cover = layers.payloads()
    front = mix(unpack(second), unpack(near), cover)
    return pack(mix(behind, front, layers.cover.astype(jnp.float32) / FULL))
