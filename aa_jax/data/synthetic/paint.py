"""Colours of whole windows of pixels, as three planes: one loop over the pixels then computes all three."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

Colour = tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]


def colour(values: Float[Array, "... 3"]) -> Colour:
    """The channels of RGB colours on the last axis."""
    return values[..., 0], values[..., 1], values[..., 2]


def mix(below: Colour, above: Colour | Float[Array, "3"], amount: Float[Array, "..."]) -> Colour:
    """`above` over `below` with this opacity."""
    r, g, b = (low + amount * (high - low) for low, high in zip(below, above, strict=True))
    return r, g, b


def shade(paint: Colour, brightness: Float[Array, "..."]) -> Colour:
    """A colour times a brightness."""
    r, g, b = (channel * brightness for channel in paint)
    return r, g, b


def soft(distance: Float[Array, "..."]) -> Float[Array, "..."]:
    """Opacity of what reaches `distance` pixels beyond a point: its edge is one pixel wide."""
    return jnp.clip(distance + 0.5, 0.0, 1.0)


def pack(paint: Colour) -> UInt32[Array, "..."]:
    """Three channels of [0, 1] in one number, 8 bits each, red in the lowest."""
    r, g, b = (jnp.clip(channel * 255 + 0.5, 0.0, 255.0).astype(jnp.uint32) for channel in paint)
    return r | (g << 8) | (b << 16)


def unpack(packed: UInt32[Array, "..."]) -> Colour:
    """The channels of `pack`, in [0, 1]."""
    r, g, b = (((packed >> 8 * channel) & 0xFF).astype(jnp.float32) / 255 for channel in range(3))
    return r, g, b
