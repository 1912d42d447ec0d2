"""Reading and resizing single images."""

import numpy as np
import pytest
from PIL import Image

from aa_jax.image import load_image, resize, same_aspect, strip, tile


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def test_file_pil_image_and_array_are_one(tmp_path, colours):
    Image.fromarray(colours).save(tmp_path / "image.png")
    for source in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(colours), colours):
        loaded = load_image(source)
        assert loaded.dtype == np.uint8
        np.testing.assert_array_equal(loaded, colours)


# EXIF orientation: the transformation that brings the stored image upright (TIFF 6.0, tag 274).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied(tmp_path, colours, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(colours).save(tmp_path / "image.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "image.png"), UPRIGHT[orientation](colours))


def test_alpha_is_composited_on_white(tmp_path, colours):
    alpha = np.linspace(0, 255, 54).round().astype(np.uint8).reshape(6, 9)
    rgba = np.concatenate([colours, alpha[..., None]], axis=-1)
    weight = alpha[..., None] / 255
    expected = colours * weight + 255 * (1 - weight)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    for source in (rgba, tmp_path / "rgba.png"):
        loaded = load_image(source)
        np.testing.assert_allclose(loaded, expected, atol=1)
        np.testing.assert_array_equal(loaded[0, 0], [255, 255, 255])
        np.testing.assert_array_equal(loaded[-1, -1], colours[-1, -1])

    grey = Image.merge("LA", [Image.fromarray(colours[..., 0]), Image.fromarray(alpha)])
    grey_on_white = colours[..., :1] * weight + 255 * (1 - weight)
    np.testing.assert_allclose(load_image(grey), np.repeat(grey_on_white, 3, axis=-1), atol=1)


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "plain.png")
    np.testing.assert_array_equal(load_image(tmp_path / "plain.png"), [[[10, 20, 30], [200, 100, 50]]])
    image.save(tmp_path / "keyed.png", transparency=0)
    np.testing.assert_array_equal(load_image(tmp_path / "keyed.png"), [[[255, 255, 255], [200, 100, 50]]])


def test_grey_bilevel_and_cmyk(tmp_path, colours):
    grey = colours[..., 0]
    for source in (Image.fromarray(grey), grey, grey[..., None]):
        np.testing.assert_array_equal(load_image(source), np.repeat(grey[..., None], 3, axis=-1))
    bilevel = Image.fromarray(grey).convert("1")
    np.testing.assert_array_equal(load_image(bilevel)[..., 0] > 0, np.asarray(bilevel))
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    np.testing.assert_allclose(load_image(tmp_path / "cmyk.jpg"), np.broadcast_to([255, 0, 0], (4, 4, 3)), atol=3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_is_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 1000], [32768, 65278, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep{suffix}")
    np.testing.assert_array_equal(load_image(tmp_path / f"deep{suffix}")[..., 1], [[0, 1, 4], [128, 254, 255]])


def test_files_that_are_no_image(tmp_path, colours):
    Image.fromarray(np.tile(colours, (20, 20, 1))).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    contents = {"cut.jpg": whole[: len(whole) // 2], "text.png": b"hello", "empty.png": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "float.tif"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read as an image: ") as caught:
            load_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"none\.png does not exist"):
        load_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match="is a folder, expected an image file"):
        load_image(tmp_path)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), 3]
)
def test_arrays_that_are_no_image(array):
    with pytest.raises(ValueError, match="image array of (dtype|shape)"):
        load_image(array)


@pytest.mark.parametrize(
    ("name", "pose_filter"), [("pose2vid_unequal", "bicubic"), ("pose2vid_long_unequal", "lanczos")]
)
def test_stretch_is_the_published_preprocessing(golden, name, pose_filter):
    path = golden / "tiny" / f"{name}.npz"
    if not path.exists():
        pytest.skip("no golden pipeline here")
    with np.load(path) as data:
        reference, poses = data["ref_image_uint8"], data["pose_images_uint8"]
        expected_reference, expected_poses = data["ref_image_tensor"][0], data["pose_cond"][0]
    reference = resize(reference, 96, 64, "stretch").astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(reference, expected_reference.transpose(1, 2, 0), atol=1e-6)
    poses = resize(poses, 96, 64, "stretch", pose_filter).astype(np.float32) / 255
    np.testing.assert_allclose(poses, expected_poses.transpose(1, 2, 3, 0), atol=1e-6)


