"""What mask files mean: one region saved in the ways that people save masks, read alike or refused in plain words."""

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mpc_lite import decoders
from mpc_lite.errors import InputError
from mpc_lite.images import decode, encode_jpeg, read_image, read_mask_file
from tests.test_decoders import PILLOW_13

pytestmark = pytest.mark.trust
SCRIPTS = str(Path(__file__).parents[1] / "data_scripts")
H, W = 48, 64
REGION = np.zeros((H, W), np.uint8)
REGION[12:30, 20:50] = 1
LARGE = np.zeros((256, 256), np.uint8)
LARGE[20:38, 30:48] = 1
TWENTY = np.repeat(np.arange(20, dtype=np.uint8), 14)[:, None].repeat(64, axis=1)
TWENTY[:, 60:] = 255
NOTHING = np.zeros_like(REGION)
WHITE = np.full_like(REGION, 255)


def palette(*colours, index=REGION, transparent=None):
    image = Image.frombytes("P", (W, H), index.tobytes())
    image.putpalette(bytes(value for colour in colours for value in colour))
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def colours(tampered, authentic=(0, 0, 0)):
    return Image.fromarray(np.where(REGION[..., None], np.uint8(tampered), np.uint8(authentic)))


def alpha(grey, opacity):
    return Image.fromarray(np.dstack([grey, grey, grey, opacity]))


