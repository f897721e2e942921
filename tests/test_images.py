"""Reading photos: every kind of file, every kind of damage."""

import csv
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mpc_lite import decoders, files
from mpc_lite.errors import InputError
from mpc_lite.images import read_image, read_mask_file, read_mask_values


def pixels(height=6, width=9, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


RGB, GREY = pixels(), pixels(channels=0)
ALPHA = np.tile(np.uint8([0, 128, 255]), (6, 3))
OVER_WHITE = np.round(RGB * (ALPHA[..., None] / 255) + 255.0 * (1 - ALPHA[..., None] / 255))
GREY_OVER_WHITE = np.round(GREY * (ALPHA / 255) + 255.0 * (1 - ALPHA / 255))
DEEP = np.random.default_rng(2).integers(0, 65536, (6, 9, 3), dtype=np.uint16)


def palette(transparent=None):
    image = Image.fromarray(GREY % 4).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0, 255, 255, 255])
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


COLOURS = np.uint8([[10, 20, 30], [200, 100, 50], [0, 255, 0], [255, 255, 255]])
CLEAR = np.uint8([[10, 20, 30], [255, 255, 255], [0, 255, 0], [255, 255, 255]])  # colour 1 transparent, over white

KINDS = {  # name: (Pillow image or array for OpenCV, suffix, expected RGB or grey)
    "rgb": (Image.fromarray(RGB), "png", RGB),
    "grey": (Image.fromarray(GREY), "png", GREY),
    "grey bmp": (Image.fromarray(GREY), "bmp", GREY),
    "one bit": (Image.fromarray(GREY > 99), "png", (GREY > 99) * 255),
    "one bit tiff": (Image.fromarray(GREY > 99), "tif", (GREY > 99) * 255),
    "opaque rgba": (Image.fromarray(np.dstack([RGB, np.full_like(GREY, 255)])), "png", RGB),
    "rgba": (Image.fromarray(np.dstack([RGB, ALPHA])), "png", OVER_WHITE),
    "grey with alpha": (Image.fromarray(np.dstack([GREY, ALPHA])), "png", GREY_OVER_WHITE),
    "palette": (palette(), "png", COLOURS[GREY % 4]),
    "palette gif": (palette(), "gif", COLOURS[GREY % 4]),
    "palette with a transparent colour": (palette(1), "png", CLEAR[GREY % 4]),
    "16-bit grey png": (Image.fromarray(DEEP[..., 0]), "png", DEEP[..., 0] >> 8),
    "16-bit grey tiff": (Image.fromarray(DEEP[..., 0]), "tif", DEEP[..., 0] >> 8),
    "16-bit rgb png": (DEEP, "png", DEEP >> 8),
    "16-bit rgb tiff": (DEEP, "tif", DEEP >> 8),
    "16-bit rgba tiff": (np.dstack([DEEP, np.full_like(DEEP[..., 0], 65535)]), "tif", DEEP >> 8),
    "32-bit integers": (Image.fromarray(DEEP[..., 0].astype(np.int32)), "tif", DEEP[..., 0] >> 8),
    "floats to 1": (Image.fromarray(GREY.astype(np.float32) / 255), "tif", GREY),
    "floats to 255": (Image.fromarray(GREY.astype(np.float32)), "tif", GREY),
    "colour floats": (RGB.astype(np.float32) / 255, "tif", RGB),
    "cmyk tiff": (Image.fromarray(RGB).convert("CMYK"), "tif", RGB),
    "webp": (Image.fromarray(RGB), "webp", RGB),
    "one pixel": (Image.fromarray(RGB[:1, :1]), "png", RGB[:1, :1]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_becomes_rgb(tmp_path, kind):
    image, suffix, expected = KINDS[kind]
    path = tmp_path / f"image.{suffix}"
    if isinstance(image, np.ndarray):
        channels = {3: [2, 1, 0], 4: [2, 1, 0, 3]}[image.shape[2]]
        plain = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if suffix == "tif" else []  # OpenCV 4 takes logarithms of floats
        assert cv2.imwrite(str(path), image[..., channels], plain)
    else:
        image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    result = read_image(path)
    assert result.dtype == np.uint8 and result.flags.c_contiguous and result.flags.writeable
    if np.ndim(expected) == 2:
        expected = np.repeat(np.asarray(expected)[..., None], 3, axis=2)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=1 if "alpha" in kind or kind == "rgba" else 0)


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    result = read_image(tmp_path / "red.jpg")
    assert result.shape == (30, 40, 3) and np.abs(result.astype(int) - [255, 0, 0]).max() <= 3


def test_large_images_are_converted_band_by_band_without_a_seam(tmp_path):
    image = pixels(2 * decoders.TILE + 3, 5)
    Image.fromarray(image).save(tmp_path / "long.png")
    np.testing.assert_array_equal(read_image(tmp_path / "long.png"), image)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, orientation, suffix):
    image = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"photo.{suffix}", exif=exif)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(tmp_path / f"photo.{suffix}"), expected)
    if suffix == "png":
        np.testing.assert_array_equal(read_image(tmp_path / "photo.png", orient=False), RGB)


