"""Where the bits of the emblems are in frames, and how many of them can be read back: detail as a number.

50 % of bits right is chance, 100 % a perfect copy.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from aa_jax.data.synthetic.body import PARTS
from aa_jax.data.synthetic.character import BACK_GRID, CHEST_GRID
from aa_jax.data.synthetic.garment import cell_centres
from aa_jax.data.synthetic.scene import Scene
from aa_jax.data.synthetic.tube import locate, on_front

CHEST_CELLS = CHEST_GRID[0] * CHEST_GRID[1]
# Cells seen at a steeper angle than this cosine are too narrow to read, and fewer cells than this too few.
STEEPEST = 0.35
FEWEST = 16


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EmblemCells:
    """The cells of both emblems in some frames: 64 of the chest's, then 36 of the back's, row by row.

    Attributes:
      points: (n, 100, 2) pixel coordinates of their centres.
      visible: (n, 100) seen: in the image, facing the viewer, and not covered.
      bits: (100,) 0 or 1.
      colours: (2, 2, 3) RGB in [0, 1] of 0 and 1, on the chest and on the back.
    """

    points: Float[np.ndarray, "n 100 2"]
    visible: Bool[np.ndarray, "n 100"]
    bits: Int[np.ndarray, "100"]
    colours: Float[np.ndarray, "2 2 3"]


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def locate_cells(scene: Scene, indices: Int[Array, " n"]) -> tuple[Float[Array, "n 100 2"], Float[Array, "n 100"]]:
    """Pixels of the cells' centres in frames of a scene, and how much they face the viewer, 1 at most."""
    chest = jax.tree.map(lambda value: value[indices, PARTS.index("chest"), None], scene.tubes)
    found = []
    for grid, back in ((CHEST_GRID, False), (BACK_GRID, True)):
        x, along = cell_centres(grid, back=back)
        across, front = on_front(chest, x, along, back=back)
        found.append(locate(chest, across, front, jnp.broadcast_to(along, across.shape)))
    return jnp.concatenate([f[0] for f in found], axis=1), jnp.concatenate([f[1] for f in found], axis=1)


def bit_accuracy(frames: Num[np.ndarray, "n h w 3"], cells: EmblemCells) -> float:
    """The fraction of visible bits that frames show, each weighing the same; NaN where too few are visible.

    The frames' colours are compared along the line between the emblem's two colours, with a threshold half-way between
    the darkest and the lightest tenth of the cells: an emblem in other light is read as well.

    Args:
      frames: of the character, uint8 or [0, 1], generated or true.
      cells: of the same frames.
    """
    if len(frames) != len(cells.points):
        raise ValueError(f"{len(frames)} frames and cells of {len(cells.points)} given, expected as many")
    scale = 255.0 if frames.dtype == np.uint8 else 1.0
    right, total = 0, 0
    for frame, points, visible in zip(frames, cells.points, cells.visible, strict=True):
        for side, part in enumerate((slice(0, CHEST_CELLS), slice(CHEST_CELLS, None))):
            seen = visible[part]
            if seen.sum() < FEWEST:
                continue
            line = cells.colours[side, 1] - cells.colours[side, 0]
            values = _sample(frame, points[part][seen]) / scale @ line
            low, high = np.percentile(values, (10, 90))
            right += int(((values > (low + high) / 2) == (cells.bits[part][seen] > 0)).sum())
            total += int(seen.sum())
    return right / total if total else float("nan")


def _sample(frame: Num[np.ndarray, "h w 3"], points: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "m 3"]:
    """Bilinear; pixel (i, j) has its centre at (j + 0.5, i + 0.5)."""
    height, width = frame.shape[:2]
    place = np.clip(points - 0.5, 0, (width - 1.001, height - 1.001))
    x, y = np.floor(place).astype(int).T
    fx, fy = (place - np.floor(place)).T[..., None]
    frame = frame.astype(np.float32)
    top = frame[y, x] * (1 - fx) + frame[y, x + 1] * fx
    bottom = frame[y + 1, x] * (1 - fx) + frame[y + 1, x + 1] * fx
    return top * (1 - fy) + bottom * fy
