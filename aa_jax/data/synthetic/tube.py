"""The one solid that characters are made of: a straight tapered tube with an elliptic cross-section and rounded ends.

Its image needs one square root a pixel, and every visible point has material coordinates (across, front, along) that
stay with the surface while it moves. Textures are functions of them, so that keypoints on the surface, emblems and
optical flow are exact: `surface` goes from a pixel to the material, `locate` from the material to a pixel.

    across   in [-1, 1], lateral, in half-widths; a print on the front has x = across * half-width
    front    in [-1, 1], towards the front in half-depths; negative at the back. across^2 + front^2 = 1 but for the ends
    along    metres from the start of the axis; beyond it on the rounded ends

Space is in metres: x to the right of the image, y up, z towards the camera. Pixels: x to the right, y down.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aa_jax.data.synthetic.camera import View

# Steepest view along a tube, as depth over length in the image, at which textures still follow it.
STEEPEST = 1.2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tube:
    """Tubes in space; every field may have leading axes.

    Attributes:
      start: (3,) first end of the axis.
      end: (3,) the other.
      side: (3,) the lateral direction; what of it is along the axis does not count. The front is `side` x axis.
      start_width: half-width at the start.
      end_width: half-width at the end.
      depth: half-depth over half-width.
      start_cap: length of the rounded end in half-widths.
      end_cap: the same at the end.
      layer: thickness of the cloth round it.
      hem: the cloth reaches from the start to this fraction of the length; 0: bare, above 1: all.
      present: 1, or 0 for what this character does not have.
    """

    start: Float[Array, "*p 3"]
    end: Float[Array, "*p 3"]
    side: Float[Array, "*p 3"]
    start_width: Float[Array, "*p"]
    end_width: Float[Array, "*p"]
    depth: Float[Array, "*p"]
    start_cap: Float[Array, "*p"]
    end_cap: Float[Array, "*p"]
    layer: Float[Array, "*p"]
    hem: Float[Array, "*p"]
    present: Float[Array, "*p"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outline:
    """Tubes as a camera sees them; lengths in pixels unless they say metres.

    Attributes:
      part: index of the tube.
      origin: (2,) the start of the axis.
      axis: (2,) unit vector along it.
      length: of the axis.
      start_radius: half the apparent width at the start.
      end_radius: at the end.
      layer: apparent thickness of the cloth.
      turn: (2,) cosine and sine of the angle by which the cross-section is turned away from the viewer.
      facing: 1 or -1: on which side of it the viewer is.
      start_depth: distance towards the viewer, metres; larger is nearer.
      depth_step: difference of it from start to end.
      depth_across: metres nearer at the apparent edge (odd across the tube).
      depth_bulge: metres nearer in the apparent middle.
      tilt: metres that the material moves along the axis in the apparent middle, as the tube points to the viewer.
      scale: pixels per metre.
      bone: length of the axis, metres.
      start_width, end_width, layer_width: half-widths and thickness, metres.
      start_cap, end_cap, hem, present: as of `Tube`.
    """

    part: Int[Array, "*p"]
    origin: Float[Array, "*p 2"]
    axis: Float[Array, "*p 2"]
    length: Float[Array, "*p"]
    start_radius: Float[Array, "*p"]
    end_radius: Float[Array, "*p"]
    layer: Float[Array, "*p"]
    turn: Float[Array, "*p 2"]
    facing: Float[Array, "*p"]
    start_depth: Float[Array, "*p"]
    depth_step: Float[Array, "*p"]
    depth_across: Float[Array, "*p"]
    depth_bulge: Float[Array, "*p"]
    tilt: Float[Array, "*p"]
    scale: Float[Array, "*p"]
    bone: Float[Array, "*p"]
    start_width: Float[Array, "*p"]
    end_width: Float[Array, "*p"]
    layer_width: Float[Array, "*p"]
    start_cap: Float[Array, "*p"]
    end_cap: Float[Array, "*p"]
    hem: Float[Array, "*p"]
    present: Float[Array, "*p"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surface:
    """What a tube shows in each pixel of a window.

    Attributes:
      cover: fraction of the pixel that it covers, [0, 1].
      depth: metres towards the viewer.
      across, front, along: material coordinates.
      fraction: of the axis, [0, 1].
      width: half-width there, metres.
      clothed: 1 where the cloth is, else 0.
      normal: components of the surface's normal across the axis, along it, and towards the viewer.
    """

    cover: Float[Array, "h w"]
    depth: Float[Array, "h w"]
    across: Float[Array, "h w"]
    front: Float[Array, "h w"]
    along: Float[Array, "h w"]
    fraction: Float[Array, "h w"]
    width: Float[Array, "h w"]
    clothed: Float[Array, "h w"]
    normal: tuple[Float[Array, "h w"], Float[Array, "h w"], Float[Array, "h w"]]


def outline(tube: Tube, view: View) -> Outline:
    """Tubes as seen by a camera."""
    start, start_scale = view.project(tube.start)
    end, end_scale = view.project(tube.end)
    scale = (start_scale + end_scale) / 2
    difference = end - start
    length = jnp.linalg.norm(difference, axis=-1)
    axis = jnp.where(length[..., None] > 1e-3, difference / jnp.maximum(length, 1e-3)[..., None], jnp.array([0.0, 1.0]))
    normal = jnp.stack([-axis[..., 1], axis[..., 0]], axis=-1)

    bone_vector = view.turn(tube.end - tube.start)
    bone = jnp.maximum(jnp.linalg.norm(bone_vector, axis=-1), 1e-6)
    bone_axis = bone_vector / bone[..., None]
    side = view.turn(tube.side)
    side = side - (side * bone_axis).sum(axis=-1, keepdims=True) * bone_axis
    side = side / jnp.maximum(jnp.linalg.norm(side, axis=-1, keepdims=True), 1e-6)
    front = jnp.cross(side, bone_axis)
    # Image y points down, y in space up.
    across = side[..., 0] * normal[..., 0] - side[..., 1] * normal[..., 1]
    forward = tube.depth * (front[..., 0] * normal[..., 0] - front[..., 1] * normal[..., 1])
    ratio = jnp.maximum(jnp.hypot(across, forward), 1e-3)
    cosine, sine = across / ratio, forward / ratio
    bulge = -sine * side[..., 2] + tube.depth * cosine * front[..., 2]
    steep = jnp.clip(bone_vector[..., 2] * scale / jnp.maximum(length, 1e-3), -STEEPEST, STEEPEST)
    start_depth = view.depth(tube.start)
    return Outline(
        part=jnp.arange(start.shape[-2]),
        origin=start,
        axis=axis,
        length=length,
        start_radius=tube.start_width * ratio * start_scale,
        end_radius=tube.end_width * ratio * end_scale,
        layer=tube.layer * ratio * scale,
        turn=jnp.stack([cosine, sine], axis=-1),
        facing=jnp.where(bulge < 0, -1.0, 1.0),
        start_depth=start_depth,
        depth_step=view.depth(tube.end) - start_depth,
        depth_across=cosine * side[..., 2] + tube.depth * sine * front[..., 2],
        depth_bulge=jnp.abs(bulge),
        tilt=steep * jnp.abs(bulge) * (tube.start_width + tube.end_width) / 2,
        scale=scale,
        bone=bone,
        start_width=tube.start_width,
        end_width=tube.end_width,
        layer_width=tube.layer,
        start_cap=tube.start_cap,
        end_cap=tube.end_cap,
        hem=tube.hem,
        present=tube.present,
    )


def surface(tube: Outline, x: Float[Array, " w"], y: Float[Array, " h"]) -> Surface:
    """A tube in the window of pixels whose centres are at columns `x` and rows `y`; with fields of (h, w), a tube of
    its own for each pixel."""
    axis_x, axis_y = tube.axis[..., 0], tube.axis[..., 1]
    dx, dy = x[None, :] - tube.origin[..., 0], y[:, None] - tube.origin[..., 1]
    distance_along = dx * axis_x + dy * axis_y
    distance_across = dy * axis_x - dx * axis_y
    fraction = jnp.clip(distance_along / jnp.maximum(tube.length, 1e-3), 0.0, 1.0)
    clothed = (fraction < tube.hem).astype(jnp.float32)
    radius = tube.start_radius + fraction * (tube.end_radius - tube.start_radius) + clothed * tube.layer
    width = tube.start_width + fraction * (tube.end_width - tube.start_width) + clothed * tube.layer_width
    over = distance_along - fraction * tube.length
    cap = jnp.where(over < 0, tube.start_cap, tube.end_cap)
    s = distance_across / radius
    e = over / (radius * cap)
    inside = 1 - s * s - e * e
    q = jnp.sqrt(jnp.maximum(inside, 0.0))
    # inside / 2 is 1 - distance / radius, nearly, close to the edge.
    cover = jnp.clip(0.5 * radius * inside + 0.5, 0.0, 1.0) * tube.present
    return Surface(
        cover=cover,
        depth=tube.start_depth + fraction * tube.depth_step + width * (s * tube.depth_across + q * tube.depth_bulge),
        across=s * tube.turn[..., 0] - q * (tube.turn[..., 1] * tube.facing),
        front=s * tube.turn[..., 1] + q * (tube.turn[..., 0] * tube.facing),
        along=fraction * tube.bone + e * cap * width + tube.tilt * q,
        fraction=fraction,
        width=width,
        clothed=clothed,
        normal=(s, e, q),
    )


def locate(
    tube: Outline, across: Float[Array, "*p"], front: Float[Array, "*p"], along: Float[Array, "*p"]
) -> tuple[Float[Array, "*p 2"], Float[Array, "*p"]]:
    """Where a point of the material is in the image.

    Returns:
      Its pixel coordinates, and how much it faces the viewer: 1 in the apparent middle of the tube, 0 at its edge,
      negative behind.
    """
    cosine, sine = tube.turn[..., 0], tube.turn[..., 1]
    s = across * cosine + front * sine
    facing = tube.facing * (front * cosine - across * sine)
    along = along - tube.tilt * facing
    fraction = jnp.clip(along / tube.bone, 0.0, 1.0)
    clothed = (fraction < tube.hem).astype(jnp.float32)
    radius = tube.start_radius + fraction * (tube.end_radius - tube.start_radius) + clothed * tube.layer
    width = tube.start_width + fraction * (tube.end_width - tube.start_width) + clothed * tube.layer_width
    over = (along - fraction * tube.bone) / width
    distance_along = fraction * tube.length + over * radius
    place = (
        tube.origin
        + distance_along[..., None] * tube.axis
        + (s * radius)[..., None] * jnp.stack([-tube.axis[..., 1], tube.axis[..., 0]], axis=-1)
    )
    return place, facing


def on_front(
    tube: Outline, x: Float[Array, "*p"], along: Float[Array, "*p"], *, back: bool = False
) -> tuple[Float[Array, "*p"], Float[Array, "*p"]]:
    """`across` and `front` of points on the front (or back) that are `x` metres aside and `along` metres along."""
    fraction = jnp.clip(along / tube.bone, 0.0, 1.0)
    clothed = (fraction < tube.hem).astype(jnp.float32)
    width = tube.start_width + fraction * (tube.end_width - tube.start_width) + clothed * tube.layer_width
    over = along - fraction * tube.bone
    e = over / (width * jnp.where(over < 0, tube.start_cap, tube.end_cap))
    across = jnp.clip(x / width, -0.99, 0.99)
    front = jnp.sqrt(jnp.maximum(1 - across * across - e * e, 0.0))
    return across, -front if back else front
