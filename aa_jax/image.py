"""One image: reading it as RGB, and resizing it as the published models' preprocessing does, with Pillow's exact bytes.

Sizes are (height, width). Images are uint8 RGB (h, w, 3).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

ResizeMode = Literal["stretch", "crop", "letterbox"]
RESAMPLING = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)


def load_image(source: str | os.PathLike[str] | Image.Image | np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """An image as RGB.

    An EXIF rotation is applied, transparency is composited on white, grey, palette, CMYK and 16-bit images are
    converted. Of an animation this is the first frame. Embedded colour profiles are not applied.

    Args:
      source: an image file, a PIL image, or a uint8 array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), the last with
        alpha.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is no image or is damaged, or an array is not of these shapes or not uint8.
    """
    if isinstance(source, Image.Image):
        return to_rgb(source)
    if not isinstance(source, str | os.PathLike):
        return to_rgb(_from_array(np.asarray(source)))
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{source} does not exist, expected an image file")
    if path.is_dir():
        raise ValueError(f"{source} is a folder, expected an image file")
    with open(path, "rb") as file:
        try:
            with Image.open(file) as image:
                return to_rgb(image)
        except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them run into
            reason = "its format is not known" if isinstance(error, Image.UnidentifiedImageError) else str(error)
            raise ValueError(f"{source} cannot be read as an image: {reason}") from error


def to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """A PIL image, of any mode, as RGB: see `load_image`."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("image of floating-point values given, expected 8-bit or 16-bit integers")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image)
    return np.array(image.convert("RGB"))


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"image of values from {values.min()} to {values.max()} given, expected 8-bit or 16-bit integers"
        )
    return np.round(values / 257).astype(np.uint8)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise ValueError(f"image array of dtype {array.dtype} given, expected uint8 with values in [0, 255]")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ValueError(
            f"image array of shape {array.shape} given, expected (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)"
        )
    return Image.fromarray(array)


def same_aspect(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether resizing from `size` to `target`, both (height, width), keeps the aspect within one pixel of rounding."""
    (height, width), (target_height, target_width) = size, target
    return abs(height * target_width - width * target_height) <= max(height, width)


def resize(
    images: UInt8[np.ndarray, "*t h w 3"],
    height: int,
    width: int,
    mode: ResizeMode,
    resample: Literal["lanczos", "bicubic"] = "lanczos",
    *,
    fill: tuple[int, int, int] = BLACK,
) -> UInt8[np.ndarray, "*t height width 3"]:
    """Resize one image, or every frame of a clip.

    Args:
      images: RGB, (h, w, 3) or (t, h, w, 3).
      height: wanted height in pixels.
      width: wanted width in pixels.
      mode: what happens where the aspects differ (`same_aspect`): "stretch" distorts, "crop" covers the target and cuts
        off what hangs over, equally on both sides, "letterbox" fits the image inside and fills the rest. With the same
        aspect the modes are one.
      resample: Pillow's filter. Moore-AnimateAnyone: "lanczos", but "bicubic" for the poses of its short pipeline.
      fill: RGB colour of the letterbox.

    Raises:
      ValueError: an unknown mode or filter, a shape or dtype that is not an image's, or a size that is not positive.
    """
    if mode not in get_args(ResizeMode):
        raise ValueError(f"resize mode {mode!r} given, expected one of {', '.join(get_args(ResizeMode))}")
    if resample not in RESAMPLING:
        raise ValueError(f"resample {resample!r} given, expected one of {', '.join(RESAMPLING)}")
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3 or images.size == 0:
        raise ValueError(
            f"{images.dtype} array of shape {images.shape} given, expected uint8 (h, w, 3) or (t, h, w, 3)"
        )
    if height < 1 or width < 1:
        raise ValueError(f"size {height}x{width} (height x width) asked for, expected positive numbers")
    if images.ndim == 4:
        return np.stack([resize(image, height, width, mode, resample, fill=fill) for image in images])

    image, method = Image.fromarray(images), RESAMPLING[resample]
    if mode == "stretch" or same_aspect(images.shape[:2], (height, width)):
        return np.array(image.resize((width, height), method))
    if mode == "crop":
        return np.array(image.resize((width, height), method, box=_centre_box(image.size, (width, height))))
    inner = image.resize(_fit(image.size, (width, height)), method)
    canvas = Image.new("RGB", (width, height), fill)
    canvas.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return np.array(canvas)


def _centre_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest centred box of the target's aspect; sizes are (width, height)."""
    (width, height), scale = size, min(size[0] / target[0], size[1] / target[1])
    left, top = max(0.0, (width - target[0] * scale) / 2), max(0.0, (height - target[1] * scale) / 2)
    return left, top, width - left, height - top


def _fit(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) of an image scaled to just fit into the target."""
    scale = min(target[0] / size[0], target[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def strip(reference: UInt8[np.ndarray, "h w 3"], *rows: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A clip to look at: the reference, and to its right rows of frames below one another."""
    blank = np.full_like(reference, 255)
    firsts = [reference, *[blank] * (len(rows) - 1)]
    return np.concatenate([np.concatenate([first, *row], axis=1) for first, row in zip(firsts, rows, strict=True)])


def tile(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], gap: int = 4) -> UInt8[np.ndarray, "h w 3"]:
    """One picture of several, `gap` white pixels apart, as many side by side as make it about square.

    Raises:
      ValueError: no pictures.
    """
    if not pictures:
        raise ValueError("no pictures given, expected one or more")
    height, width = np.max([picture.shape[:2] for picture in pictures], axis=0) + gap
    columns = min(len(pictures), max(1, round((len(pictures) * height / width) ** 0.5)))
    canvas = np.full((-(-len(pictures) // columns) * height, columns * width, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas[:-gap, :-gap]


def to_uint8(images: Float[np.ndarray, "*b h w 3"]) -> UInt8[np.ndarray, "*b h w 3"]:
    """Of values in [0, 1]."""
    return np.round(images * 255).astype(np.uint8)
