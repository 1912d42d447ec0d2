"""Small ONNX networks with the interfaces of YOLOX and of RTMPose, whose outputs are plain functions of their input."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

STRIDES = (8, 16, 32)
NUM_CLASSES = 3
NUM_POINTS = 133
# Sizes (height, width) of the networks' inputs.
DETECTOR_SIZE = (64, 96)
POSE_SIZE = (32, 24)


def _write(path, nodes, constants, inputs, outputs):
    """`inputs` and `outputs`: shapes by name."""
    tensors = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        for shapes in (inputs, outputs)
    ]
    initial = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", *tensors, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    checker.check_model(model)
    save(model, str(path))
    return path


def detector_weights(seed):
    """Per stride: a matrix and a constant from a cell's mean BGR colour in [0, 1] to a row."""
    rng = np.random.default_rng(seed)
    weights = {}
    for stride in STRIDES:
        matrix, constant = rng.normal(0, 1, (5 + NUM_CLASSES, 3)), rng.normal(0, 0.5, 5 + NUM_CLASSES)
        constant[2:4] += 1
        matrix[4:] /= 2
        constant[4:] += 0.3
        weights[stride] = matrix.astype(np.float32), constant.astype(np.float32)
    return weights


def write_detector(path, weights, *, size=DETECTOR_SIZE, batch="images"):
    """A row for each cell of each grid: linear in the mean colour of the cell's pixels."""
    nodes = [helper.make_node("Mul", ["input", "to_unit"], ["unit"])]
    constants = {"to_unit": np.float32(1 / 255), "shape": np.array([0, 5 + NUM_CLASSES, -1])}
    rows = []
    for stride, (matrix, constant) in weights.items():
        mean, row, flat, last = (f"{what}{stride}" for what in ("mean", "row", "flat", "last"))
        constants |= {f"matrix{stride}": matrix[..., None, None], f"constant{stride}": constant}
        square = [stride, stride]
        nodes += [
            helper.make_node("AveragePool", ["unit"], [mean], kernel_shape=square, strides=square),
            helper.make_node("Conv", [mean, f"matrix{stride}", f"constant{stride}"], [row]),
            helper.make_node("Reshape", [row, "shape"], [flat]),
            helper.make_node("Transpose", [flat], [last], perm=[0, 2, 1]),
        ]
        rows.append(last)
    nodes.append(helper.make_node("Concat", rows, ["output"], axis=1))
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
    shapes = {"input": (batch, 3, *size)}, {"output": (batch, cells, 5 + NUM_CLASSES)}
    return _write(path, nodes, constants, *shapes)


def pose_weights(seed, size=POSE_SIZE):
    """Per axis: what each point makes of the colours, how pixels become bins, and what is added."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(0, 1, (NUM_POINTS, 3))
    weights = {}
    for axis, length in (("x", size[1]), ("y", size[0])):
        pixels, added = rng.normal(0, 0.3, (length, 2 * length)), rng.normal(0, 0.2, (NUM_POINTS, 2 * length))
        pixels -= pixels.mean(0)  # blind to what all pixels have in common
        weights[axis] = tuple(array.astype(np.float32) for array in (colours, pixels, added))
    return weights


def spot_weights(colours, size=POSE_SIZE):
    """A pose network that puts point k where the image is most like colour k: bins are pixels, halved."""
    return {
        axis: (
            np.asarray(colours, np.float32),
            np.repeat(np.eye(length), 2, axis=1).astype(np.float32),
            np.tile(np.float32([5.001, 5]), (NUM_POINTS, length)),
        )
        for axis, length in (("x", size[1]), ("y", size[0]))
    }


def write_pose(path, weights, *, size=POSE_SIZE, batch="images", points=NUM_POINTS):
    """Scores of bins along each axis: linear in the colours, averaged across the axis."""
    nodes, constants = [], {}
    for axis, across in (("x", 2), ("y", 3)):
        colours, pixels, added = weights[axis]
        constants |= {f"colours_{axis}": colours, f"pixels_{axis}": pixels, f"added_{axis}": added}
        nodes += [
            helper.make_node("ReduceMean", ["input"], [f"profile_{axis}"], axes=[across], keepdims=0),
            helper.make_node("MatMul", [f"colours_{axis}", f"profile_{axis}"], [f"points_{axis}"]),
            helper.make_node("MatMul", [f"points_{axis}", f"pixels_{axis}"], [f"bins_{axis}"]),
            helper.make_node("Add", [f"bins_{axis}", f"added_{axis}"], [f"simcc_{axis}"]),
        ]
    outputs = {f"simcc_{axis}": (batch, points, 2 * length) for axis, length in (("x", size[1]), ("y", size[0]))}
    return _write(path, nodes, constants, {"input": (batch, 3, *size)}, outputs)


def write_spots(folder: Path, size: tuple[int, int]) -> tuple[Path, Path]:
    """A detector that finds nobody, so that the whole image counts, and a pose network for which point k is where
    channel k % 3 of BGR is brightest."""
    nothing = {stride: (0 * matrix, 0 * constant) for stride, (matrix, constant) in detector_weights(0).items()}
    colours = spot_weights(np.eye(3)[np.arange(133) % 3], size)
    return write_detector(folder / "detector.onnx", nothing), write_pose(folder / "pose.onnx", colours, size=size)