READ = {
    **{f"0 and {v}": Image.fromarray(REGION * np.uint8(v)) for v in (1, 2, 85, 127, 128, 255)},
    **{f"16 bits, 0 and {v}": Image.fromarray(REGION * np.uint16(v)) for v in (1, 255, 256, 1000, 65535)},
    "red": colours((255, 0, 0)),
    "dark red": colours((128, 0, 0)),
    "blue": colours((0, 0, 255)),
    **{
        f"a label of {label} alone": colours(label)
        for label in ((1, 0, 0), (0, 0, 1), (0, 0, 4), (30, 0, 0), (3, 3, 2))
    },
    "green": colours((0, 255, 0)),
    "palette, dark red": palette((0, 0, 0), (128, 0, 0)),
    "palette, blue": palette((0, 0, 0), (0, 0, 255)),
    "palette, black is transparent": palette((0, 0, 0), (255, 255, 255), transparent=0),
    "white paint on nothing": alpha(WHITE, REGION * np.uint8(255)),
    "black is transparent": alpha(REGION * np.uint8(255), REGION * np.uint8(255)),
    "all is transparent": alpha(REGION * np.uint8(255), NOTHING),
    "one bit": Image.fromarray(REGION > 0),
    "two greys": Image.fromarray(np.where(REGION, 140, 90).astype(np.uint8)),
}
REFUSED = {
    "labels 0, 1, 2": (Image.fromarray(REGION + 2 * REGION[::-1]), "its grey values are 0, 1, 2"),
    **{
        f"{bits} bits, white and {grey}": (
            Image.fromarray(np.where(REGION, 255 * unit, grey * unit).astype(f"uint{bits}")),
            f"its grey values are {grey * unit}, {255 * unit}",
        )
        for bits, unit in ((8, 1), (16, 257))
        for grey in (200, 240, 251)
    },
    "labels 1 and 2": (Image.fromarray(REGION + np.uint8(1)), "its grey values are 1, 2"),
    "labels 0, 1 and 255 for ignore": (
        Image.fromarray(np.maximum(REGION * np.uint8(255), REGION[::-1])),
        "its grey values are 0, 1, 255, as of labels with 255 for 'ignore'",
    ),
    "labels 0, 1, 2 and 255 for ignore": (
        Image.fromarray(np.maximum(REGION * np.uint8(255), REGION[::-1] * np.arange(1, W + 1, dtype=np.uint8) % 3)),
        "its grey values are 0, 1, 2, 255, as of labels",
    ),
    "three levels": (
        Image.fromarray(np.maximum(REGION * np.uint8(255), REGION[::-1] * np.uint8(128))),
        "its grey values are 0, 128, 255",
    ),
    "a border of its own": (
        Image.fromarray(np.maximum(REGION * np.uint8(255), cv2.dilate(REGION, np.ones((3, 3))) * np.uint8(128))),
        "its grey values are 0, 128, 255",
    ),
    "four levels": (
        Image.fromarray(np.arange(H, dtype=np.uint8)[:, None] // 12 * np.uint8(85) + NOTHING),
        "its grey values are 0, 85, 170, 255",
    ),
    "all above half": (Image.fromarray(REGION * np.uint8(50) + np.uint8(150)), "its grey values are 150, 200"),
    "one grey": (Image.fromarray(NOTHING + np.uint8(85)), "all its pixels are 85"),
    "faint labels in two channels": (colours((1, 0, 0), (0, 0, 2)), "its colours are #000002, #010000"),
    **{
        f"a small label of {label} and 255 for ignore": (
            Image.fromarray(np.maximum(LARGE * np.uint8(255), LARGE[::-1, ::-1] * np.uint8(label))),
            f"its grey values are 0, {label}, 255, and 0, {label} fill regions of their own",
        )
        for label in (1, 2, 30)
    },
    "twenty labels": (Image.fromarray(TWENTY), "fill regions of their own"),
    "two colours": (colours((255, 0, 0), (0, 0, 255)), "its colours are #0000ff, #ff0000"),
    "red on white": (colours((255, 0, 0), (255, 255, 255)), "its colours are #ffffff, #ff0000"),
    "palette of three": (
        palette((0, 0, 0), (128, 0, 0), (0, 128, 0), index=REGION + REGION[::-1]),
        "its colours are #000000, #008000, #800000",
    ),
    "black paint on nothing": (alpha(NOTHING, REGION * np.uint8(255)), "only its transparency has a shape"),
    "a hole in black": (alpha(NOTHING, 255 - REGION * np.uint8(255)), "only its transparency has a shape"),
    "white hidden": (alpha(REGION * np.uint8(255), 255 - REGION * np.uint8(255)), "hides pixels that are not black"),
    "palette, white is transparent": (
        palette((0, 0, 0), (255, 255, 255), transparent=1),
        "hides pixels that are not black",
    ),
    "a photograph": (
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)),
        "its colours are #",
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_binary_masks_are_read_whatever_their_values_and_colour(tmp_path, kind):
    READ[kind].save(tmp_path / "mask.png")
    mask = read_mask_file(tmp_path / "mask.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, REGION)


@pytest.mark.parametrize("kind", REFUSED)
def test_masks_whose_meaning_is_not_plain_are_refused_with_the_values_found(tmp_path, kind):
    image, found = REFUSED[kind]
    image.save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=rf"mask.png: its meaning as a mask is not plain \(.*{found}") as error:
        read_mask_file(tmp_path / "mask.png")
    assert "expected 0 and 255, 0 and 1, or one colour on black" in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("kind", ["f4", "f8", "i4", "u4", "u2"])
def test_deep_tiff_masks(tmp_path, kind):
    for top in (1, 255):
        tifffile.imwrite(tmp_path / "mask.tif", REGION.astype(kind) * np.dtype(kind).type(top))
        np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.tif"), REGION)


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_jpeg_noise_and_soft_edges_are_no_levels(tmp_path, quality):
    whole = cv2.resize(REGION * np.uint8(255), (8 * W, 8 * H), interpolation=cv2.INTER_NEAREST)
    for name, values in {
        "sharp": whole,
        "smooth": cv2.resize(REGION * np.uint8(255), (8 * W, 8 * H), interpolation=cv2.INTER_CUBIC),
        "soft": cv2.GaussianBlur(whole, (0, 0), 6),
    }.items():
        Image.fromarray(values).save(tmp_path / f"{name}.jpg", quality=quality)
        error = np.mean(read_mask_file(tmp_path / f"{name}.jpg") != (whole > 0))
        assert error < 0.004, name


@pytest.mark.parametrize("unit", [1, 257])
def test_a_soft_edge_is_cut_at_half_of_its_files_range(tmp_path, unit):
    """The same picture in 8 and in 16 bits is the same mask."""
    edge = np.tile(np.linspace(0, 255, 26).round()[:, None], (1, 40))
    values = np.concatenate([np.zeros((20, 40)), edge, np.full((20, 40), 255)])
    Image.fromarray((values * unit).astype(np.uint8 if unit == 1 else np.uint16)).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.png"), values > 127)


SOFTENED = {
    "smaller": lambda labels: cv2.resize(labels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
    "larger": lambda labels: cv2.resize(labels, None, fx=1.3, fy=1.3, interpolation=cv2.INTER_LINEAR),
    "twice": lambda labels: cv2.resize(labels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "blurred": lambda labels: cv2.GaussianBlur(labels, (0, 0), 2),
    "jpeg": lambda labels: decode(encode_jpeg(np.repeat(labels[..., None], 3, axis=2), 80, 0)),
}


@pytest.mark.parametrize("softened", SOFTENED)
@pytest.mark.parametrize("dark", [(4,), (10,), (20,), (30,), (1, 2, 5), (10, 20)])
def test_dark_labels_with_soft_edges_are_still_labels(tmp_path, dark, softened):
    """Of a map of black, white and labels below half; the share of each is 6 %."""
    labels = np.zeros((400, 400), np.uint8)
    labels[290:380, 40:200] = 255
    for i, label in enumerate(dark):
        labels[20 + 85 * i : 90 + 85 * i, 60 * i + 40 : 60 * i + 180] = label
    Image.fromarray(SOFTENED[softened](labels)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"its grey values are .* fill regions of their own"):
        read_mask_file(tmp_path / "mask.png")


@pytest.mark.parametrize("quality", [10, 20, 50, 80, 95])
def test_noise_of_lossy_webp_is_no_level(tmp_path, quality):
    yy, xx = np.mgrid[:240, :320]
    for i, radius in enumerate((30, 45, 60, 75)):
        disc = ((yy - 110) ** 2 + (xx - 100 - 30 * i) ** 2 < radius**2).astype(np.uint8)
        Image.fromarray(disc * np.uint8(255)).save(tmp_path / "mask.webp", quality=quality)
        assert np.mean(read_mask_file(tmp_path / "mask.webp") != disc) < 0.004


@pytest.mark.parametrize("softened", SOFTENED)
@pytest.mark.parametrize("label", [5, 20, 32, 33, 60, 100, 128, 200, 222])
def test_a_small_label_with_soft_edges_in_a_large_mask_is_still_a_label(tmp_path, label, softened):
    labels = np.zeros((1600, 2000), np.uint8)
    labels[500:540, 500:540], labels[1000:1030, 1000:1030] = 255, label
    Image.fromarray(SOFTENED[softened](labels)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"its grey values are .* fill regions of their own"):
        read_mask_file(tmp_path / "mask.png")


@pytest.mark.parametrize("label", [4, 20, 32, 33, 128, 222, 223, 251])
def test_a_third_level_alone_is_a_label_however_thin(tmp_path, label):
    mask = cv2.resize(REGION * np.uint8(255), (8 * W, 8 * H), interpolation=cv2.INTER_NEAREST)
    mask[300:306, 40:400] = label
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=f"its grey values are 0, {label}, 255"):
        read_mask_file(tmp_path / "mask.png")


def test_soft_edges_that_meet_are_told_as_what_they_are(tmp_path):
    mask = np.zeros((240, 320), np.uint8)
    mask[50:200, 40:150], mask[50:200, 156:300] = 255, 255
    Image.fromarray(cv2.GaussianBlur(mask, (0, 0), 4)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"its grey values are 0.* 255.*, and \d+ pixels of \d+ to \d+ are no edge"):
        read_mask_file(tmp_path / "mask.png")


def test_levels_under_jpeg_noise_are_still_levels(tmp_path):
    levels = np.maximum(REGION * np.uint8(255), REGION[::-1] * np.uint8(110))
    Image.fromarray(cv2.resize(levels, (4 * W, 4 * H))).save(tmp_path / "mask.jpg", quality=90)
    with pytest.raises(InputError, match="its grey values are"):
        read_mask_file(tmp_path / "mask.jpg")


def test_a_faint_mask_is_not_an_empty_one(tmp_path):
    faint = cv2.GaussianBlur(REGION * np.uint8(110), (0, 0), 3)
    Image.fromarray(faint).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"its grey values are 0 to \d+, \d+ of them"):
        read_mask_file(tmp_path / "mask.png")


def test_all_black_and_all_white_masks_are_what_they_look_like(tmp_path):
    for level, expected in ((0, 0), (1, 1), (255, 1)):
        for save in ("mask.png", "mask.jpg") if level != 1 else ("mask.png",):
            Image.fromarray(NOTHING + np.uint8(level)).save(tmp_path / save)
            assert (read_mask_file(tmp_path / save) == expected).all()


@pytest.mark.parametrize("level", [2, 33, 127, 128, 200, 222, 254, 40000])
def test_one_grey_everywhere_is_neither_black_nor_white(tmp_path, level):
    Image.fromarray(np.full((H, W), level, np.uint8 if level < 256 else np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=rf"not plain \(all its pixels are {level}\)"):
        read_mask_file(tmp_path / "mask.png")
    Image.fromarray(np.where(REGION, 201, 200).astype(np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"its grey values are 200, 201"):
        read_mask_file(tmp_path / "mask.png")


def test_white_and_its_neighbours_are_white(tmp_path):
    Image.fromarray(np.where(REGION, 255, 252).astype(np.uint8)).save(tmp_path / "mask.png")
    assert read_mask_file(tmp_path / "mask.png").all()


@pytest.mark.parametrize("kind", [*READ, *REFUSED])
def test_the_data_sets_scripts_read_a_mask_as_the_package_does(tmp_path, monkeypatch, kind):
    """With the rule 'above 127' there is one reading; both refuse the same files, with the same words."""
    monkeypatch.syspath_prepend(SCRIPTS)
    from checked import read_tampered
    from common import MaskRule

    (READ.get(kind) or REFUSED[kind][0]).save(tmp_path / "mask.png")
    answers = []
    for read in (read_mask_file, lambda path: read_tampered(path, MaskRule())):
        try:
            answers.append(read(tmp_path / "mask.png").tolist())
        except InputError as error:
            answers.append(str(error))
    assert answers[0] == answers[1]
    if kind in READ:
        inverted = read_tampered(tmp_path / "mask.png", MaskRule(inverted=True))
        np.testing.assert_array_equal(inverted, 1 - REGION)


def test_a_sets_own_rule_reads_levels_but_not_hidden_pixels(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from checked import read_tampered
    from common import MaskRule

    REFUSED["three levels"][0].save(tmp_path / "mask.png")
    np.testing.assert_array_equal(
        read_tampered(tmp_path / "mask.png", MaskRule(threshold=10)), np.maximum(REGION, REGION[::-1])
    )
    deep = (REGION * np.uint16(0xFF00), REGION[::-1] * np.uint16(0x0FFF))  # of 256 levels 255 and 15
    Image.fromarray(np.maximum(*deep)).save(tmp_path / "mask.png")
    for threshold, marked in ((10, np.maximum(REGION, REGION[::-1])), (20, REGION)):
        np.testing.assert_array_equal(read_tampered(tmp_path / "mask.png", MaskRule(threshold=threshold)), marked)
    REFUSED["white hidden"][0].save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="hides pixels that are not black"):
        read_tampered(tmp_path / "mask.png", MaskRule(threshold=10))


def test_mask_bytes_do_not_decide_by_their_name(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(REGION * np.uint8(255)).save(buffer, "PNG")
    (tmp_path / "mask.jpg").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.jpg"), REGION)


# ------------------------------------------------------------------------------------------------------ several pages

PARTS = [np.where(np.arange(W) // 16 == k, REGION * np.uint8(255), np.uint8(0)) for k in range(4)]


@pytest.mark.parametrize("kind", ["plain", "big", "ImageJ", "high byte first", "floats of 64 bits", "behind a preview"])
def test_a_tiff_mask_of_several_pages_is_refused(tmp_path, kind):
    """Its first page alone would be a part of the truth. A photograph's first page is read."""
    options = {"ImageJ": {"imagej": True}, "big": {"bigtiff": True}, "high byte first": {"byteorder": ">"}}
    pages = np.stack(PARTS) if kind != "floats of 64 bits" else np.stack(PARTS) / 255
    with tifffile.TiffWriter(tmp_path / "m.tif", **options.get(kind, {})) as tiff:
        if kind == "behind a preview":
            tiff.write(PARTS[0], subfiletype=1)
        tiff.write(pages, photometric="minisblack")
    with pytest.raises(InputError, match=r"m\.tif: 4 pages, expected one; save one that joins them"):
        read_mask_file(tmp_path / "m.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "m.tif")[..., 0], PARTS[0])


@pytest.mark.parametrize("meant", [None, 0, 2])
def test_two_values_a_pixel_are_read_where_the_second_is_opacity(tmp_path, meant):
    """tifffile writes an array (H,W,2) so: perhaps a region each, of which decoders see the first alone."""
    second = np.full_like(REGION, 255) if meant == 2 else REGION[::-1] * np.uint8(255)
    pixels = np.stack([REGION * np.uint8(255), second], axis=2)
    extra = {} if meant is None else {"extrasamples": [meant]}
    tifffile.imwrite(tmp_path / "mask.tif", pixels, photometric="minisblack", planarconfig="contig", **extra)
    if meant == 2:
        np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.tif"), REGION)
    else:
        words = "two values a pixel, expected one" if PILLOW_13 else "of a kind that is not read here"
        with pytest.raises(InputError, match=words):
            read_mask_file(tmp_path / "mask.tif")


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "avif"])
def test_a_mask_of_several_frames_is_refused(tmp_path, kind):
    if kind == "avif" and "AVIF" not in decoders.FORMATS:
        pytest.skip("needs Pillow 11.3")
    first, *more = (Image.fromarray(part).convert("RGB") for part in PARTS)
    first.save(tmp_path / f"m.{kind}", save_all=True, append_images=more)
    with pytest.raises(InputError, match=rf"m\.{kind}: 4 pages, expected one"):
        read_mask_file(tmp_path / f"m.{kind}")
    first.save(tmp_path / f"m.{kind}", quality=100)
    assert np.mean(read_mask_file(tmp_path / f"m.{kind}") != (PARTS[0] > 0)) < 0.01


def test_pages_are_counted_up_to_a_limit(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.stack(PARTS * 25), photometric="minisblack")
    with pytest.raises(InputError, match="64 or more pages"):
        read_mask_file(tmp_path / "m.tif")


@pytest.mark.parametrize("kind", ["smaller", "marked", "marked twice", "a ring"])
def test_a_mask_with_a_preview_behind_it_has_one_page(tmp_path, kind):
    with tifffile.TiffWriter(tmp_path / "m.tif") as tiff:
        tiff.write(REGION * np.uint8(255))
        if kind == "smaller":
            tiff.write(REGION[::4, ::4] * np.uint8(255))
        for _ in range({"marked": 1, "marked twice": 2}.get(kind, 0)):
            tiff.write(REGION * np.uint8(255), subfiletype=1)
    if kind == "a ring":  # the next page is this page
        data = bytearray((tmp_path / "m.tif").read_bytes())
        (first,) = struct.unpack_from("<I", data, 4)
        (entries,) = struct.unpack_from("<H", data, first)
        struct.pack_into("<I", data, first + 2 + 12 * entries, first)
        (tmp_path / "m.tif").write_bytes(data)
    np.testing.assert_array_equal(read_mask_file(tmp_path / "m.tif"), REGION)
