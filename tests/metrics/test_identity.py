"""Identity similarity against scikit-image's alignment and small ONNX networks computed again in NumPy."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper, save
from skimage.filters import gaussian
from skimage.transform import SimilarityTransform, warp

from aa_jax.data.synthetic.face import iris_places, landmarks
from aa_jax.metrics.identity import (
    FIVE,
    SIZE,
    TEMPLATE,
    FaceEmbedding,
    align_faces,
    fit_similarity,
    five_points,
    identity_similarity,
)
from aa_jax.pose.keypoints import FACE, NUM_KEYPOINTS, Keypoints

HEIGHT, WIDTH, VALUES = 90, 120, 16
MATRIX = np.random.default_rng(0).normal(size=(192, VALUES)).astype(np.float32)


def write_network(path, *, faces="faces", shape=(3, SIZE, SIZE), dtype=TensorProto.FLOAT, outputs=("output",), gain=1):
    """ "output": means of 14x14 pixels times `MATRIX`; "means" and "flat", what comes before."""
    nodes = {
        "row": helper.make_node("Flatten", ["input"], ["row"]),
        "means": helper.make_node("AveragePool", ["input"], ["means"], kernel_shape=[14, 14], strides=[14, 14]),
        "flat": helper.make_node("Flatten", ["means"], ["flat"]),
        "output": helper.make_node("MatMul", ["flat", "matrix"], ["output"]),
    }
    needed = ["row"] if "row" in outputs else ["means", "flat", "output"]
    given = [helper.make_tensor_value_info("input", dtype, (faces, *shape))]
    made = [helper.make_tensor_value_info(name, dtype, [None] * (4 if name == "means" else 2)) for name in outputs]
    matrix = numpy_helper.from_array(np.float32(gain * MATRIX), "matrix")
    graph = helper.make_graph(
        [nodes[name] for name in needed], "graph", given, made, [matrix] if "output" in needed else []
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    checker.check_model(model)
    save(model, str(path))
    return path


def embedded(faces):
    """What `write_network`'s network gives, of length 1."""
    pixels = (faces - 127.5) / 127.5
    means = pixels.reshape(-1, 8, 14, 8, 14, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(len(faces), -1)
    values = means @ MATRIX.astype(np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def pictures(seed, count):
    random = np.random.default_rng(seed).uniform(size=(count, HEIGHT, WIDTH, 3))
    smooth = np.stack([gaussian(one, 3, channel_axis=-1) for one in random])
    return np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))


def with_five(five, scores=1.0):
    """Keypoints whose faces have these five points (t, 5, 2) in pixels of a picture."""
    points = np.zeros((len(five), NUM_KEYPOINTS, 2))
    for indices, place in zip(FIVE, np.moveaxis(five, 1, 0), strict=True):
        # Around the place, not on it.
        spread = (np.arange(len(indices)) - (len(indices) - 1) / 2)[:, None] * (1, 0.5)
        points[:, FACE][:, list(indices)] = place[:, None] + spread
    marks = np.broadcast_to(np.asarray(scores)[..., None], (len(five), NUM_KEYPOINTS))
    return Keypoints(points=points / (WIDTH, HEIGHT), scores=marks, height=HEIGHT, width=WIDTH)


def faces_of(seed, count, noise=2.0):
    """Five points somewhere in a picture: the template, turned, shrunk, moved and bent."""
    random = np.random.default_rng(seed)
    angles, scales = random.uniform(-1, 1, count), random.uniform(0.3, 1.2, count)
    turned = np.exp(1j * angles[:, None]) * scales[:, None] * ((TEMPLATE - 56) @ (1, 1j))
    middle = random.uniform((40, 30), (80, 60), (count, 2))[:, None]
    return np.stack([turned.real, turned.imag], -1) + middle + random.normal(0, noise, (count, 5, 2))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return FaceEmbedding(write_network(tmp_path_factory.mktemp("onnx") / "faces.onnx"))


