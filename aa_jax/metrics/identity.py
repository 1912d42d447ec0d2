"""Identity similarity (CSIM): how much a face in generated frames is the reference's, by a network that the user gives.

The network embeds aligned faces: 112x112 pixels with eyes, nose and mouth where ArcFace's training had them (Deng et
al., arXiv 1801.07698; the places are `arcface_dst` in InsightFace's `face_align.py`). No weights come with the package;
InsightFace's published ONNX files have the interface, but their licence is for research.
"""

import dataclasses
import hashlib
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Complex, Float, UInt8

from aa_jax.onnx_network import OnnxNetwork
from aa_jax.pose.keypoints import FACE, VISIBLE, Keypoints

SIZE = 112
TEMPLATE = np.array([
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041),
])  # fmt: skip
"""x and y in pixels of what `FIVE` names."""
# Of the 68 points of the face, those whose mean is a point of the template: the rings of both eyes (the person's right
# one is on the left), the nose's tip, and the corners of the mouth.
FIVE = (range(36, 42), range(42, 48), (30,), (48,), (54,))
BATCH = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdentitySimilarity:
    """How much each frame's face is the reference's.

    Attributes:
      similarity: (t,) cosines of embeddings, float32, -1 to 1; NaN where no face is seen.
    """

    similarity: Float[np.ndarray, " t"]

    @property
    def scored(self) -> int:
        """Number of frames in which a face is seen."""
        return int(np.isfinite(self.similarity).sum())


class FaceEmbedding:
    """A network from aligned faces to embeddings, in an ONNX file.

    Attributes:
      path: of the file.
      sha256: of the file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Load the network; on CUDA where onnxruntime has it.

        Args:
          path: a network with one float32 input (faces, 3, 112, 112), RGB as (x - 127.5) / 127.5, and one output
            (faces, values).

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: it is no such network.
          ModuleNotFoundError: onnxruntime is missing.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path} is not a file, expected the ONNX file of a face embedding such as ArcFace")
        self.sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self._network = OnnxNetwork(
            self.path, user="the face embedding", kind="a face embedding", size=(SIZE, SIZE), batch_size=BATCH
        )
        if self._network.size != (SIZE, SIZE):
            height, width = self._network.size
            raise ValueError(f"{path} takes images of {width}x{height}, expected a face embedding of {SIZE}x{SIZE}")

    def __call__(self, faces: Float[np.ndarray, "n 112 112 3"]) -> Float[np.ndarray, "n d"]:
        """Embeddings of length 1.

        Args:
          faces: RGB, values in [0, 255].

        Raises:
          ValueError: the network's output has another form, or a value that is not finite.
        """
        pixels = ((faces - 127.5) / 127.5).transpose(0, 3, 1, 2).astype(np.float32)
        (output,) = self._network(list(pixels))
        if output.ndim != 2 or len(output) != len(faces):
            raise ValueError(
                f"{self.path} gives an output of shape {output.shape} for {len(faces)} faces, "
                f"expected ({len(faces)}, values): it is no face embedding"
            )
        embeddings = output.astype(np.float64)
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ValueError(f"{self.path} gives embeddings that are zero, NaN or infinite")
        return (embeddings / lengths).astype(np.float32)


def identity_similarity(
    embed: FaceEmbedding,
    reference: UInt8[np.ndarray, "h w 3"],
    reference_keypoints: Keypoints,
    frames: UInt8[np.ndarray, "t h2 w2 3"],
    keypoints: Keypoints,
) -> IdentitySimilarity:
    """Cosine similarity of the face in each frame to the reference's.

    Args:
      embed: the network.
      reference: RGB.
      reference_keypoints: of the reference, one frame's.
      frames: the predicted ones, RGB.
      keypoints: of each frame: as found in it, or those that drive it.

    Raises:
      ValueError: no face is seen in the reference, lengths or shapes do not fit, or the network is not as expected.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or len(frames) != len(keypoints):
        raise ValueError(
            f"frames {frames.dtype} {frames.shape} and keypoints of {len(keypoints)} frames given, "
            "expected uint8 (t, h, w, 3) and keypoints of t frames"
        )
    if reference.dtype != np.uint8 or reference.ndim != 3 or reference.shape[2] != 3 or len(reference_keypoints) != 1:
        raise ValueError(
            f"reference {reference.dtype} {reference.shape} and keypoints of {len(reference_keypoints)} frames given, "
            "expected uint8 (h, w, 3) and keypoints of one frame"
        )
    wanted, seen = align_faces(reference[None], reference_keypoints)
    if not seen.any():
        raise ValueError(
            "no face is seen in the reference: its eyes, nose and mouth are not all among the keypoints, "
            "so that there is nothing to compare faces with"
        )
    similarity = np.full(len(frames), np.nan, np.float32)
    faces, seen = align_faces(frames, keypoints)
    if seen.any():
        similarity[seen] = embed(faces) @ embed(wanted)[0]
    return IdentitySimilarity(similarity=similarity)