def test_a_damaged_exif_block_does_not_cost_the_photo(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "photo.png", exif=b"Exif\0\0no TIFF header")
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), RGB)


def test_200_megapixels_are_allowed_and_larger_claims_refused(tmp_path, monkeypatch):
    assert files.pixel_limit(10_000_000) >= 200_000_000 and Image.MAX_IMAGE_PIXELS >= 200_000_000
    Image.fromarray(RGB).save(tmp_path / "photo.png")
    monkeypatch.setenv(files.RAISED, "53")
    with pytest.raises(InputError, match=r"photo.png: cannot be read as an image \(9×6 pixels, at most 53"):
        read_image(tmp_path / "photo.png")


@pytest.mark.parametrize(
    "values, found",
    [([-0.5, 1], "-0.5 to 1"), ([0, 300], "0 to 300"), ([0, np.nan], "NaN"), ([0, np.inf], "NaN or infinite")],
)
def test_floats_out_of_range_are_refused(tmp_path, values, found):
    Image.fromarray(np.float32([values])).save(tmp_path / "image.tif")
    with pytest.raises(InputError, match=f"{found}.*expected 0–1 or 0–255"):
        read_image(tmp_path / "image.tif")


def test_integers_beyond_16_bits_are_refused(tmp_path):
    Image.fromarray(np.int32([[0, 65536]])).save(tmp_path / "image.tif")
    with pytest.raises(InputError, match="integers from 0 to 65536, expected 0–65535"):
        read_image(tmp_path / "image.tif")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone.png: cannot be read as an image .No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_image(tmp_path)


def encoded(suffix):
    photo = cv2.GaussianBlur(pixels(40, 50), (0, 0), 2)
    array = (photo.astype(np.uint16) << 8) if suffix == "tif" else photo  # colour of 16 bits: OpenCV's way
    return cv2.imencode(f".{suffix}", array)[1].tobytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
def test_a_file_cut_anywhere_is_an_error_or_complete(tmp_path, suffix):
    data = encoded(suffix)
    (tmp_path / "whole").write_bytes(data)
    whole = read_image(tmp_path / "whole")
    refused = 0
    for length in [*range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 20, len(data))]:
        (tmp_path / "cut").write_bytes(data[:length])
        try:
            np.testing.assert_array_equal(read_image(tmp_path / "cut"), whole)
        except InputError as error:
            assert "cut: cannot be read as an image" in str(error)
            refused += 1
    assert refused > 60


