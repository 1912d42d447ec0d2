"""The network that finds the body's points: heatmaps from an hourglass.

Axes: b frames, h and w rows and columns of pixels or cells, c channels, k points.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from aa_jax.pose.keypoints import BODY

HEIGHT, WIDTH = 64, 48
"""Pixels of the frames that the network takes."""
CELL = 2
"""Pixels along a side of a heatmap's cell."""
NUM_POINTS = BODY.stop
CHANNELS = (32, 64, 96)
GROUPS = 8
REACH = 2
"""Cells around the highest one that say where in it the point is."""


class Block(nnx.Module):
    """Two 3x3 convolutions around which the input passes (arXiv 1603.05027)."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.GroupNorm(channels, GROUPS, rngs=rngs)
        self.conv1 = nnx.Conv(channels, channels, (3, 3), rngs=rngs)
        self.norm2 = nnx.GroupNorm(channels, GROUPS, rngs=rngs)
        self.conv2 = nnx.Conv(channels, channels, (3, 3), rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        inner = self.conv1(jax.nn.relu(self.norm1(x)))
        return x + self.conv2(jax.nn.relu(self.norm2(inner)))


class KeypointNetwork(nnx.Module):
    """Frames to heatmaps: down to cells of 8 pixels, where a place sees the whole figure, and up again to 2 pixels,
    each level being added to what comes from below it (a small stacked hourglass's one, arXiv 1603.06937)."""

    def __init__(self, *, rngs: nnx.Rngs):
        fine, middle, coarse = CHANNELS
        self.stem = nnx.Conv(3, fine, (5, 5), strides=CELL, rngs=rngs)
        self.down_fine = Block(fine, rngs=rngs)
        self.to_middle = nnx.Conv(fine, middle, (3, 3), strides=2, rngs=rngs)
        self.down_middle = Block(middle, rngs=rngs)
        self.to_coarse = nnx.Conv(middle, coarse, (3, 3), strides=2, rngs=rngs)
        self.coarse = nnx.List([Block(coarse, rngs=rngs) for _ in range(2)])
        self.from_coarse = nnx.Conv(coarse, middle, (1, 1), rngs=rngs)
        self.up_middle = Block(middle, rngs=rngs)
        self.from_middle = nnx.Conv(middle, fine, (1, 1), rngs=rngs)
        self.up_fine = Block(fine, rngs=rngs)
        self.norm = nnx.GroupNorm(fine, GROUPS, rngs=rngs)
        self.head = nnx.Conv(fine, NUM_POINTS, (1, 1), rngs=rngs)

    def __call__(self, frames: Float[Array, "b 64 48 3"]) -> Float[Array, "b 32 24 k"]:
        """Scores of cells, whose softmax over a point's cells is where the point may be. Frames are in [-1, 1]."""
        fine = self.down_fine(self.stem(frames))
        middle = self.down_middle(self.to_middle(fine))
        coarse = self.to_coarse(middle)
        for block in self.coarse:
            coarse = block(coarse)
        middle = self.up_middle(middle + _doubled(self.from_coarse(coarse)))
        fine = self.up_fine(fine + _doubled(self.from_middle(middle)))
        return self.head(jax.nn.relu(self.norm(fine)))


def prepare(frames: Num[Array, "b h w 3"]) -> Float[Array, "b 64 48 3"]:
    """Frames of any size with values in [0, 255] as the network takes them: stretched, smoothed where that shrinks."""
    size = (len(frames), HEIGHT, WIDTH, 3)
    return jax.image.resize(frames.astype(jnp.float32), size, "linear", antialias=True) / 127.5 - 1


def decode(scores: Float[Array, "b h w k"]) -> Float[Array, "b k 2"]:
    """x and y in [0, 1]: the mean place, by probability, of the likeliest cell and those near it.

    Far cells are left out, since the mean of two places at which a point may be is neither of them.
    """
    b, h, w, k = scores.shape
    flat = scores.reshape(b, h * w, k)
    rows, columns = jnp.divmod(jnp.arange(h * w), w)
    best_row, best_column = jnp.divmod(jnp.argmax(flat, axis=1, keepdims=True), w)
    near = (jnp.abs(rows[:, None] - best_row) <= REACH) & (jnp.abs(columns[:, None] - best_column) <= REACH)
    share = jax.nn.softmax(flat, axis=1, where=near)
    centres = jnp.stack([(columns + 0.5) / w, (rows + 0.5) / h], axis=-1)
    return jnp.einsum("bnk,nd->bkd", share, centres)


def _doubled(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
