"""One clip before it is drawn: who, what, where, as a pure function of integers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8, UInt32

from aa_jax.data.synthetic.background import Background, background, cast_shadow, draw_background, shadow_place
from aa_jax.data.synthetic.body import tubes
from aa_jax.data.synthetic.camera import Size, View, views
from aa_jax.data.synthetic.character import Character, character
from aa_jax.data.synthetic.dynamics import swing
from aa_jax.data.synthetic.keypoints import project_keypoints
from aa_jax.data.synthetic.render import render
from aa_jax.data.synthetic.skeleton import Pose, pose_skeleton
from aa_jax.data.synthetic.tube import Outline, outline

# Steps of the pendulums in a frame, and frames that they swing before the first.
SUBSTEPS = 4
WARM_UP = 24
# Composing runs for milliseconds but compiles for seconds, half as many unoptimised.
QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """All that frames are drawn from. Moments are the frames' and, the last, the one after them.

    Attributes:
      person: who it is.
      behind: the background.
      tubes: (t + 1, parts) what the camera sees of the body.
      view: (t + 1) the camera.
      shadow: (t + 1, 4) centre and half-sizes of the shadow, pixels.
      keypoints: (t + 1, 134, 3) normalised x and y, and 1 for seen, else 0.
    """

    person: Character
    behind: Background
    tubes: Outline
    view: View
    shadow: Float[Array, "t+1 4"]
    keypoints: Float[Array, "t+1 134 3"]


def moments(num_frames: int, fps: float) -> Float[Array, " n"]:
    """The times in seconds at which a clip's pose must be known: the frames, between them, and before them."""
    return (jnp.arange((num_frames + WARM_UP) * SUBSTEPS + 1) / SUBSTEPS - WARM_UP) / fps


@functools.partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
def compose(
    identity: Int[Array, ""] | int,
    pose: Pose,
    camera: Int[Array, ""] | int,
    behind: Int[Array, ""] | int,
    *,
    fps: Float[Array, ""] | float,
    height: Size,
    width: Size,
    moving: Array | bool,
) -> Scene:
    """The scene of a clip.

    Args:
      identity: number of the character.
      pose: at the times of `moments`.
      camera: number of the camera.
      behind: number of the background.
      fps: frames per second.
      height, width: of the frames, pixels.
      moving: the camera pans and zooms.
    """
    person = character(identity)
    skeleton = pose_skeleton(person.lengths, pose)
    step = 1 / (fps * SUBSTEPS)
    hair = swing(skeleton.head, person.swing[0], person.damping[0], step)
    skirt = swing(skeleton.pelvis, person.swing[1], person.damping[1], step)
    skeleton, hair, skirt = jax.tree.map(lambda value: value[WARM_UP * SUBSTEPS :: SUBSTEPS], (skeleton, hair, skirt))
    view = views(camera, jnp.arange(len(hair)) / fps, height=height, width=width, moving=moving)
    seen = jax.vmap(outline)(jax.vmap(tubes, in_axes=(None, 0, 0, 0))(person, skeleton, hair, skirt), view)
    project = functools.partial(project_keypoints, person, height=height, width=width)
    return Scene(
        person=person,
        behind=background(behind),
        tubes=seen,
        view=view,
        shadow=jax.vmap(shadow_place)(skeleton.feet, view),
        keypoints=jax.vmap(project)(skeleton, seen, view),
    )


def draw_frames(
    scene: Scene, indices: Int[Array, " n"], *, height: int, width: int, batch_size: int | None = None
) -> UInt8[Array, "n height width 3"]:
    """Frames of a scene, RGB.

    Args:
      scene: what is drawn.
      indices: of the frames.
      height, width: of the frames.
      batch_size: frames drawn at once; None: one after the other, which is faster on a CPU.
    """
    return _interleave(draw_packed(scene, indices, height=height, width=width, batch_size=batch_size))


@functools.partial(jax.jit, static_argnames=("height", "width", "batch_size"))
def draw_packed(
    scene: Scene, indices: Int[Array, " n"], *, height: int, width: int, batch_size: int | None
) -> UInt32[Array, "n height width"]:
    """The frames of `draw_frames` with the channels of a pixel in one number, red in its lowest byte."""

    def one(index: Int[Array, ""]) -> UInt32[Array, "height width"]:
        seen, view, shadow = jax.tree.map(lambda value: value[index], (scene.tubes, scene.view, scene.shadow))
        behind = cast_shadow(draw_background(scene.behind, view, height, width), shadow)
        return render(scene.person, seen, behind, scene.behind.light, scene.behind.ambient, height, width)

    return jax.lax.map(one, indices, batch_size=batch_size)


# A program of its own: XLA would compute whole pixels anew for each of their channels.
@jax.jit
def _interleave(packed: UInt32[Array, "n h w"]) -> UInt8[Array, "n h w 3"]:
    return (packed[..., None] >> jnp.array([0, 8, 16], jnp.uint32)).astype(jnp.uint8)