def ramp(height: int, width: int) -> np.ndarray:
    """Red grows with x, green with y, blue is constant."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / (width - 1), y * 255 / (height - 1), np.full_like(x, 200)], -1).round().astype(np.uint8)


def test_crop_cuts_equally_on_both_sides():
    wide = resize(ramp(60, 120), 30, 30, "crop")
    assert wide.shape == (30, 30, 3)
    assert wide[15, 0, 0] == pytest.approx(255 * 0.25, abs=5)
    assert wide[15, -1, 0] == pytest.approx(255 * 0.75, abs=5)
    assert wide[0, 15, 1] < 6
    assert wide[-1, 15, 1] > 249
    tall = resize(ramp(120, 60), 30, 30, "crop")
    assert tall[0, 15, 1] == pytest.approx(255 * 0.25, abs=5)
    assert tall[15, 0, 0] < 6


def test_crop_at_integer_offsets_is_a_plain_crop():
    image = ramp(40, 60)
    np.testing.assert_array_equal(resize(image, 40, 20, "crop"), image[:, 20:40])


def test_letterbox_fits_and_fills():
    image = ramp(40, 80)
    boxed = resize(image, 40, 40, "letterbox", fill=(1, 2, 3))
    assert boxed.shape == (40, 40, 3)
    np.testing.assert_array_equal(boxed[10:30], resize(image, 20, 40, "stretch"))
    np.testing.assert_array_equal(np.unique(boxed[[*range(10), *range(30, 40)]].reshape(-1, 3), axis=0), [[1, 2, 3]])
    pillar = resize(image.swapaxes(0, 1), 40, 40, "letterbox")
    assert not pillar[:, :10].any()
    assert pillar[:, 10:30, 2].all()
    assert not pillar[:, 30:].any()


@pytest.mark.parametrize("mode", ["crop", "letterbox"])
def test_same_aspect_makes_the_modes_one(mode):
    image = ramp(67, 101)
    assert same_aspect((67, 101), (33, 50))
    np.testing.assert_array_equal(resize(image, 33, 50, mode), resize(image, 33, 50, "stretch"))


def test_clip_is_resized_frame_by_frame(colours):
    clip = np.stack([colours, colours[::-1]])
    for mode in ("stretch", "crop", "letterbox"):
        resized = resize(clip, 12, 12, mode, "bicubic")
        np.testing.assert_array_equal(resized, [resize(frame, 12, 12, mode, "bicubic") for frame in clip])


def test_same_aspect_allows_rounding_only():
    assert same_aspect((1080, 1920), (288, 512))
    assert same_aspect((720, 1280), (504, 896))
    assert same_aspect((333, 500), (256, 384))
    assert same_aspect((100, 100), (512, 513))
    assert not same_aspect((100, 100), (512, 520))
    assert not same_aspect((83, 100), (96, 64))
    assert not same_aspect((768, 512), (784, 512))


def test_bad_resize_is_named(colours):
    with pytest.raises(ValueError, match="'pad' given, expected one of stretch, crop, letterbox"):
        resize(colours, 8, 8, "pad")
    with pytest.raises(ValueError, match="'nearest' given, expected one of lanczos, bicubic"):
        resize(colours, 8, 8, "stretch", "nearest")
    with pytest.raises(ValueError, match="float32 array"):
        resize(colours.astype(np.float32), 8, 8, "stretch")
    with pytest.raises(ValueError, match="0x8"):
        resize(colours, 0, 8, "stretch")


def test_strips_are_tiled():
    """Two clips below one another, being wide; the lower one is smaller."""
    one, two, three = (np.full((4, 2, 3, 3), value, np.uint8) for value in (1, 2, 3))
    wide = strip(one[0], two, three)
    assert wide.shape == (4, 15, 3)
    assert (wide[:2, :3] == 1).all() and (wide[2:, :3] == 255).all()
    assert (wide[:2, 3:] == 2).all() and (wide[2:, 3:] == 3).all()
    picture = tile([wide, wide[:3, :6]], gap=2)
    assert picture.shape == (4 + 2 + 4, 15, 3)
    np.testing.assert_array_equal(picture[:4], wide)
    np.testing.assert_array_equal(picture[6:9, :6], wide[:3, :6])
    assert (picture[4:6] == 255).all() and (picture[6:, 6:] == 255).all() and (picture[9:] == 255).all()
    assert tile([wide.swapaxes(0, 1)] * 3, gap=1).shape == (15, 3 * 5 - 1, 3)
    with pytest.raises(ValueError, match="no pictures given"):
        tile([])
