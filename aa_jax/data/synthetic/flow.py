"""What frames show, pixel by pixel: which part, and where it moves to.

Every visible point has material coordinates, and the next frame's outlines say where they go: the flow is exact, also
where the point is hidden in the next frame.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, UInt32

from aa_jax.data.synthetic.camera import View
from aa_jax.data.synthetic.dress import Group
from aa_jax.data.synthetic.render import FULL, figure
from aa_jax.data.synthetic.scene import Scene
from aa_jax.data.synthetic.tube import Outline, Surface, locate, surface

BACKGROUND = -1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Annotation:
    """Of each pixel of some frames.

    Attributes:
      parts: index in `PARTS`, or -1 for the background.
      masks: the character covers half of the pixel or more.
      flow: pixels to the right and down that what is there moves until the next frame.
    """

    parts: Int8[Array, "n h w"]
    masks: Bool[Array, "n h w"]
    flow: Float[Array, "n h w 2"]


@functools.partial(jax.jit, static_argnames=("height", "width", "batch_size"))
def annotate(
    scene: Scene, indices: Int[Array, " n"], *, height: int, width: int, batch_size: int | None = None
) -> Annotation:
    """Parts, masks and flow of frames of a scene."""

    def payload(group: Group, _: Any, shown: Surface, tube: Outline) -> UInt32[Array, "h w"]:
        return jnp.broadcast_to(tube.part.astype(jnp.uint32), shown.cover.shape)

    def one(index: Int[Array, ""]) -> Annotation:
        (seen, view), (seen_next, view_next) = (
            jax.tree.map(lambda value, at=at: value[at], (scene.tubes, scene.view)) for at in (index, index + 1)
        )
        layers = figure(scene.person, seen, payload, height, width)
        near, second, cover = layers.payloads()
        part = jnp.where(cover >= 0.5, near, second).astype(jnp.int32)
        mask = layers.cover >= FULL // 2 + 1
        # The tube of each pixel, now and then.
        tube, following = (jax.tree.map(lambda value: value[part], tubes) for tubes in (seen, seen_next))
        x, y = jnp.arange(width) + 0.5, jnp.arange(height) + 0.5
        shown = surface(tube, x, y)
        place, _ = locate(following, shown.across, shown.front, shown.along)
        moved = place - jnp.stack(jnp.meshgrid(x, y), axis=-1)
        flow = jnp.where(mask[..., None], moved, _background_flow(view, view_next, height, width))
        return Annotation(parts=jnp.where(mask, part, BACKGROUND).astype(jnp.int8), masks=mask, flow=flow)

    return jax.lax.map(one, indices, batch_size=batch_size)


def _background_flow(
    view: View, following: View, height: int, width: int, batch_size: int | None = None
) -> Float[Array, "height width 2"]:
    x, y = jnp.meshgrid(jnp.arange(width) + 0.5, jnp.arange(height) + 0.5)
    pixels = jnp.stack([x, y], axis=-1)
    plane = (pixels - view.middle - view.pan) / view.zoom
    return plane * following.zoom + following.middle + following.pan - pixels
