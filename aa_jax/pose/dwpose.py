"""DWPose: everyone's 134 keypoints in images, through onnxruntime.

As published (`src/dwpose` of Moore-AnimateAnyone, after IDEA-Research's DWPose): YOLOX finds people, and RTMPose, in a
crop around each, gives for every point one score per half pixel of width and of height, whose maxima are the place. Bit
for bit, quirks included: the pose network's mean and deviation, stated for RGB, are applied to BGR; where nobody is
found, the whole image is taken for a person.
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from aa_jax.onnx_network import DEVICES, Device, OnnxNetwork, needed_runtime
from aa_jax.pose import yolox
from aa_jax.pose.people import People
from aa_jax.pose.wholebody import NUM_COCO, coco_to_openpose

HUB_ID = "yzd-v/DWPose"
DETECTOR, POSE = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"
# How much larger than a person's box the crop is.
MARGIN = 1.25
# Of RGB; applied to BGR.
MEAN = np.array([123.675, 116.28, 103.53])
DEVIATION = np.array([58.395, 57.12, 57.375])
BINS_PER_PIXEL = 2

Box = Float[np.ndarray, "4"]


class DWPose:
    """The detector and the pose network, ready to run.

    Attributes:
      paths: of the detector and the pose network.
      batch_size: images in a network at once, unless it was exported for a fixed number.
      resolution: to which images are resized first, see `__init__`.
    """

    def __init__(
        self,
        detector_path: str | os.PathLike[str] | None = None,
        pose_path: str | os.PathLike[str] | None = None,
        *,
        batch_size: int = 8,
        device: Device = "auto",
        resolution: int | None = None,
    ):
        """Load the networks.

        Args:
          detector_path: `yolox_l.onnx`; None downloads it from the Hugging Face Hub (kept in its cache).
          pose_path: `dw-ll_ucoco_384.onnx`; the same.
          batch_size: images in a network at once; one that was exported for a fixed number takes that.
          device: "cpu", "cuda", or "auto": CUDA where onnxruntime has it.
          resolution: resize images first so that the shorter side is about so many pixels and both are multiples of
            64, as Moore-AnimateAnyone does with 512. None takes images as they are, as DWPose itself does.

        Raises:
          FileNotFoundError: there is no such file, or it could not be downloaded.
          ValueError: a file is no such network, or an argument is not possible.
          ModuleNotFoundError: onnxruntime is missing.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected 1 or more")
        if resolution is not None and resolution < 64:
            raise ValueError(f"resolution is {resolution}, expected 64 or more, or None")
        if device not in DEVICES:
            raise ValueError(f"device {device!r} given, expected one of {', '.join(DEVICES)}")
        needed_runtime("DWPose")  # said before anything is downloaded
        self.batch_size, self.resolution = batch_size, resolution
        self.paths = tuple(_find(path, name) for path, name in ((detector_path, DETECTOR), (pose_path, POSE)))
        open_network = functools.partial(OnnxNetwork, user="DWPose", batch_size=batch_size, device=device)
        self._detector = open_network(self.paths[0], kind=f"a detector such as {DETECTOR}", size=(640, 640))
        self._pose = open_network(self.paths[1], kind=f"a pose network such as {POSE}", size=(384, 288), outputs=2)

    def __call__(self, frames: Sequence[UInt8[np.ndarray, "h w 3"]] | UInt8[np.ndarray, "t h w 3"]) -> list[People]:
        """Everyone in each frame, RGB; the one with the best box first.

        Raises:
          ValueError: frames that are not uint8 (h, w, 3), or a network of another kind.
        """
        if not len(frames):
            return []
        for frame in frames:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
                raise ValueError(f"frame of {frame.dtype} and shape {frame.shape} given, expected uint8 (h, w, 3)")
        images = [self._resized(np.ascontiguousarray(frame[..., ::-1])) for frame in frames]
        boxes = self.detect(images)
        crops = [(image, box) for image, boxes in zip(images, boxes, strict=True) for box in boxes]
        points, scores = self.estimate([image for image, _ in crops], [box for _, box in crops])
        ends = np.cumsum([len(some) for some in boxes])[:-1]
        return [
            People(points=pixels / (image.shape[1], image.shape[0]), scores=some)
            for image, pixels, some in zip(images, np.split(points, ends), np.split(scores, ends), strict=True)
        ]

    def detect(self, images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[Float[np.ndarray, "n 4"]]:
        """People's boxes (left, top, right, bottom in pixels) in BGR images; the whole image where there are none."""
        height, width = self._detector.size
        inputs, scales = zip(*(yolox.letterbox(image, height, width) for image in images), strict=True)
        (rows,) = self._detector(inputs)
        cells = yolox.num_cells(height, width)
        if rows.ndim != 3 or rows.shape[1] != cells or rows.shape[2] < 6:
            raise ValueError(
                f"{self.paths[0]} gives an output of shape {rows.shape}, "
                f"expected (images, {cells}, 5 + classes): it is no YOLOX"
            )
        found = [
            yolox.people_boxes(of_image, height, width, scale) for of_image, scale in zip(rows, scales, strict=True)
        ]
        whole = [np.array([[0.0, 0.0, image.shape[1], image.shape[0]]]) for image in images]
        return [boxes if len(boxes) else everything for boxes, everything in zip(found, whole, strict=True)]

    def estimate(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], boxes: Sequence[Box]
    ) -> tuple[Float[np.ndarray, "n 134 2"], Float[np.ndarray, "n 134"]]:
        """Points in pixels, and scores, of the person in each box of a BGR image (one image a box)."""
        height, width = self._pose.size
        places = [crop_place(box, height, width) for box in boxes]
        crops = (crop(image, *place, height, width) for image, place in zip(images, places, strict=True))
        across, down = self._pose([normalise(pixels) for pixels in crops])
        for scored, length in ((across, width), (down, height)):
            if scored.shape[1:] != (NUM_COCO, BINS_PER_PIXEL * length):
                raise ValueError(
                    f"{self.paths[1]} gives an output of shape {scored.shape}, expected (crops, {NUM_COCO}, "
                    f"{BINS_PER_PIXEL * length}): it is no DWPose of whole bodies for crops of {width}x{height}"
                )
        bins, scores = decode(across, down)
        centres, sizes = (np.stack(part)[:, None] for part in zip(*places, strict=True))
        pixels = bins / BINS_PER_PIXEL / (width, height) * sizes + centres - sizes / 2
        return coco_to_openpose(pixels, scores.astype(np.float64), neck="dwpose")

    def _resized(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
        if self.resolution is None:
            return image
        scale = self.resolution / min(image.shape[:2])
        height, width = (int(np.round(side * scale / 64)) * 64 for side in image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LANCZOS4 if scale > 1 else cv2.INTER_AREA)


def crop_place(box: Box, height: int, width: int) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Centre and size (x, y) of the crop around a box: with a margin, extended to the aspect of `height` x `width`."""
    centre = (box[:2] + box[2:]) * 0.5
    wide, high = (box[2:] - box[:2]) * MARGIN
    aspect = width / height
    size = (wide, wide / aspect) if wide > high * aspect else (high * aspect, high)
    return centre, np.array(size, box.dtype)


def crop(
    image: UInt8[np.ndarray, "h w 3"],
    centre: Float[np.ndarray, "2"],
    size: Float[np.ndarray, "2"],
    height: int,
    width: int,
) -> UInt8[np.ndarray, "height width 3"]:
    """Cut out of an image and scaled bilinearly; black beyond the image."""
    # Centre, the middle of the top edge of the square on the width, and its left corner; rounded as published.
    origin = centre.astype(np.float32)
    top = (centre - (0, size[0] * 0.5)).astype(np.float32)
    corner = top - np.array([origin[1] - top[1], 0], np.float32)
    source = np.stack([origin, top, corner])
    half = width / 2
    target = np.array([(half, height / 2), (half, height / 2 - half), (0, height / 2 - half)], np.float32)
    transform = cv2.getAffineTransform(source, target)
    return cv2.warpAffine(image, transform, (width, height), flags=cv2.INTER_LINEAR)


def normalise(pixels: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "3 h w"]:
    """A crop as the pose network takes it."""
    return ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)


def decode(
    across: Float[np.ndarray, "n k bins_x"], down: Float[np.ndarray, "n k bins_y"]
) -> tuple[Float[np.ndarray, "n k 2"], Float[np.ndarray, "n k"]]:
    """Bins (x, y) of the highest scores (SimCC), and the lesser of the two scores; bins are -1 where that is not
    positive."""
    bins = np.stack([across.argmax(-1), down.argmax(-1)], -1).astype(np.float32)
    scores = np.minimum(across.max(-1), down.max(-1))
    bins[scores <= 0] = -1
    return bins, scores


def _find(path: str | os.PathLike[str] | None, name: str) -> Path:
    """The model file at `path`, or the published one."""
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{path} is not a file, expected {name}: download it from https://huggingface.co/{HUB_ID}"
            )
        return Path(path)
    try:
        import huggingface_hub
    except ImportError as error:
        raise ModuleNotFoundError(
            f"no path of {name} given, and huggingface_hub, which would download it, is missing"
        ) from error
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.hf_hub_download(HUB_ID, name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"no path of {name} given, and it could not be downloaded from the hub ({HUB_ID}): {reason}; "
            "where there is no network, give the paths of both model files"
        ) from error