def align_faces(
    frames: UInt8[np.ndarray, "t h w 3"], keypoints: Keypoints
) -> tuple[Float[np.ndarray, "n 112 112 3"], Bool[np.ndarray, " t"]]:
    """The faces of those frames in which they are seen, as ArcFace takes them, and in which frames that is.

    Turned, scaled and moved so that the five points come as near as possible to the template's, by bilinear
    interpolation, black beyond the frame; RGB, values in [0, 255], not rounded. As published, a face that is larger
    than 112 pixels is not smoothed first.
    """
    height, width = frames.shape[1:3]
    points, seen = five_points(keypoints)
    scale, centre = fit_similarity(points @ np.array([width, 1j * height]))
    seen = np.logical_and(seen, np.isfinite(scale) & (scale != 0))
    y, x = np.indices((SIZE, SIZE))
    faces = [np.zeros((0, SIZE, SIZE, 3), np.float32)]
    for index in np.flatnonzero(seen):
        places = (x + 1j * y - _CENTRE) / scale[index] + centre[index]
        warped = _sample(frames[index], [jnp.float32(places.imag), jnp.float32(places.real)])
        faces.append(np.asarray(warped)[None])
    return np.concatenate(faces), seen


def five_points(keypoints: Keypoints) -> tuple[Float[np.ndarray, "t 5 2"], Bool[np.ndarray, " t"]]:
    """Eyes, nose and mouth's corners in the template's order, normalised, and whether all that they are made of is
    seen."""
    points, scores = keypoints.points[:, FACE].astype(np.float64), keypoints.scores[:, FACE]
    used = [index for some in FIVE for index in some]
    five = np.stack([points[:, list(some)].mean(axis=1) for some in FIVE], axis=1)
    return five, np.all(scores[:, used] >= VISIBLE, axis=1)


def fit_similarity(
    points: Complex[np.ndarray, "t 5"],
) -> tuple[Complex[np.ndarray, " t"], Complex[np.ndarray, " t"]]:
    """The similarity that takes points x + iy nearest to the template, by least squares.

    Of all rotations and scalings, which are products with a complex number, the best is that of a linear regression
    through the centres: what Umeyama's method (IEEE PAMI 13 (4), 1991) finds in any dimension.

    Returns:
      `scale` and `centre` of `scale * (point - centre) + template's centre`; `scale` is not finite where the points are
      all one.
    """
    centre = points.mean(axis=1)
    away = points - centre[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = away.conj() @ (_TEMPLATE - _CENTRE) / (np.abs(away) ** 2).sum(axis=1)
    return scale, centre


_TEMPLATE = TEMPLATE @ np.array([1, 1j])
_CENTRE = _TEMPLATE.mean()


@jax.jit
def _sample(frame: UInt8[Array, "h w 3"], places: list[Float[Array, "112 112"]]) -> Float[Array, "112 112 3"]:
    """Bilinear interpolation at rows and columns, the middle of a pixel being whole numbers."""
    channels = jnp.moveaxis(frame.astype(jnp.float32), -1, 0)
    return jnp.stack([map_coordinates(channel, places, order=1) for channel in channels], axis=-1)