@settings(max_examples=60, deadline=None)
@given(suffix=st.sampled_from(["jpg", "png", "bmp", "tif"]), data=st.data())
def test_damaged_files_never_raise_anything_but_input_errors(tmp_path_factory, suffix, data):
    content = bytearray(encoded(suffix))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"photo.{suffix}"
    path.write_bytes(content)
    try:
        image = read_image(path)
    except InputError:
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@pytest.mark.data
def test_real_photos_have_the_listed_size(data_dir):
    with open(data_dir / "photos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[::7]:
        assert read_image(data_dir / row["image"]).shape == (int(row["height"]), int(row["width"]), 3)


# --------------------------------------------------------------------------- files that use a part of their range

RAMP = np.tile(np.arange(256, dtype=np.uint8), (3, 1))


@pytest.mark.trust
@pytest.mark.parametrize("kind", ["u2", "i2", "i4", "u4", "u8", "f4", "f8", "colour u2", "colour u4", "colour f4"])
def test_deep_files_whose_values_are_bytes_are_taken_as_they_are(tmp_path, kind):
    values = RAMP.astype(kind.split()[-1])
    values = np.dstack([values, values, values]) if "colour" in kind else values
    tifffile.imwrite(tmp_path / "photo.tif", values, photometric="rgb" if "colour" in kind else "minisblack")
    if kind in ("u8", "colour u4") and cv2.__version__ < "5":  # not known to OpenCV 4: refused, not misread
        with pytest.raises(InputError, match="of a kind that neither Pillow nor OpenCV reads"):
            read_image(tmp_path / "photo.tif")
    else:
        np.testing.assert_array_equal(read_image(tmp_path / "photo.tif"), np.dstack([RAMP] * 3))


@pytest.mark.trust
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_a_16_bit_png_of_bytes_is_no_black_page(tmp_path, channels):
    values = RAMP.astype(np.uint16) if channels == 0 else np.dstack([RAMP.astype(np.uint16)] * 3)
    values = np.dstack([values, np.full_like(RAMP, 0, np.uint16) + 65535]) if channels == 4 else values
    assert cv2.imwrite(str(tmp_path / "photo.png"), values)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), np.dstack([RAMP] * 3))


@pytest.mark.trust
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_16_bit_png_is_turned_once(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    data = cv2.imencode(".png", DEEP[..., ::-1])[1].tobytes()
    chunk = len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "photo.png").write_bytes(data[:33] + chunk + data[33:])  # behind IHDR
    expected = np.rot90(DEEP >> 8, {1: 0, 6: -1, 8: 1}[orientation])
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), expected)


@pytest.mark.trust
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("colour", [False, True])
def test_12_bits_in_a_16_bit_file_are_refused_and_the_range_named(tmp_path, bits, colour):
    values = RAMP.astype(np.uint16) << (bits - 8)
    values = np.dstack([values] * 3) if colour else values
    tifffile.imwrite(tmp_path / "photo.tif", values, photometric="rgb" if colour else "minisblack")
    with pytest.raises(InputError, match=f"use 0–{255 << (bits - 8)} of 0–65535: stretch them, or save 8 bits"):
        read_image(tmp_path / "photo.tif")


@pytest.mark.trust
def test_a_16_bit_file_whose_white_is_zero_is_no_negative(tmp_path):
    values = np.uint16(65535) - RAMP.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "photo.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "photo.tif"), np.dstack([RAMP] * 3))


