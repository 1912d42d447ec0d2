"""The 134 keypoints of a posed character, exactly where its renders show them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aa_jax.data.synthetic import face
from aa_jax.data.synthetic.body import PARTS
from aa_jax.data.synthetic.camera import Size, View
from aa_jax.data.synthetic.character import Character
from aa_jax.data.synthetic.skeleton import Skeleton
from aa_jax.data.synthetic.tube import Outline, locate, on_front
from aa_jax.pose.keypoints import NUM_KEYPOINTS, Keypoints

LEFT, RIGHT = 0, 1
# Ears are seen a little longer than the side of the head that they stand on: 1 faces the viewer, 0 is at the edge.
EARS_STAND_OFF = 0.35


def project_keypoints(
    person: Character, skeleton: Skeleton, tubes: Outline, view: View, *, height: Size, width: Size
) -> Float[Array, "134 3"]:
    """The keypoints of one moment.

    Args:
      person: who it is.
      skeleton: of the moment.
      tubes: (parts,) the outlines of the moment.
      view: the camera of the moment.
      height, width: of the image.

    Returns:
      x and y normalised by the image's width and height, and 1 or 0 for seen or not: inside of the image, and for
      points of the head not behind it. Points that other parts cover count as seen, as detectors guess them.
    """

    def pixels(points: Float[Array, "*p 3"]) -> Float[Array, "*p 2"]:
        return view.project(points)[0]

    shoulder, elbow, wrist = pixels(skeleton.shoulder), pixels(skeleton.elbow), pixels(skeleton.wrist)
    hip, knee, ankle = pixels(skeleton.hip), pixels(skeleton.knee), pixels(skeleton.ankle)
    marks, mark_facing = _on_head(face.landmarks(person.face), tubes)
    eyes, eye_facing = _on_head(face.iris_places(person.face), tubes)
    ears = jnp.stack([(tubes.origin[i] + tubes.axis[i] * tubes.length[i] / 2) for i in _ears()])
    # An ear is behind the head if the head's side under it faces away.
    _, ear_facing = _on_head(jnp.array([[1.0, -0.05], [-1.0, -0.05]]), tubes)
    # The nose's tip, the landmark in the middle of the nostrils.
    nose, nose_facing = marks[33], mark_facing[33]

    body = jnp.stack([
        nose, shoulder.mean(axis=0), shoulder[RIGHT], elbow[RIGHT], wrist[RIGHT], shoulder[LEFT], elbow[LEFT],
        wrist[LEFT], hip[RIGHT], knee[RIGHT], ankle[RIGHT], hip[LEFT], knee[LEFT], ankle[LEFT], eyes[RIGHT], eyes[LEFT],
        ears[RIGHT], ears[LEFT],
    ])  # fmt: skip
    feet, hands = pixels(skeleton.feet).reshape(6, 2), pixels(skeleton.hands).reshape(42, 2)
    points = jnp.concatenate([body, feet, marks, hands]) / jnp.array([width, height])
    facing = jnp.concatenate([
        nose_facing[None], jnp.ones(13), eye_facing[::-1], ear_facing[::-1] + EARS_STAND_OFF, jnp.ones(6), mark_facing,
        jnp.ones(42),
    ])  # fmt: skip
    inside = jnp.all((points >= 0) & (points < 1), axis=-1)
    seen = (inside & (facing > 0)).astype(jnp.float32)
    return jnp.concatenate([points, seen[:, None]], axis=-1)


def _ears() -> tuple[int, int]:
    return PARTS.index("left_ear"), PARTS.index("right_ear")


def _on_head(places: Float[Array, "n 2"], tubes: Outline) -> tuple[Float[Array, "n 2"], Float[Array, " n"]]:
    """Pixels of places on the face, and how much they face the viewer."""
    head: Outline = jax.tree.map(lambda value: value[PARTS.index("head")], tubes)
    skull = head.end_width
    x, along = places[:, 0] * skull, (places[:, 1] + face.EYE_LINE) * skull
    across, front = on_front(head, x, along)
    return locate(head, across, front, along)


def to_keypoints(numbers: np.ndarray, *, height: int, width: int, fps: float) -> Keypoints:
    """`Keypoints` from the (t, 134, 3) numbers of `project_keypoints`."""
    return Keypoints(points=numbers[..., :2], scores=numbers[..., 2], height=height, width=width, fps=fps)


def perturb(keypoints: Keypoints, *, seed: int, jitter: float = 1.5, dropout: float = 0.05) -> Keypoints:
    """Keypoints as a poor detector gives them: every point of every frame moved and lost independently.

    Args:
      keypoints: the true ones.
      seed: of the noise.
      jitter: standard deviation of the displacement, pixels.
      dropout: probability that a point is lost: its score is 0.
    """
    if jitter < 0 or not 0 <= dropout <= 1:
        raise ValueError(f"jitter {jitter} and dropout {dropout} given, expected jitter >= 0 and dropout in [0, 1]")
    generator = np.random.default_rng(seed)
    shift = generator.normal(size=keypoints.points.shape) * jitter / (keypoints.width, keypoints.height)
    lost = generator.random((len(keypoints), NUM_KEYPOINTS)) < dropout
    return dataclasses.replace(
        keypoints,
        points=(keypoints.points + shift).astype(np.float32),
        scores=np.where(lost, 0.0, keypoints.scores).astype(np.float32),
    )