def test_five_points_of_a_drawn_face():
    """The rings of the eyes are about the places where the benchmark draws the irises, and what is left in the picture
    is left in the template: the person's right."""
    drawn = SimpleNamespace(eyes=(1.1, 0.9, 1.05), brows=(1.0, 0.1), mouth=(1.2, 0.3))
    marks = np.asarray(landmarks(drawn)) * (1, -1) / 4 + 0.5  # y up, in half-widths of the skull
    points = np.zeros((1, NUM_KEYPOINTS, 2))
    points[:, FACE] = marks
    keypoints = Keypoints(points=points, scores=np.ones((1, NUM_KEYPOINTS)), height=100, width=100)
    (five,), seen = five_points(keypoints)
    assert seen.all()
    left, right = np.asarray(iris_places(drawn)) * (1, -1) / 4 + 0.5
    np.testing.assert_allclose(five[:2], [right, left], atol=1e-6)
    assert five[0, 0] < five[2, 0] < five[1, 0] and five[3, 0] < five[4, 0]
    assert five[:2, 1].max() < five[2, 1] < five[3:, 1].min()


def test_similarity_transform_is_scikit_images():
    five = faces_of(1, 20, noise=6.0)
    scale, centre = fit_similarity(five @ (1, 1j))
    for points, a, c in zip(five, scale, centre, strict=True):
        expected = SimilarityTransform.from_estimate(points, TEMPLATE)
        ours = a * (points @ (1, 1j) - c) + TEMPLATE.mean(0) @ (1, 1j)
        np.testing.assert_allclose(np.stack([ours.real, ours.imag], -1), expected(points), rtol=1e-10)


def test_faces_are_scikit_images_warps():
    five, frames = faces_of(2, 12), pictures(2, 12)
    faces, seen = align_faces(frames, with_five(five))
    assert seen.all() and faces.shape == (12, SIZE, SIZE, 3)
    black = 0
    for frame, points, face in zip(frames, five, faces, strict=True):
        transform = SimilarityTransform.from_estimate(points, TEMPLATE)
        expected = warp(frame.astype(np.float64), transform.inverse, output_shape=(SIZE, SIZE), order=1, cval=0)
        np.testing.assert_allclose(face, expected, atol=0.02)
        black += (expected == 0).mean()
    assert 0.1 < black / 12 < 0.9  # beyond the picture, too


def test_similarity(network):
    five, frames, reference = faces_of(3, 20), pictures(3, 20), pictures(4, 1)
    place = faces_of(4, 1)
    scores = np.ones(20)
    scores[[2, 7]] = 0.29, 0.0
    found = identity_similarity(network, reference[0], with_five(place), frames, with_five(five, scores))
    wanted = embedded(align_faces(reference, with_five(place))[0])[0]
    expected = embedded(align_faces(frames, with_five(five))[0]) @ wanted
    assert found.similarity.dtype == np.float32 and found.scored == 18
    assert np.flatnonzero(np.isnan(found.similarity)).tolist() == [2, 7]
    np.testing.assert_allclose(np.delete(found.similarity, [2, 7]), np.delete(expected, [2, 7]), rtol=1e-4, atol=1e-6)


def test_one_lost_point_of_the_face_is_enough_to_leave_a_frame_out(network):
    frames, points = pictures(5, 3), with_five(faces_of(5, 3))
    reference = Keypoints(points=points.points[:1], scores=points.scores[:1], height=HEIGHT, width=WIDTH)
    scores = points.scores.copy()
    scores[0, FACE.start + FIVE[0][3]] = 0
    scores[1, FACE.start] = 0  # of the jaw, which is not used
    lost = Keypoints(points=points.points, scores=scores, height=HEIGHT, width=WIDTH)
    found = identity_similarity(network, frames[0], reference, frames, lost)
    assert np.isnan(found.similarity).tolist() == [True, False, False] and found.scored == 2


