"""Training of the network on true renders."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8

from aa_jax.data.synthetic.source import Split, SyntheticSource
from aa_jax.evaluation.keypoint_regressor.degrade import degrade
from aa_jax.evaluation.keypoint_regressor.network import HEIGHT, WIDTH, KeypointNetwork, prepare
from aa_jax.network_tensors import variables_of
from aa_jax.pose.keypoints import BODY, VISIBLE
from aa_jax.tensor_file import Tensor

CLIP_LENGTH = 16
FRAMES_PER_CLIP = 4
TRAINED_ON: tuple[Split, ...] = ("train", "motion")
"""Training's characters alone, but all families of motion: a ruler that has seen no back cannot measure those who turn.
"""
DEVIATION = 1.0
"""Of the Gaussian that a heatmap is to be, in cells."""
WARMUP_STEPS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a training run.

    Attributes:
      clips: of each split that is trained on, `FRAMES_PER_CLIP` frames of each.
      steps: of Adam.
      batch_size: frames in a step.
      learning_rate: at its highest, after which it falls by a cosine.
      seed: of the first weights, the order and the degradations.
    """

    clips: int = 2000
    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} given, expected 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """Renders and the truth about them, FRAMES_PER_CLIP frames of each clip after each other."""

    frames: UInt8[np.ndarray, "n h w 3"]
    points: Float[np.ndarray, "n 18 2"]
    visible: Bool[np.ndarray, "n 18"]


def draw_pool(
    splits: Sequence[Split],
    clips: int,
    *,
    height: int = HEIGHT,
    width: int = WIDTH,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pool:
    """Frames of the first clips of splits; of every other clip the camera moves."""
    drawn: list[tuple[np.ndarray, ...]] = []
    indices = range(0, CLIP_LENGTH, CLIP_LENGTH // FRAMES_PER_CLIP)
    for split in splits:
        source = SyntheticSource(split=split, num_clips=clips, num_frames=CLIP_LENGTH, height=height, width=width)
        for index in range(clips):
            clip = dataclasses.replace(source[index], moving_camera=index % 2 == 1)
            points, scores = clip.keypoints.points[indices, BODY], clip.keypoints.scores[indices, BODY]
            drawn.append((clip.frames(indices), points, scores >= VISIBLE))
            progress(len(drawn), clips * len(splits))
    frames, points, visible = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    return Pool(frames=frames, points=points, visible=visible)


def train(
    pool: Pool, settings: Settings, progress: Callable[[int, float], None] = lambda step, loss: None
) -> dict[str, Tensor]:
    """Parameters by their paths, rounded to float16.

    Args:
      progress: is told each step, from 1 on, and its loss.

    Raises:
      ModuleNotFoundError: optax is missing.
    """
    try:
        import optax
    except ImportError as error:
        raise ModuleNotFoundError("optax, which trains, is missing: pip install 'aa_jax[train]'") from error
    warmup = min(WARMUP_STEPS, settings.steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, warmup, settings.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: KeypointNetwork(rngs=nnx.Rngs(0))))
    state = jax.jit(lambda: nnx.state(KeypointNetwork(rngs=nnx.Rngs(settings.seed))))()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(
        state: nnx.State, moments: optax.OptState, key: jax.Array, frames: Array, points: Array, visible: Array
    ) -> tuple[nnx.State, optax.OptState, Array]:
        degraded = 255 * degrade(key, frames / 255)

        def loss_of(state: nnx.State) -> Array:
            return heatmap_loss(nnx.merge(graphdef, state)(prepare(degraded)), points, visible)

        loss, gradients = jax.value_and_grad(loss_of)(state)
        updates, moments = optimizer.update(gradients, moments, state)
        return optax.apply_updates(state, updates), moments, loss

    moments = optimizer.init(state)
    order = np.random.default_rng(settings.seed)
    key = jax.random.key(settings.seed)
    for number in range(settings.steps):
        chosen = order.choice(len(pool.frames), settings.batch_size)
        batch = (pool.frames[chosen], pool.points[chosen], pool.visible[chosen])
        state, moments, loss = step(state, moments, jax.random.fold_in(key, number), *batch)
        progress(number + 1, float(loss))
    return {key: value.get_value().astype(jnp.float16) for key, value in variables_of(state).items()}


def heatmap_loss(
    scores: Float[Array, "b h w 18"], points: Float[Array, "b 18 2"], visible: Bool[Array, "b 18"]
) -> Float[Array, ""]:
    """Cross entropy between heatmaps and Gaussians about the true points, the mean over visible points."""
    b, h, w, k = scores.shape
    x, y = (points[..., axis, None, None] * length for axis, length in enumerate((w, h)))
    away = (jnp.arange(w) + 0.5 - x) ** 2 + (jnp.arange(h)[:, None] + 0.5 - y) ** 2
    wanted = jax.nn.softmax((-away / (2 * DEVIATION**2)).reshape(b, k, h * w), axis=-1)
    found = jax.nn.log_softmax(scores.reshape(b, h * w, k), axis=1)
    entropy = -jnp.einsum("bkn,bnk->bk", wanted, found)
    return jnp.sum(entropy * visible) / jnp.maximum(jnp.sum(visible), 1)