@pytest.mark.trust
@pytest.mark.parametrize("channels", [1, 3])
def test_an_overshoot_of_floats_does_not_turn_a_photo_black(tmp_path, channels):
    values = RAMP / np.float32(255) * 1.04 - 0.02  # from -0.02 to 1.02
    expected = np.clip(np.round(values * 255), 0, 255)
    values = np.dstack([values] * 3) if channels == 3 else values
    tifffile.imwrite(tmp_path / "photo.tif", values, photometric="rgb" if channels == 3 else "minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "photo.tif"), np.dstack([expected] * 3))


@pytest.mark.trust
@pytest.mark.parametrize("bits", [10, 12])
def test_floats_of_fewer_bits_divided_by_all_of_sixteen_are_refused_as_the_integers_are(tmp_path, bits):
    """What `skimage.img_as_float` makes of a sensor's values: a photograph that came out black."""
    values = np.linspace(0, 2**bits - 1, 54).reshape(6, 9).astype(np.uint16)
    tifffile.imwrite(tmp_path / "integers.tif", values)
    tifffile.imwrite(tmp_path / "floats.tif", values / np.float32(65535))
    for name in ("integers", "floats"):
        with pytest.raises(
            InputError, match=rf"{name}\.tif: cannot be read .* values use 0–.*: stretch them, or save 8 bits"
        ):
            read_image(tmp_path / f"{name}.tif")
    tifffile.imwrite(tmp_path / "mask.tif", np.float32([[0, 0.1], [0.1, 0]]))  # of a mask one value is enough
    assert read_mask_file(tmp_path / "mask.tif").tolist() == [[0, 1], [1, 0]]


@pytest.mark.trust
@pytest.mark.parametrize("top, dtype", [(65535, np.uint16), (1, np.float32)])
def test_a_hot_pixel_does_not_let_a_part_of_the_range_pass(tmp_path, top, dtype):
    values = np.linspace(0, top / 16, 120 * 90).reshape(90, 120)
    values[3, 7] = top
    tifffile.imwrite(tmp_path / "photo.tif", values.astype(dtype))
    with pytest.raises(
        InputError, match=f"photo.tif: cannot be read .* use 0–{top}, but only 1 of them .* of 0–{top}: "
    ):
        read_image(tmp_path / "photo.tif")
    values[3, 8] = top  # of 10 800 values two in the light: a street lamp
    tifffile.imwrite(tmp_path / "photo.tif", values.astype(dtype))
    assert read_image(tmp_path / "photo.tif").max() == 255


@pytest.mark.parametrize("low, high", [(-1, 1), (0, 3.5), (0, 65535), (-20, 200)])
def test_floats_of_an_unknown_range_are_refused(tmp_path, low, high):
    tifffile.imwrite(tmp_path / "photo.tif", np.linspace(low, high, 54, dtype=np.float32).reshape(6, 9))
    with pytest.raises(InputError, match=f"run from {low:g} to {high:g}, expected 0–1 or 0–255"):
        read_image(tmp_path / "photo.tif")


@pytest.mark.trust
def test_transparency_that_hides_everything_is_ignored(tmp_path):
    Image.fromarray(np.dstack([RGB, np.zeros_like(GREY)])).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), RGB)


@pytest.mark.trust
@pytest.mark.parametrize("opacity", [1, 20])
def test_opacity_that_shows_next_to_nothing_is_ignored_too(tmp_path, opacity):
    """A count of layers or a flag of 1, written where opacity belongs."""
    Image.fromarray(np.dstack([RGB, np.full_like(GREY, opacity)])).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), RGB)


@pytest.mark.trust
@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
def test_bytes_in_16_bits_have_an_opacity_of_bytes(tmp_path, name):
    alpha = np.full_like(GREY, 255)
    alpha[: len(alpha) // 2] = 64
    values = np.dstack([RGB, alpha]).astype(np.uint16)
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, values, photometric="rgb", extrasamples=["unassalpha"])
    else:
        cv2.imwrite(str(tmp_path / name), values[..., [2, 1, 0, 3]])
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "bytes.png")
    np.testing.assert_array_equal(read_image(tmp_path / name), read_image(tmp_path / "bytes.png"))


