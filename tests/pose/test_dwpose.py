"""DWPose around small networks whose outputs are plain functions of their input: each step, and the whole, against an
independent restatement in NumPy."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from aa_jax.pose import dwpose, yolox
from aa_jax.pose.dwpose import DWPose
from tests.pose import onnx_models as nets

DETECTOR_WEIGHTS, POSE_WEIGHTS = nets.detector_weights(1), nets.pose_weights(0)
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def picture(seed, height, width):
    """Colours that change over tens of pixels, and noise. RGB."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (height // 40 + 2, width // 40 + 2, 3))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def detector_rows(canvas):
    """What the small detector gives for a BGR image of its input's size."""
    rows = []
    for stride in nets.STRIDES:
        matrix, constant = DETECTOR_WEIGHTS[stride]
        for top in range(0, canvas.shape[0], stride):
            for left in range(0, canvas.shape[1], stride):
                colour = canvas[top : top + stride, left : left + stride].reshape(-1, 3).mean(0) / 255
                rows.append((matrix @ colour + constant, left // stride, top // stride, stride))
    return rows


def boxes_of(rows, scale):
    """Decoding and suppression among people, one box after another."""
    found = []
    for (x, y, wide, high, objectness, person, *_), column, line, stride in rows:
        score = objectness * person
        if score > 0.1:
            centre = np.array([x + column, y + line]) * stride
            half = np.exp([wide, high]) * stride / 2
            found.append((score, [*(centre - half) / scale, *(centre + half) / scale]))
    found.sort(key=lambda one: -one[0])
    kept = []
    for score, box in found:
        if all(overlap(box, other) <= 0.45 for _, other in kept):
            kept.append((score, box))
    return [box for score, box in kept if score > 0.3]


def overlap(a, b):
    sides = [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1 for i in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    area = lambda box: (box[2] - box[0] + 1) * (box[3] - box[1] + 1)  # noqa: E731
    return shared / (area(a) + area(b) - shared)


def crop_of(image, box, height, width):
    """Bilinear, black outside; and the scale and origin of the crop."""
    left, top, right, bottom = box
    wide, high = 1.25 * (right - left), 1.25 * (bottom - top)
    scale = max(wide / width, high / height)  # pixels of the image per pixel of the crop
    x0, y0 = (left + right) / 2 - scale * width / 2, (top + bottom) / 2 - scale * height / 2
    padded = np.pad(image.astype(float), [(1, 1), (1, 1), (0, 0)])
    result = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            x, y = x0 + scale * column + 1, y0 + scale * row + 1
            if -1 < x < padded.shape[1] and -1 < y < padded.shape[0]:
                for i, weight_y in ((int(np.floor(y)), 1 - y % 1), (int(np.floor(y)) + 1, y % 1)):
                    for j, weight_x in ((int(np.floor(x)), 1 - x % 1), (int(np.floor(x)) + 1, x % 1)):
                        if 0 <= i < padded.shape[0] and 0 <= j < padded.shape[1]:
                            result[row, column] += weight_y * weight_x * padded[i, j]
    return result, scale, (x0, y0)


def pose_of(crop, weights, scale, origin):
    """What the small pose network makes of a BGR crop: points in pixels of the image, COCO's order, and scores."""
    normalised = (crop - MEAN) / DEVIATION
    points, scores = np.zeros((133, 2)), np.full(133, np.inf)
    for place, axis in ((0, "x"), (1, "y")):
        colours, pixels, added = weights[axis]
        bins = colours @ normalised.mean(axis=place).T @ pixels + added
        points[:, place] = origin[place] + scale * bins.argmax(1) / 2
        scores = np.minimum(scores, bins.max(1))
    return points, scores


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dwpose")
    detector = nets.write_detector(folder / "detector.onnx", DETECTOR_WEIGHTS)
    return detector, nets.write_pose(folder / "pose.onnx", POSE_WEIGHTS)


@pytest.mark.parametrize(("height", "width"), [(100, 300), (200, 100), (64, 96), (31, 17)])
def test_letterbox(height, width):
    image = picture(0, height, width)
    canvas, scale = yolox.letterbox(image, 64, 96)
    assert scale == min(64 / height, 96 / width) and canvas.shape == (3, 64, 96) and canvas.dtype == np.float32
    high, wide = int(height * scale), int(width * scale)
    inside = cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(canvas[:, :high, :wide], inside.transpose(2, 0, 1))
    canvas[:, :high, :wide] = 114
    assert (canvas == 114).all()


@pytest.mark.parametrize("seed", range(3))
def test_boxes(seed):
    """The network's rows decoded, and suppressed, box by box."""
    rng = np.random.default_rng(seed)
    plain = detector_rows(np.zeros((64, 96, 3)))
    rows = rng.normal(0, 1, (len(plain), 8)).astype(np.float32)
    rows[:, 2:4] = 0.3 * rows[:, 2:4] + np.log([[64 / stride] for *_, stride in plain])  # of like sizes
    rows[:, 4:] = rng.uniform(0, 1, rows[:, 4:].shape) ** 0.5
    expected = boxes_of([(row, *place) for row, (_, *place) in zip(rows.astype(float), plain, strict=True)], 0.4)
    result = yolox.people_boxes(rows, 64, 96, 0.4)
    assert 2 < len(result) < 0.6 * len(rows)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)
    rows[:, 5] = 0
    assert yolox.people_boxes(rows, 64, 96, 0.4).shape == (0, 4), "other classes than people"


@pytest.mark.parametrize("box", [(40, 30, 90, 170), (10, 50, 190, 80), (-40, -10, 30, 260), (0, 0, 200, 240)])
def test_crop(box):
    """Any box becomes a crop of the network's aspect with a quarter more around it, black outside of the image."""
    image = picture(1, 240, 200)
    expected, scale, origin = crop_of(image, box, 32, 24)
    centre, size = dwpose.crop_place(np.array(box, float), 32, 24)
    np.testing.assert_allclose(size, (scale * 24, scale * 32))
    np.testing.assert_allclose(centre - size / 2, origin)
    result = dwpose.crop(image, centre, size, 32, 24)
    difference = np.abs(result - expected)
    # OpenCV places samples on a grid of 1/32 pixel: the noise of neighbours differs, and the black edge.
    assert difference.mean() < 0.5 and np.median(difference) < 0.5 and (difference > 4).mean() < 0.01


def test_normalise_applies_the_means_in_the_order_of_rgb_to_bgr():
    pixels = np.full((2, 2, 3), (200, 100, 50), np.uint8)
    result = dwpose.normalise(pixels)
    assert result.dtype == np.float32 and result.shape == (3, 2, 2)
    np.testing.assert_allclose(
        result[:, 0, 0], [(200 - 123.675) / 58.395, (100 - 116.28) / 57.12, (50 - 103.53) / 57.375]
    )


def test_decode():
    across, down = np.zeros((2, 1, 3, 8))
    across[0, 0, 5], across[0, 1, 2], across[0, 2, 1] = 0.9, 0.4, 0.5
    down[0, 0, 3], down[0, 1, 7], down[0, 2] = 0.6, 0.8, -0.1
    bins, scores = dwpose.decode(across[0][None], down[0][None])
    np.testing.assert_array_equal(bins, [[(5, 3), (2, 7), (-1, -1)]])
    np.testing.assert_allclose(scores, [[0.6, 0.4, -0.1]])


@pytest.mark.parametrize("fixed", [None, 1, 3])
def test_everyone_in_images_of_any_size(tmp_path, files, fixed):
    """Boxes, points and scores of all steps together, whatever the batches."""
    if fixed:
        files = (
            nets.write_detector(tmp_path / "detector.onnx", DETECTOR_WEIGHTS, batch=fixed),
            nets.write_pose(tmp_path / "pose.onnx", POSE_WEIGHTS, batch=fixed),
        )
    frames = [picture(2, 120, 200), picture(3, 120, 200), picture(4, 120, 200), picture(13, 260, 130)]
    results = DWPose(*files, batch_size=2, device="cpu")(frames)
    counts = []
    for frame, people in zip(frames, results, strict=True):
        image = frame[..., ::-1]
        canvas, scale = yolox.letterbox(image, *nets.DETECTOR_SIZE)
        boxes = boxes_of(detector_rows(canvas.transpose(1, 2, 0)), scale)
        counts.append(len(boxes))
        assert len(people) == max(len(boxes), 1)
        for person, box in enumerate(boxes or [(0, 0, image.shape[1], image.shape[0])]):
            centre, size = dwpose.crop_place(np.array(box, float), *nets.POSE_SIZE)
            pixels = dwpose.crop(image, centre, size, *nets.POSE_SIZE)
            points, scores = pose_of(pixels, POSE_WEIGHTS, size[0] / nets.POSE_SIZE[1], centre - size / 2)
            got = people.points[person] * (image.shape[1], image.shape[0])
            np.testing.assert_allclose(got[18:], points[17:], atol=0.01)
            np.testing.assert_allclose(people.scores[person, 18:], scores[17:], rtol=1e-4, atol=5e-3)
            order = {0: 0, 2: 6, 3: 8, 4: 10, 5: 5, 6: 7, 7: 9, 8: 12, 9: 14, 10: 16, 11: 11, 12: 13, 13: 15,
                     14: 2, 15: 1, 16: 4, 17: 3}  # fmt: skip
            np.testing.assert_allclose(got[list(order)], points[list(order.values())], atol=0.01)
            np.testing.assert_allclose(got[1], (points[5] + points[6]) / 2, atol=0.01)
            assert people.scores[person, 1] == (min(scores[5], scores[6]) > 0.3)
    assert counts == [1, 4, 0, 1]


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """Networks that find nobody, and points by their colour: see `spotted`."""
    folder = tmp_path_factory.mktemp("spots")
    weights = {stride: (0 * matrix, 0 * constant) for stride, (matrix, constant) in DETECTOR_WEIGHTS.items()}
    detector = nets.write_detector(folder / "detector.onnx", weights)
    pose = nets.write_pose(
        folder / "pose.onnx", nets.spot_weights(np.eye(3)[np.arange(133) % 3], (192, 144)), size=(192, 144)
    )
    return detector, pose


def spotted(height, width, places):
    """Black, with a red, a green and a blue spot at these places. RGB."""
    image = np.zeros((height, width, 3), np.uint8)
    for channel, (x, y) in enumerate(places):
        image[y - 4 : y + 5, x - 4 : x + 5, channel] = 255
    return image


@pytest.mark.parametrize("resolution", [None, 128])
def test_spots_are_found_where_they_are(spots, resolution):
    """RGB in, so that point k, which looks for channel k % 3 of BGR, finds blue, green or red."""
    model = DWPose(*spots, device="cpu", resolution=resolution)
    places = [(60, 200), (150, 40), (110, 120)]
    (people,) = model([spotted(270, 190, places)])
    assert len(people) == 1
    left_eye, right_eye, left_ear = people.points[0, [15, 14, 17]] * (190, 270)  # COCO's points 1, 2 and 3
    for found, place in ((left_eye, places[1]), (right_eye, places[0]), (left_ear, places[2])):
        # Within the spot; a pixel of the crop is 2.3 of the image.
        np.testing.assert_allclose(found, place, atol=6.5)


def test_resolution_is_moores(spots):
    """The shorter side near it, both in multiples of 64, by area when smaller and Lanczos when larger."""
    model = DWPose(*spots, device="cpu", resolution=128)
    for height, width, expected, how in (
        (270, 190, (192, 128), cv2.INTER_AREA),
        (90, 64, (192, 128), cv2.INTER_LANCZOS4),
    ):
        image = picture(5, height, width)
        resized = cv2.resize(image[..., ::-1], expected[::-1], interpolation=how)
        (one,), (other,) = model([image]), DWPose(*spots, device="cpu")([resized[..., ::-1]])
        np.testing.assert_array_equal(one.points, other.points)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_files_that_are_no_such_networks(tmp_path, files):
    detector, pose = files
    with pytest.raises(FileNotFoundError, match=r"none\.onnx is not a file, expected yolox_l\.onnx: download it from"):
        DWPose(tmp_path / "none.onnx", pose)
    with pytest.raises(FileNotFoundError, match=r"expected dw-ll_ucoco_384\.onnx"):
        DWPose(detector, tmp_path)
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "cut.onnx").write_bytes(pose.read_bytes()[:1000])
    for name in ("text.onnx", "cut.onnx"):
        with pytest.raises(ValueError, match=rf"{name} cannot be loaded as an ONNX network") as caught:
            DWPose(detector, tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(
        ValueError, match=r"pose\.onnx takes .* and gives 2 outputs, expected a detector such as yolox_l"
    ):
        DWPose(pose, detector)
    small = nets.write_pose(tmp_path / "small.onnx", nets.pose_weights(0, (16, 8)), size=(16, 8))
    wide = {axis: (colours[:100], *rest) for axis, (colours, *rest) in nets.pose_weights(0).items()}
    wide = {axis: (colours, pixels, added[:100]) for axis, (colours, pixels, added) in wide.items()}
    few = nets.write_pose(tmp_path / "few.onnx", wide, points=100)
    assert DWPose(detector, small, device="cpu")([picture(0, 80, 80)])
    with pytest.raises(
        ValueError, match=r"few\.onnx gives an output of shape \(\d+, 100, 48\), expected \(crops, 133, 48\)"
    ):
        DWPose(detector, few, device="cpu")([picture(0, 80, 80)])
    reversed_strides = nets.write_detector(tmp_path / "coarse.onnx", {s: DETECTOR_WEIGHTS[s] for s in (16, 32)})
    with pytest.raises(ValueError, match=r"coarse\.onnx gives an output of shape .*it is no YOLOX"):
        DWPose(reversed_strides, pose, device="cpu")([picture(0, 80, 80)])


def test_bad_arguments(files):
    with pytest.raises(ValueError, match="batch_size is 0"):
        DWPose(*files, batch_size=0)
    with pytest.raises(ValueError, match="resolution is 10, expected 64 or more"):
        DWPose(*files, resolution=10)
    with pytest.raises(ValueError, match="device 'tpu' given, expected one of auto, cpu, cuda"):
        DWPose(*files, device="tpu")
    model = DWPose(*files, device="cpu")
    for frame in (np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            model([frame])
    assert model([]) == []


def test_cuda_where_there_is_none(files):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ValueError, match="device cuda asked for, but this onnxruntime has"):
        DWPose(*files, device="cuda")


def test_without_network_or_onnxruntime(monkeypatch, files):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fail(repository, name):
        assert repository == "yzd-v/DWPose" and name in ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
        raise LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(
        FileNotFoundError, match="no path of yolox_l.onnx given, and .*: no connection; where"
    ) as caught:
        DWPose()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda _, name: files[name != "yolox_l.onnx"])
    assert DWPose(device="cpu").paths == files
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ModuleNotFoundError, match=r"onnxruntime, which runs DWPose, is missing: .*aa_jax\[pose\]"):
        DWPose()


def test_importing_is_light():
    code = (
        "import sys, aa_jax.pose.__main__;"
        "print(sorted({'onnxruntime', 'onnx', 'torch', 'jax', 'huggingface_hub', 'mediapipe'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