def test_no_face_in_any_frame(network):
    frames, points = pictures(5, 2), with_five(faces_of(5, 2))
    found = identity_similarity(
        network, frames[0], with_five(faces_of(5, 1)), frames, with_five(np.zeros((2, 5, 2)), scores=np.zeros(2))
    )
    assert np.isnan(found.similarity).all() and found.scored == 0 and len(points) == 2


def test_the_same_face_elsewhere_is_the_same(network):
    """A face that is moved, turned and enlarged with its points stays about the same; another does not."""
    picture = pictures(6, 2)
    five = np.tile(SimilarityTransform(scale=0.5, translation=(32, 20))(TEMPLATE), (2, 1, 1))
    move = SimilarityTransform(scale=1.2, rotation=0.2, translation=(-8, -20))
    moved = np.uint8(np.round(warp(picture[0] / 255, move.inverse, order=1) * 255))
    frames = np.stack([picture[0], moved, picture[1]])
    places = np.stack([five[0], move(five[0]), five[1]])
    found = identity_similarity(network, picture[0], with_five(five[:1]), frames, with_five(places)).similarity
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert 0.97 < found[1] < 1
    assert found[2] < 0.9


def test_network_for_a_fixed_number_of_faces(network, tmp_path):
    fixed = FaceEmbedding(write_network(tmp_path / "fixed.onnx", faces=4))
    faces = pictures(7, 6)[:, :, :SIZE].repeat(2, axis=1)[:, :SIZE].astype(np.float32)
    np.testing.assert_allclose(fixed(faces), network(faces), atol=1e-6)
    np.testing.assert_allclose(network(faces), embedded(faces), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"shape": (SIZE, SIZE, 3), "outputs": ["row"]},
            r"'faces', 112, 112, 3\] and gives 1 outputs, expected a face embedding: one input",
        ),
        ({"shape": (3, 224, 224), "outputs": ["row"]}, "224"),
        ({"dtype": TensorProto.DOUBLE, "outputs": ["row"]}, r"takes tensor\(double\) .* expected a face embedding"),
        ({"outputs": ["output", "flat"]}, "gives 2 outputs"),
    ],
)
def test_other_networks_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        FaceEmbedding(write_network(tmp_path / "other.onnx", **options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": ["means"]}, r"output of shape \(2, 3, 8, 8\) for 2 faces, expected \(2, values\)"),
        ({"gain": 0}, "zero, NaN or infinite"),
        ({"gain": np.nan}, "zero, NaN or infinite"),
    ],
)
def test_outputs_that_are_no_embeddings(options, message, tmp_path):
    network = FaceEmbedding(write_network(tmp_path / "other.onnx", **options))
    with pytest.raises(ValueError, match=message):
        network(np.full((2, SIZE, SIZE, 3), 200, np.float32))


def test_files_that_are_no_networks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.onnx is not a file, expected the ONNX file"):
        FaceEmbedding(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match=r"text.onnx cannot be loaded as an ONNX network"):
        FaceEmbedding(tmp_path / "text.onnx")


def test_without_onnxruntime(tmp_path, monkeypatch):
    path = write_network(tmp_path / "faces.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"onnxruntime, which runs the face embedding, is missing: install it"
    ):
        FaceEmbedding(path)


def test_wrong_arguments(network):
    frames, points = pictures(8, 2), with_five(faces_of(8, 2))
    one, unseen = with_five(faces_of(8, 1)), with_five(faces_of(8, 1), scores=np.zeros(1))
    for reference, its_points, predicted, their_points, message in (
        (frames[0], unseen, frames, points, "no face is seen in the reference"),
        (frames, one, frames, points, r"reference uint8 \(2, 90, 120, 3\) and keypoints of 1 frames given"),
        (frames[0], points, frames, points, "reference .* keypoints of 2 frames given"),
        (frames[0], one, frames[:1], points, r"frames uint8 \(1, 90, 120, 3\) and keypoints of 2 frames given"),
        (frames[0], one, frames / 255, points, "frames float64"),
    ):
        with pytest.raises(ValueError, match=message):
            identity_similarity(network, reference, its_points, predicted, their_points)