@pytest.mark.trust
@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
def test_deep_colours_may_have_an_opacity_of_bytes(tmp_path, name):
    mask = np.where(GREY > 100, np.uint16(65535), np.uint16(0))
    for values, opacity in (
        (RGB * np.uint16(257), np.where(GREY > 100, 255, 64)),
        (np.dstack([mask] * 3), mask // 257),
    ):
        deep = np.dstack([values, np.uint16(opacity)])
        if name.endswith("tif"):
            tifffile.imwrite(tmp_path / name, deep, photometric="rgb", extrasamples=["unassalpha"])
        else:
            cv2.imwrite(str(tmp_path / name), deep[..., [2, 1, 0, 3]])
        Image.fromarray(np.dstack([values // 257, opacity]).astype(np.uint8)).save(tmp_path / "bytes.png")
        np.testing.assert_array_equal(read_image(tmp_path / name), read_image(tmp_path / "bytes.png"))
    np.testing.assert_array_equal(read_mask_file(tmp_path / name), mask > 0)


@pytest.mark.trust
@pytest.mark.parametrize("opacity", [0, 20, 255])
def test_an_opacity_next_to_nothing_does_not_empty_a_mask(tmp_path, opacity):
    mask = np.where(GREY > 100, np.uint8(255), np.uint8(0))
    Image.fromarray(np.dstack([mask] * 3 + [np.full_like(mask, opacity)])).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.png"), mask > 0)


@pytest.mark.trust
@pytest.mark.parametrize("opacity", [1, 31])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_faint_opacity_with_a_shape_is_one(tmp_path, mode, opacity):
    """A mask of True and False in the channel of the opacity."""
    shape = np.where(GREY > 100, np.uint8(opacity), np.uint8(0))
    for paint, said in ((255, None), (0, "only its transparency has a shape")):
        white = np.full_like(shape, paint)
        Image.fromarray(np.dstack([white] * (len(mode) - 1) + [shape])).save(tmp_path / "mask.png")
        if said is None:
            np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.png"), shape > 0)
        else:
            with pytest.raises(InputError, match=said):
                read_mask_file(tmp_path / "mask.png")
    Image.fromarray(np.dstack([255 - np.sign(shape) * 255] * 3 + [shape])).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="transparency hides pixels that are not black"):
        read_mask_file(tmp_path / "mask.png")


@pytest.mark.trust
@pytest.mark.parametrize("read", [read_image, read_mask_file])
@pytest.mark.parametrize("opacity", [0, 31])
def test_colours_that_were_multiplied_by_no_opacity_are_refused(tmp_path, read, opacity):
    values = np.dstack([RGB, np.full_like(GREY, opacity)])
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["assocalpha"])
    with pytest.raises(InputError, match="colours multiplied by next to no opacity; save it without transparency"):
        read(tmp_path / "a.tif")


# ------------------------------------------------------------------------------------------- too large for the memory

LACKING = {
    "python": MemoryError(),
    "numpy": MemoryError("Unable to allocate 1.86 GiB for an array with shape (20000, 33333, 3) and data type uint8"),
    "opencv": cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 3600 bytes"),
}


@pytest.mark.trust
@pytest.mark.parametrize("error", LACKING.values(), ids=LACKING)
@pytest.mark.parametrize("read", [read_image, read_mask_file, read_mask_values])
def test_a_picture_too_large_for_the_memory_is_one_that_cannot_be_read(tmp_path, monkeypatch, read, error):
    Image.fromarray(GREY // 200).save(tmp_path / "a.png")
    for where in ("decoders._of_pillow", "images.turned"):  # while the file is open, and after
        with monkeypatch.context() as lacking:
            lacking.setattr(f"mpc_lite.{where}", lambda *_: (_ for _ in ()).throw(error))
            with pytest.raises(InputError, match=r"a\.png: the memory does not suffice for this image") as told:
                read(tmp_path / "a.png")
        assert isinstance(told.value, MemoryError)  # who reads several at a time may try it alone
    assert read(tmp_path / "a.png").shape[:2] == GREY.shape


@pytest.mark.trust
def test_a_deep_picture_too_large_for_the_memory_is_not_called_damaged(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), DEEP)
    error = cv2.error("OpenCV: (-4:Insufficient memory) Failed to allocate 3600000000 bytes in function 'create'")
    error.code = cv2.Error.StsNoMem
    monkeypatch.setattr(cv2, "imdecode", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(InputError, match=r"a\.png: the memory does not suffice for this image"):
        read_image(tmp_path / "a.png")


def test_a_fault_of_ours_is_not_called_a_lack_of_memory(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr("mpc_lite.images.turned", lambda *_: (_ for _ in ()).throw(cv2.error("bad argument")))
    with pytest.raises(cv2.error, match="bad argument"):
        read_image(tmp_path / "a.png")
