"""Which files are opened, by what; which are refused by name; which page of a TIFF counts, and which way is up."""

import ast
import contextlib
import io
import itertools
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mpc_lite import decoders
from mpc_lite.decoders import open_image
from mpc_lite.errors import InputError
from mpc_lite.images import read_image, read_mask_file, turn_of

pytestmark = pytest.mark.trust
ROOT = Path(__file__).parents[1]
PILLOW_13 = int(PIL.__version__.split(".")[0]) >= 13  # reads more kinds of TIFF than earlier ones, which refuse them
RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
SMALL = RGB[::3, ::3]


def ftyp(brand):
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(600)


NAMED = {  # what people take for pictures: (bytes, what the message says)
    "eps.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 6\nshowpage\n", "PostScript"),
    "eps with a preview.jpg": (b"\xc5\xd0\xd3\xc6" + bytes(60), "PostScript"),
    "page.pdf": (b"%PDF-1.7\n", "PDF"),
    "photo.heic": (ftyp(b"heic"), r"HEIC; install the extra .*or export it losslessly"),
    "photo.heif": (ftyp(b"mif1"), "HEIC"),
    "photo.cr3": (ftyp(b"crx "), "raw or preview file; develop it to PNG or TIFF"),
    "photo.raf": (b"FUJIFILMCCD-RAW 0201", "raw or preview file"),
    "clip.mp4": (ftyp(b"isom"), "a video"),
    "clip.mov": (ftyp(b"qt  "), "a video"),
    "clip.avi": (b"RIFF\0\1\0\0AVI LIST", "a video"),
    "clip.mkv": (b"\x1aE\xdf\xa3" + bytes(40), "a video"),
    "clip.wmv": (b"0&\xb2u\x8ef\xcf\x11" + bytes(40), "a video"),
    "clip.ogv": (b"OggS" + bytes(40), "a video"),
    "clip.mxf": (b"\6\x0e+4\2\5" + bytes(40), "a video"),
    "clip.ts": ((b"G" + bytes(187)) * 3, "a video"),
    "clip.m2ts": ((bytes(4) + b"G" + bytes(187)) * 3, "a video"),
    "photo.crw": (b"II\x1a\0\0\0HEAPCCDR" + bytes(40), "raw or preview file"),
    "photo.x3f": (b"FOVb" + bytes(40), "raw or preview file"),
    "comment.svg": (b"<!-- Generator: a program -->\n<svg viewBox='0 0 9 9'/>", "SVG"),
    "entities.svg": (b'<?xml version="1.0"?>\n<!-- x -->\n<!DOCTYPE svg PUBLIC "-" "svg11.dtd" [' + b" " * 500, "SVG"),
    "page.jpg": (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">', "a web page"),
    "script.jpg": (b"<!--[if lt IE 7]> <![endif]-->\r\n<script>location='/'</script>", "a web page"),
    "wide.jpg": ("<html><title>404</title>".encode("utf-16"), "a web page"),
    "drawing.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "download.jpg": (b"\n<!DOCTYPE html><html><body>403 Forbidden</body></html>", "a web page"),
    "long.svg": (b"<!-- " + b"x" * 600 + b" -->\n<svg viewBox='0 0 9 9'/>", "markup, as of a web page or a drawing"),
    "part.jpg": (b"\n<center><h1>502 Bad Gateway</h1></center>", "markup, as of a web page"),
    "mark.png": (b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "line.pdf": (b"\n%PDF-1.4\n", "PDF"),
    "job.ps": (b"\x1b%-12345X@PJL ENTER LANGUAGE=POSTSCRIPT\n%!PS\n", "a print job, PostScript"),
    "old.mov": (b"\0\0\0\x08skip\0\0\1\0mdat", "a video"),
    "preview.mov": (b"\0\0\0\x14pnot" + bytes(12), "a video"),
    "clip.ivf": (b"DKIF\0\0\x20\0VP90" + bytes(20), "a video"),
    "clip.y4m": (b"YUV4MPEG2 W9 H6 F25:1\n", "a video"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "Git LFS pointer"),
    "._photo.jpg": (b"\0\5\x16\7" + bytes(100), "AppleDouble"),
    "layers.psd": (b"8BPS\0\1" + bytes(40), "Photoshop"),
    "pictures.jpg": (b"PK\3\4" + bytes(40), "ZIP archive"),
    "big.tif": (b"MM\0+\0\x08\0\0", "BigTIFF with the high byte first"),
    "array.png": (b"\x93NUMPY\1\0v\0", "NumPy array"),
    "photo.jxl": (b"\xff\n\x10\x30" + bytes(40), "JPEG XL; save it as PNG or TIFF"),
    "box.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
    "light.exr": (b"v/1\1\2\0\0\0", "OpenEXR"),
    "noise.jpg": (bytes(range(1, 200)), "no format that is read here"),
}


@pytest.mark.parametrize("grey", [71, 0, 255])
def test_a_picture_whose_letters_stand_where_a_broadcast_s_do_is_no_video(tmp_path, grey):
    """A GIF begins with the letter that begins each packet of a transport stream."""
    picture = Image.new("P", (64, 64))
    picture.putpalette([grey] * 768)
    picture.paste(1, (0, 0, 5, 5))
    picture.save(tmp_path / "a.gif", optimize=False)
    picture.save(tmp_path / "a.bmp")
    for name in ("a.gif", "a.bmp"):
        assert (read_image(tmp_path / name) == grey).all()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_pipe_or_a_device_by_a_pictures_name_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to(os.devnull)
    for name in ("pipe.jpg", "device.jpg"):
        for read in (read_image, read_mask_file):
            with pytest.raises(InputError, match=rf"{name}: cannot be read as an image \(a pipe or a device"):
                read(tmp_path / name)


def test_what_pillow_logs_of_a_damaged_file_is_not_printed(tmp_path):
    """In a process of its own: pytest catches what is logged."""
    Image.fromarray(RGB).save(tmp_path / "photo.tif")
    data = bytearray((tmp_path / "photo.tif").read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (samples,) = (at for at in range(first + 2, len(data) - 12, 12) if struct.unpack_from("<H", data, at)[0] == 277)
    struct.pack_into("<H", data, samples + 8, 60000)  # samples of a pixel: a claim that Pillow logs as an error
    (tmp_path / "photo.tif").write_bytes(data)
    code = "import sys; from mpc_lite.images import read_image, InputError\n"
    code += "try: read_image(sys.argv[1])\nexcept InputError: print('refused')"
    call = [sys.executable, "-c", code, str(tmp_path / "photo.tif")]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("refused\n", "")


@pytest.mark.parametrize("name", NAMED)
def test_what_is_no_picture_is_refused_in_its_own_words(tmp_path, name, monkeypatch):
    data, words = NAMED[name]
    if "HEIC" in words:
        monkeypatch.setattr(decoders, "FORMATS", tuple(f for f in decoders.FORMATS if f != "HEIF"))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program was started"))
    (tmp_path / name).write_bytes(data)
    for read in (read_image, read_mask_file):
        with pytest.raises(InputError, match=rf"cannot be read as an image \(.*{words}") as told:
            read(tmp_path / name)
        assert str(told.value).count("cannot be read") == 1  # not wrapped in itself


def test_only_listed_formats_are_opened(tmp_path, monkeypatch):
    assert not {"EPS", "PDF", "WMF", "FITS", "HDF5", "MPEG", "SPIDER"} & set(decoders.FORMATS)
    assert {"JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000"} <= set(decoders.FORMATS)
    Image.fromarray(RGB).save(tmp_path / "photo.sgi")  # a good file that Pillow reads
    with pytest.raises(InputError, match="no format that is read here"):
        read_image(tmp_path / "photo.sgi")


def test_the_first_picture_of_several_in_a_jpeg_counts(tmp_path):
    first, second = (Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (200, 20))
    first.save(tmp_path / "several.mpo", save_all=True, append_images=[second])
    assert np.abs(read_image(tmp_path / "several.mpo").astype(int) - 200).max() <= 2


@pytest.mark.slow
def test_every_call_of_pillows_open_names_its_formats():
    calls = []
    for path in [*(ROOT / "mpc_lite").rglob("*.py"), *(ROOT / "data_scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open"):
                calls.append((path.name, node.lineno, any(k.arg == "formats" for k in node.keywords)))
    assert len(calls) >= 5 and all(named for *_, named in calls), calls


@pytest.mark.skipif("HEIF" not in decoders.FORMATS, reason="needs the extra: pip install 'mpc-lite[heic]'")
def test_heic_is_read_with_the_extra(tmp_path):
    smooth = np.full((64, 96, 3), (200, 90, 30), np.uint8)
    writer = pytest.importorskip("pillow_heif", reason="writes the test's file: pip install pillow-heif")
    writer.from_pillow(Image.fromarray(smooth)).save(tmp_path / "photo.heic", quality=95)
    assert np.abs(read_image(tmp_path / "photo.heic").astype(int) - smooth).max() <= 6


@pytest.mark.skipif("HEIF" not in decoders.FORMATS, reason="needs the extra: pip install 'mpc-lite[heic]'")
def test_of_a_heic_the_primary_picture_is_read_which_viewers_show(tmp_path):
    writer = pytest.importorskip("pillow_heif", reason="writes the test's file: pip install pillow-heif")
    colours = np.uint8([(200, 90, 30), (30, 90, 200)])
    for primary in (0, 1):
        pictures = [Image.fromarray(np.tile(colour, (64 + 32 * n, 96, 1))) for n, colour in enumerate(colours)]
        file = writer.from_pillow(pictures[0])
        file.add_from_pillow(pictures[1])
        file.save(tmp_path / "two.heic", quality=95, primary_index=primary)
        read = read_image(tmp_path / "two.heic")
        assert read.shape == (64 + 32 * primary, 96, 3) and np.abs(read - np.int32(colours[primary])).max() <= 6


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif", "avif"])
def test_the_first_of_several_frames_is_read(tmp_path, kind):
    if kind == "avif" and "AVIF" not in decoders.FORMATS:
        pytest.skip("needs Pillow 11.3")
    first, second = (Image.new("RGB", (16, 16), (level,) * 3) for level in (200, 20))
    first.save(tmp_path / f"several.{kind}", save_all=True, append_images=[second])
    with Image.open(tmp_path / f"several.{kind}") as image:
        assert image.n_frames == 2
    assert np.abs(read_image(tmp_path / f"several.{kind}").astype(int) - 200).max() <= 2


@pytest.mark.parametrize("name, each", [("deep.heic", 10), ("plain.heic", 8), ("opacity.avif", 10), ("plain.avif", 8)])
def test_of_pixels_that_take_more_memory_heif_and_avif_may_declare_fewer(tmp_path, monkeypatch, name, each):
    """Of 16-bit colours with opacity libheif holds two pictures at once, 20 bytes a pixel; an AVIF may be as deep."""
    kind, file, mode = name[-4:], tmp_path / name, "RGB" if name == "plain.avif" else "RGBA"
    if {"heic": "HEIF"}.get(kind, "AVIF") not in decoders.FORMATS:
        pytest.skip("needs the extra heic, or Pillow 11.3")
    if kind == "avif":
        Image.new(mode, (64, 64)).save(file)
    else:
        writer = pytest.importorskip("pillow_heif", reason="writes the test's file: pip install pillow-heif")
        deep = "deep" in name
        pixels = bytes(64 * 64 * 4 * (1 + deep))
        writer.from_bytes("RGBA;16" if deep else "RGBA", (64, 64), pixels).save(file, chroma=444)
    monkeypatch.setattr("mpc_lite.files.PIXELS_A_BYTE", 1)
    monkeypatch.setattr("mpc_lite.files.UNPROVEN_PIXELS", 64 * 64 * each // 8)
    assert read_image(file).shape == (64, 64, 3)
    monkeypatch.setattr("mpc_lite.files.UNPROVEN_PIXELS", 64 * 64 * each // 8 - 8)
    with pytest.raises(InputError, match=r"64×64 pixels.*, at most .* of a file of .* --max-pixels 4096"):
        read_image(file)


@pytest.mark.parametrize("kind", ["bits", "lzw", "colour floats", "doubles", "png", "deep png", "jpeg", "ppm", "exif"])
def test_decoders_print_nothing_between_our_lines(tmp_path, capfd, recwarn, kind):
    """Files cut and flipped in several places: whatever comes of it, standard error stays empty."""
    buffer = io.BytesIO()
    if kind in ("png", "jpeg"):
        Image.fromarray(RGB.repeat(8, 0)).save(buffer, kind)
    elif kind == "deep png":
        buffer.write(cv2.imencode(".png", RGB.repeat(8, 0).astype(np.uint16) * 257)[1])
    elif kind == "ppm":
        buffer.write(ppm(RGB.astype(np.uint16) * 257))
    elif kind == "exif":
        Image.fromarray(RGB).save(buffer, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09")
    else:
        array = {"bits": RGB.astype(np.uint16) * 257, "lzw": RGB, "doubles": RGB / 255}.get(kind, RGB / np.float32(255))
        tifffile.imwrite(buffer, array, photometric="rgb", compression="zlib" if kind == "lzw" else None)
    data = buffer.getvalue()
    rng = np.random.default_rng(1)
    for length in range(0, len(data), max(1, len(data) // 40)):
        flipped = bytearray(data)
        flipped[int(rng.integers(8, len(data)))] ^= 0x55
        for content in (data[:length], bytes(flipped)):
            (tmp_path / "damaged").write_bytes(content)
            with contextlib.suppress(InputError):
                read_image(tmp_path / "damaged")
    assert capfd.readouterr() == ("", "") and not recwarn.list


# --------------------------------------------------------------------------------------------------- which way is up

UPRIGHT = {  # TIFF and EXIF orientation -> the stored array turned upright
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}
GREY = Image.fromarray(RGB[..., 0])
MODES = {
    "L": GREY,
    "P": GREY.convert("P"),
    "1": GREY.point(lambda v: 255 * (v > 99)).convert("1"),
    "LA": GREY.convert("LA"),
    "I;16": Image.fromarray(RGB[..., 1].astype(np.uint16) * 257),
    "I": Image.fromarray(RGB[..., 1].astype(np.int32)),
    "F": Image.fromarray(RGB[..., 1].astype(np.float32)),
    "RGB": Image.fromarray(RGB),
    "RGBA": Image.fromarray(np.dstack([RGB, np.full_like(RGB[..., 0], 255)])),
    "CMYK": Image.fromarray(RGB).convert("CMYK"),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("mode", MODES)
def test_tiffs_read_from_their_path_as_from_their_bytes(tmp_path, mode, orientation):
    image = MODES[mode]
    assert image.mode == mode
    image.save(tmp_path / "stored.tif")
    image.save(tmp_path / "turned.tif", tiffinfo={0x0112: orientation})
    expected = UPRIGHT[orientation](read_image(tmp_path / "stored.tif"))
    np.testing.assert_array_equal(read_image(tmp_path / "turned.tif"), expected)
    with Image.open(io.BytesIO((tmp_path / "turned.tif").read_bytes())) as opened:
        assert opened.mode == mode
        opened.load()
        if mode in ("L", "P", "1", "RGB", "CMYK"):
            np.testing.assert_array_equal(opened.convert("RGB"), expected)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("big, order", [(False, "<"), (False, ">"), (True, "<")])
def test_deep_colour_tiffs_are_turned_once_and_in_one_way(tmp_path, orientation, big, order):
    deep = RGB.astype(np.uint16) * 257
    turn = [(0x0112, "H", 1, orientation, True)]
    for name, array in (("short", deep), ("float", RGB / np.float32(255))):
        file = tmp_path / f"{name}.tif"
        tifffile.imwrite(file, array, photometric="rgb", bigtiff=big, byteorder=order, extratags=turn)
        np.testing.assert_array_equal(read_image(file), UPRIGHT[orientation](RGB))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_turned_masks_follow_the_tag(tmp_path, orientation):
    shape = np.zeros((6, 9), np.uint8)
    shape[1:3, 4:8] = 255
    Image.fromarray(shape).save(tmp_path / "mask.tif", tiffinfo={0x0112: orientation})
    np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.tif"), UPRIGHT[orientation](shape > 0))


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("exif_too", [False, True])
def test_xmp_turns_nothing(tmp_path, suffix, exif_too):
    """As in browsers and OpenCV; Pillow would turn by it where EXIF is silent."""
    facts = PngInfo()
    facts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    exif = Image.Exif()
    exif[0x0128] = 2  # the unit of a resolution, for which EXIF is read as soon as a JPEG is opened
    words = {"png": {"pnginfo": facts}, "tif": {"tiffinfo": {700: XMP}}}.get(suffix, {"xmp": XMP})
    file = tmp_path / f"photo.{suffix}"
    Image.fromarray(RGB).save(file, **words, **({"exif": exif} if exif_too and suffix != "tif" else {}))
    with Image.open(file) as image:
        image.load()
        assert suffix != "png" or image.getexif()[0x0112] == 6  # older ones write no XMP into a JPEG
    assert read_image(file).shape == RGB.shape and turn_of(file) == 1


# ------------------------------------------------------------------------------------------- what values are


def png16(colours, *rows, hidden):
    """A 16-bit PNG, colours 0 (grey) or 2 (RGB), one value of which is transparent."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    data = b"".join(b"\0" + np.asarray(row, ">u2").tobytes() for row in rows)
    size = struct.pack(">IIBBBBB", len(rows[0]) // (3 if colours else 1), len(rows), 16, colours, 0, 0, 0)
    chunks = chunk(b"IHDR", size) + chunk(b"tRNS", np.asarray(hidden, ">u2").tobytes())
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_a_transparent_value_of_16_bits_is_laid_over_white(tmp_path):
    (tmp_path / "grey.png").write_bytes(png16(0, [0, 0x1234, 0xC800], hidden=[0x1234]))
    rgb = [0, 0, 0, *[0x1234] * 3, *[0xC800] * 3]
    (tmp_path / "rgb.png").write_bytes(png16(2, rgb, hidden=[0x1234] * 3))
    for name in ("grey", "rgb"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png")[0, :, 0], [0, 255, 200])
    grey_alpha = np.array([[[0xC800, 0], [0, 0xFFFF]]], np.uint16)
    tifffile.imwrite(tmp_path / "la.tif", grey_alpha, photometric="minisblack", extrasamples=["unassalpha"])
    with pytest.raises(InputError, match="16 bits of grey with transparency in a TIFF; save it as PNG"):
        read_image(tmp_path / "la.tif")


def ppm(values, top=65535, text=False):
    """A PPM of more than 8 bits, of (H,W,3), or a PGM, of (H,W)."""
    height, width = values.shape[:2]
    start = b"P%d\n# a comment\n%d %d\n%d\n" % (6 - (values.ndim == 2) - 3 * text, width, height, top)
    rows = (" ".join(map(str, row)) for row in values.reshape(height, -1))
    return start + (" # more\n".join(rows).encode() if text else values.astype(">u2").tobytes())


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("top", [511, 1000, 1023, 4095, 65535])
def test_a_deep_ppm_in_colour_is_read_as_a_grey_one_is(tmp_path, top, text):
    """Small values of it are labels and bytes, and no black; of greater ones the 8 bits are as Pillow makes them."""
    full = np.round(np.linspace(0, top, 48 * 40)).astype(np.int64).reshape(40, 48)
    labels = (full > top // 2).astype(np.int64)
    for name, values in {"full": full, "bytes": full * 255 // top, "labels": labels, "dark": full // 5}.items():
        colour = np.dstack([values, values[::-1], values[:, ::-1]])
        seen = {}
        for kind, pixels in (("pgm", values), ("ppm", colour)):
            (tmp_path / f"{name}.{kind}").write_bytes(ppm(pixels, top, text))
            try:
                seen[kind] = read_image(tmp_path / f"{name}.{kind}").astype(int)
            except InputError as error:
                seen[kind] = str(error).replace("ppm", "pgm")
        if isinstance(seen["pgm"], str):
            assert seen["ppm"] == seen["pgm"] and "stretch them" in seen["ppm"]
            continue
        grey = seen["pgm"][..., 0]
        assert np.abs(seen["ppm"] - np.dstack([grey, grey[::-1], grey[:, ::-1]])).max() <= (values.max() * 4 >= top)
        if name == "full":
            np.testing.assert_array_equal(seen["ppm"], np.round(colour / top * 255))
    (tmp_path / "mask.ppm").write_bytes(ppm(np.dstack([labels] * 3), top, text))
    np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.ppm"), labels)


@pytest.mark.parametrize("text", [False, True])
def test_a_hot_pixel_brightens_no_deep_ppm(tmp_path, text):
    values = np.random.default_rng(0).integers(0, 4000, (120, 120, 3), dtype=np.uint16)
    values[60, 60, 1] = 65535
    (tmp_path / "a.ppm").write_bytes(ppm(values, text=text))
    with pytest.raises(
        InputError, match=r"use 0–65535, but only 1 of them .* of 0–65535: stretch them, or save 8 bits"
    ):
        read_image(tmp_path / "a.ppm")


@pytest.mark.parametrize("text", [False, True])
def test_a_deep_ppm_that_is_cut_is_refused(tmp_path, text):
    data = ppm(RGB.astype(np.uint16) * 257, text=text)
    for length in range(data.rindex(b" ") if text else len(data)):  # in text the last number may lack a digit
        (tmp_path / "a.ppm").write_bytes(data[:length])
        with pytest.raises(InputError, match="cannot be read as an image"):
            read_image(tmp_path / "a.ppm")
    (tmp_path / "a.ppm").write_bytes(ppm(RGB.astype(np.uint16) * 257, 4095, text))
    if text:
        with pytest.raises(InputError, match="at most 4095 by its header"):
            read_image(tmp_path / "a.ppm")
    else:
        assert read_image(tmp_path / "a.ppm").max() == 255


def png_grey(bits, row, hidden):
    """A grey PNG of one row, of less than 8 bits a pixel, one level of which is transparent."""
    levels = np.unpackbits(np.uint8(row)[:, None], axis=1)[:, -bits:]
    size = struct.pack(">IIBBBBB", len(row), 1, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"tRNS", struct.pack(">H", hidden)), (b"IDAT", zlib.compress(b"\0" + packed(levels)))]
    parts = [
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in (*chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def packed(bits):
    return np.packbits(bits.reshape(-1)).tobytes()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_level_of_few_bits_is_laid_over_white(tmp_path, bits):
    """Pillow makes 8 bits of the levels and leaves the transparent one as it is in the file."""
    levels = np.arange(2**bits)
    for hidden in levels:
        (tmp_path / "a.png").write_bytes(png_grey(bits, levels, hidden))
        shown = np.where(levels == hidden, 255, levels * 255 // (2**bits - 1))
        np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 0], shown)


def bmp(levels, bits, greys, core=False):
    """An uncompressed BMP of levels (H,W), whose palette holds `greys`; `core`: with the oldest header."""
    rows = [packed(np.unpackbits(np.uint8(row)[:, None], axis=1)[:, -bits:]) for row in levels[::-1]]
    pixels = b"".join(row + bytes(-len(row) % 4) for row in rows)
    height, width = levels.shape
    if core:
        facts = struct.pack("<IHHHH", 12, width, height, 1, bits)
        colours = b"".join(bytes([grey] * 3) for grey in greys)
    else:
        facts = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(pixels), 0, 0, len(greys), 0)
        colours = b"".join(bytes([grey] * 3 + [0]) for grey in greys)
    start = 14 + len(facts) + len(colours)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + facts + colours + pixels


@pytest.mark.parametrize("core", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("greys", [[0, 255], [255, 0], [0, 1], range(4), range(16), range(256)], ids=str)
def test_a_bmp_whose_palette_is_of_greys_has_the_bits_that_its_header_says(tmp_path, bits, greys, core):
    """Of black and white Pillow makes single bits, whatever the depth, and of the first levels 8 bits."""
    if len(greys) > 2**bits or (core and len(greys) < 2**bits):  # the oldest header does not say how many colours
        greys = np.resize(greys, 2**bits)
    levels = np.random.default_rng(0).integers(0, len(greys), (12, 33))
    (tmp_path / "a.bmp").write_bytes(data := bmp(levels, bits, greys, core))
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp")[..., 1], np.uint8(greys)[levels])
    (tmp_path / "a.bmp").write_bytes(data[:-40])
    with pytest.raises(InputError):
        read_image(tmp_path / "a.bmp")


def test_a_bmp_mask_of_black_and_white_is_read_as_it_is_drawn(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[4:15, 7:19] = 1
    picture = Image.fromarray(mask)
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(tmp_path / "mask.bmp")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.bmp"), mask)
    (tmp_path / "mask.dib").write_bytes((tmp_path / "mask.bmp").read_bytes()[14:])  # OpenCV knows none
    with contextlib.suppress(InputError):
        np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.dib"), mask)


@pytest.mark.parametrize("scale", [1, -1, 255, -255.0, -0.5])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pfms_scale_does_not_change_its_values(tmp_path, channels, scale):
    """Grey files, which Pillow reads, and those in colour, of which OpenCV divides the values by it."""
    values = np.round(RGB[..., :channels] / np.float32(255), 6)
    head = f"{'PF' if channels == 3 else 'Pf'}\n9 6\n{scale}\n".encode()
    (tmp_path / "a.pfm").write_bytes(head + values[::-1].astype("<f4" if scale < 0 else ">f4").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pfm")[..., :channels], RGB[..., :channels])


@pytest.mark.parametrize(
    "kind, values, found",
    [("i1", [-5, 100], "-5 to 100"), ("i2", [-5, 100], "-5 to 100"), ("u4", [0, 4_000_000_000], "0 to 4000000000")],
)
def test_integers_out_of_range_are_named_as_they_are_stored(tmp_path, kind, values, found):
    tifffile.imwrite(tmp_path / "x.tif", np.array([values], kind))
    for read in (read_image, read_mask_file):
        with pytest.raises(InputError, match=f"integers from {found}, expected 0–65535"):
            read(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 100]], kind))
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif")[0, :, 0], [0, 100])


def tiff_grey(levels, bits, colours=()):
    """A TIFF of one strip whose pixels have so many bits; with `colours`, (n,3), they are numbers of these."""
    height, width = levels.shape
    every = np.unpackbits(levels.astype(">u2").view(np.uint8).reshape(height, width, 2), axis=2)[..., -bits:]
    pixels = b"".join(packed(row) for row in every)
    table = np.transpose(colours).astype("<u2").tobytes()
    facts = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 3 if table else 1)]
    facts += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(pixels))]
    facts += [(320, 3, len(table) // 2, 8 + len(pixels))] if table else []
    entries = b"".join(struct.pack("<HHII", *fact) for fact in facts)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(pixels) + len(table))
    return start + pixels + table + struct.pack("<H", len(facts)) + entries + bytes(4)


def test_grey_of_12_bits_has_its_own_white(tmp_path):
    levels = np.uint16([[0, 15, 16, 2047, 2048, 4095]])
    (tmp_path / "a.tif").write_bytes(tiff_grey(levels, bits=12))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], levels >> 4)
    (tmp_path / "mask.tif").write_bytes(tiff_grey(np.uint16([[0, 0, 4095]] * 9), bits=12))
    np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.tif"), [[0, 0, 1]] * 9)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_tiffs_colours_may_be_stored_with_8_bits(tmp_path, bits):
    """Of 16 bits each they should be; where none is above 255, an old writer did not know that."""
    levels, colours = np.arange(16, dtype=np.uint16).reshape(4, 4), np.resize(RGB, (2**bits, 3))
    for scale in (1, 257):
        (tmp_path / "a.tif").write_bytes(tiff_grey(levels, bits, colours.astype(np.uint16) * scale))
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), colours[levels])


def jpeg2000(pixels, bits, kind="jp2"):
    """A lossless JPEG 2000 file of uint16 pixels, RGB(A) or grey, whose header says that a sample has so many bits."""
    middle = np.uint16(2**15 - 2 ** (bits - 1))  # of a sample: samples are stored by their distance from it
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else slice(None)
    data = bytearray(cv2.imencode(".jp2", np.ascontiguousarray(pixels[..., order] + middle))[1])
    start = data.index(b"\xff\x4f\xff\x51")
    for at in (data.index(b"ihdr") + 14, *(start + 42 + 3 * n for n in range(data[start + 41]))):
        data[at] = bits - 1
    return data[start:] if kind == "j2k" else data


@pytest.mark.parametrize("kind", ["jp2", "j2k"])
@pytest.mark.parametrize("bits", [9, 10, 12, 15, 16])
def test_white_of_a_deep_jpeg_2000_is_white(tmp_path, bits, kind):
    """Pillow rounds up to 8 bits and beyond, so white becomes black."""
    top = 2**bits - 1
    shades = np.round(np.linspace(0, top, 80 * 60)).astype(np.uint16).reshape(60, 80)
    colour = np.dstack([shades, shades[::-1], shades[:, ::-1]])
    expected = np.round(colour / top * 255)
    opaque = np.dstack([colour, np.full_like(shades, top)])
    for pixels, shown in ((shades, expected[..., :1]), (colour, expected), (opaque, expected)):
        (tmp_path / f"a.{kind}").write_bytes(jpeg2000(pixels, bits, kind))
        read = read_image(tmp_path / f"a.{kind}")
        assert np.abs(read - shown).max() <= 1 and read[-1, -1, 0] == 255 and read[0, 0, 0] == 0
        mask = np.where(pixels > top // 2, np.uint16(top), np.uint16(0))
        mask = mask if mask.ndim == 2 else np.dstack([mask[..., 0]] * 3)
        (tmp_path / f"mask.{kind}").write_bytes(jpeg2000(mask, bits, kind))
        np.testing.assert_array_equal(read_mask_file(tmp_path / f"mask.{kind}"), shades > top // 2)
    clear = np.dstack([colour * 0, shades])
    (tmp_path / f"a.{kind}").write_bytes(jpeg2000(clear, bits, kind))
    assert np.abs(read_image(tmp_path / f"a.{kind}")[..., 1] - (255 - expected[..., 0])).max() <= 1


def test_a_deep_jpeg_2000_is_found_behind_other_boxes_and_in_a_last_one_without_a_length(tmp_path):
    data = jpeg2000(DEEP.repeat(8, 0).repeat(8, 1), 16)
    at = data.index(b"jp2c") - 4
    between = struct.pack(">I4s", 4008, b"uuid") + b"\xff\x4f\xff\x51" * 1000
    for changed in (data[:at] + between + data[at:], data[:at] + bytes(4) + data[at + 4 :]):
        (tmp_path / "a.jp2").write_bytes(changed)
        np.testing.assert_array_equal(read_image(tmp_path / "a.jp2")[::8, ::8, 0], GREY)
    for n in range(1, 10):
        (tmp_path / "a.jp2").write_bytes(data[: len(data) * n // 10])
        with pytest.raises(InputError):
            read_image(tmp_path / "a.jp2")


DEEP_AND_ODD = {  # what is changed in a header: (of which box or marker, bytes behind it, value)
    "signed": (b"\xff\x51", [40, 43, 46], 0x8F),
    "20 bits": (b"\xff\x51", [40, 43, 46], 19),
    "bits of its own for one colour": (b"\xff\x51", [43], 11),
    "fewer pixels of one colour": (b"\xff\x51", [44], 2),
    "grey with transparency": (b"\xff\x51", [39], 2),
    "CMYK": (b"colr", [10], 12),
    "YCC": (b"colr", [10], 18),
}


@pytest.mark.parametrize("what", DEEP_AND_ODD)
def test_other_deep_samples_of_jpeg_2000_are_refused(tmp_path, what):
    name, places, value = DEEP_AND_ODD[what]
    data = jpeg2000(DEEP.repeat(8, 0).repeat(8, 1), 16)
    for place in places:
        data[data.index(name) + place] = value
    (tmp_path / "a.jp2").write_bytes(data)
    with pytest.raises(InputError, match=r"JPEG 2000 with .. bits that are no unsigned grey, RGB or RGBA; save it as"):
        read_image(tmp_path / "a.jp2")


@pytest.mark.parametrize("deep", [False, True])
def test_three_values_that_a_jpeg_2000_calls_grey_are_refused(tmp_path, deep):
    """OpenCV takes the first of them for the picture; Pillow says that the data are damaged."""
    pixels = DEEP.repeat(8, 0).repeat(8, 1)
    data = jpeg2000(pixels, 16) if deep else bytearray(cv2.imencode(".jp2", np.uint8(pixels >> 8))[1])
    data[data.index(b"colr") + 10] = 17
    (tmp_path / "a.jp2").write_bytes(data)
    with pytest.raises(InputError, match="JPEG 2000 of 3 values a pixel that it calls grey; save it as PNG"):
        read_image(tmp_path / "a.jp2")


# ---------------------------------------------------------------------------------------------- which page is meant


def pages(file, *arrays, **first):
    """A TIFF of RGB pages; a page is (array, NewSubfileType)."""
    with tifffile.TiffWriter(file) as tiff:
        for array, subfile in arrays:
            tiff.write(array, photometric="rgb", subfiletype=subfile, **first)
            first = {}
    return file


def test_a_preview_in_front_is_not_taken_for_the_picture(tmp_path):
    file = pages(tmp_path / "front.tif", (SMALL, 1), (RGB, 0), (SMALL, 1))
    np.testing.assert_array_equal(read_image(file), RGB)
    np.testing.assert_array_equal(read_image(pages(tmp_path / "two.tif", (RGB, 0), (RGB[::-1], 0))), RGB)
    np.testing.assert_array_equal(read_image(pages(tmp_path / "back.tif", (RGB, 0), (SMALL, 1))), RGB)
    with tifffile.TiffWriter(tmp_path / "old.tif") as tiff:  # marked by the tag that came before NewSubfileType
        tiff.write(SMALL, photometric="rgb", extratags=[(255, "H", 1, 2, True)])
        tiff.write(RGB, photometric="rgb", extratags=[(255, "H", 1, 1, True)])
    np.testing.assert_array_equal(read_image(tmp_path / "old.tif"), RGB)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("colour", ["rgb", "minisblack"])
def test_the_turn_is_that_of_the_page_that_is_read(tmp_path, colour, orientation):
    whole = RGB if colour == "rgb" else RGB[..., 0] * np.uint16(257)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(whole[::3, ::3], photometric=colour, subfiletype=1)
        tiff.write(whole, photometric=colour, extratags=[(0x0112, "H", 1, orientation, True)])
    upright = UPRIGHT[orientation](RGB if colour == "rgb" else RGB[..., :1].repeat(3, 2))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), upright)
    assert turn_of(tmp_path / "a.tif") == orientation


DNG = [(50706, "B", 4, b"\1\4\0\0", True)]


@pytest.mark.parametrize("name", ["raw.dng", "raw.nef", "raw.tif", "sensor.dng"])
def test_raw_files_and_lone_previews_are_refused(tmp_path, name):
    file = tmp_path / name
    if name == "raw.dng":  # the preview in the main chain, the picture below it
        pages(file, (SMALL, 1), (RGB, 0), subifds=1, extratags=DNG)
    elif name == "raw.nef":
        pages(file, (SMALL, 1), (RGB, 0), subifds=1)
    elif name == "raw.tif":
        pages(file, (SMALL, 1))
    else:
        tifffile.imwrite(file, np.full((6, 9), 500, np.uint16), photometric=32803)  # one colour a pixel
    with pytest.raises(InputError, match=r"\(a raw or preview file; develop it to PNG or TIFF\)"):
        read_image(file)


def with_tags(file, changes):
    """A plain little-endian TIFF, entries of its first directory changed: {a tag's number: its new number and kind}."""
    data, done = bytearray(file.read_bytes()), set()
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    for at in range(first + 2, first + 2 + 12 * entries, 12):
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in changes:
            struct.pack_into("<HH", data, at, *changes[tag])
            done.add(tag)
    assert done == set(changes)
    file.write_bytes(data)


@pytest.mark.parametrize("side", [16, 256, 512])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "big", "twice", "odd kind"])
def test_a_small_picture_has_no_huge_tiles(tmp_path, monkeypatch, kind, side):
    """libtiff unpacks a whole one. Of a tag that stands there twice it takes the first, Pillow the last."""
    file, photo = tmp_path / "a.tif", np.tile(RGB, (11, 7, 1))
    pixels = {"u2": photo * np.uint16(257), "f4": photo / np.float32(255)}.get(kind, photo)
    spare = [(tag, "I", 1, 16, True) for tag in (65000, 65001)] if kind == "twice" else []
    options = {"bigtiff": kind == "big", "compression": "zlib", "extratags": spare}
    tifffile.imwrite(file, pixels, photometric="rgb", tile=(side, side), **options)
    if kind == "twice":  # behind the right ones, a second size that is as small as can be
        with_tags(file, {65000: (322, 4), 65001: (323, 4)})
    if kind == "odd kind":
        with_tags(file, {322: (322, 9 if side == 256 else 13), 323: (323, 13)})
        if not PILLOW_13:  # which does not read it at all
            with pytest.raises(InputError, match="cannot be read as an image"):
                read_image(file)
            return
    np.testing.assert_array_equal(read_image(file), photo)
    monkeypatch.setenv("MPC_LITE_MAX_PIXELS", "65536")
    if side <= 256:
        np.testing.assert_array_equal(read_image(file), photo)
        return
    with pytest.raises(InputError, match=r"\(a tile of 512×512 pixels.*, at most 65536 are .* --max-pixels 262144"):
        read_image(file)


def test_a_chain_of_pages_that_bites_its_tail_ends(tmp_path):
    data = bytearray(pages(tmp_path / "ring.tif", (SMALL, 1)).read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)  # the next page is this page
    (tmp_path / "ring.tif").write_bytes(data)
    with pytest.raises(InputError, match="raw or preview file"):
        read_image(tmp_path / "ring.tif")


def test_deep_planes_apart_are_refused_where_decoders_mix_them_up(tmp_path):
    planes = np.moveaxis(RGB, 2, 0)
    tifffile.imwrite(tmp_path / "8.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "8.tif"), RGB)
    tifffile.imwrite(tmp_path / "16.tif", planes * np.uint16(257), photometric="rgb", planarconfig="separate")
    with pytest.raises(InputError, match="16 bits with each colour in a plane of its own; save it interleaved"):
        read_image(tmp_path / "16.tif")


GREY = np.tile(np.uint8([0, 128, 255]), (6, 3))
DEEP = np.dstack([GREY.astype(np.uint16) * 257] * 3)
FOURTH = np.full_like(DEEP[..., :1], 40)  # of 65535: nearly nothing, if it is opacity


def test_a_fourth_sample_of_unknown_meaning_is_no_opacity(tmp_path):
    for name, kind in (("infrared", "unspecified"), ("multiplied", "assocalpha")):
        array, extra = np.dstack([DEEP, FOURTH]), {"photometric": "rgb", "extrasamples": [kind]}
        tifffile.imwrite(tmp_path / f"{name}.tif", array, **extra)
        tifffile.imwrite(tmp_path / f"{name}8.tif", (array >> 8).astype(np.uint8), **extra)
    np.testing.assert_array_equal(read_image(tmp_path / "infrared.tif")[..., 0], GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "infrared8.tif")[..., 0], GREY)
    with pytest.raises(InputError, match="16 bits with colours multiplied by their opacity; save it as PNG"):
        read_image(tmp_path / "multiplied.tif")


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_floats_with_white_as_zero_are_refused(tmp_path, kind):
    tifffile.imwrite(tmp_path / "x.tif", (1 - GREY / 255).astype(kind), photometric="miniswhite")
    for read in (read_image, read_mask_file):
        with pytest.raises(InputError, match="floats with white as 0; save it with black as 0"):
            read(tmp_path / "x.tif")


@pytest.mark.parametrize("colours", [1, 3])
def test_signed_integers_of_16_bits_are_no_half_as_bright_unsigned_ones(tmp_path, colours):
    kind = {"photometric": "rgb" if colours == 3 else "minisblack"}
    values = np.squeeze(np.dstack([GREY.astype(np.int16)] * colours))
    tifffile.imwrite(tmp_path / "few.tif", values, **kind)
    np.testing.assert_array_equal(read_image(tmp_path / "few.tif")[..., 0], GREY)
    tifffile.imwrite(tmp_path / "whole.tif", values * np.int16(128), **kind)
    with pytest.raises(InputError, match="signed integers of 16 bits; save unsigned ones, or 8 bits"):
        read_image(tmp_path / "whole.tif")


SCENE = np.uint8(np.add.outer(np.arange(0, 240, 6), np.arange(16)))  # (40,16), 0 to 249
OF_BYTES = {  # a kind of samples -> values that mean the bytes given
    "u1": lambda v: v,
    "u2": lambda v: v * np.uint16(257),
    "u4": np.uint32,
    "i1": lambda v: np.int8(v // 2),
    "i2": np.int16,
    "i4": np.int32,
    "f2": lambda v: np.float16(v / 255),
    "f4": lambda v: np.float32(v / 255),
    "f4 of bytes": np.float32,
    "f8": lambda v: v / 255,
}


@pytest.mark.parametrize("kind", OF_BYTES)
def test_a_tiff_is_read_as_its_writer_meant_it_or_refused(tmp_path, kind):
    """Pillow exchanges the bytes of packed samples that have the high one first, but of unsigned 16 bits; OpenCV takes
    the luma of three deep values called grey; both leave deep signed values as they are where white is 0."""
    file, colour, right = tmp_path / "a.tif", np.dstack([SCENE, SCENE[::-1], SCENE[:, ::-1]]), 0
    for order, packing, photometric, array, planes in itertools.product(
        "<>", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": 2}, {"tile": (16, 16)}],
        ["rgb", "minisblack", "miniswhite"], (SCENE, colour), ("contig", "separate"),
    ):  # fmt: skip
        values = OF_BYTES[kind](array)
        if ("predictor" in packing and values.dtype.kind == "f") or (array.ndim == 2 and photometric == "rgb"):
            continue
        stored = np.moveaxis(values, 2, 0) if planes == "separate" and array.ndim == 3 else values
        options = {"planarconfig": planes} if array.ndim == 3 else {}
        tifffile.imwrite(file, stored, byteorder=order, photometric=photometric, **packing, **options)
        meant = array // 2 if kind == "i1" else array
        meant = 255 - meant if photometric == "miniswhite" else meant
        try:
            image = read_image(file)
        except InputError as error:
            assert "save it" in str(error) or "reads)" in str(error) or "not read here" in str(error), error
            continue
        right += 1
        np.testing.assert_array_equal(image, meant if meant.ndim == 3 else np.dstack([meant] * 3))
    assert right >= {"f2": 0, "u4": 4, "i1": 4}.get(kind, 8)


def test_masks_of_packed_floats_with_the_high_byte_first(tmp_path):
    """Read with exchanged bytes they are next to nothing everywhere, and as masks empty."""
    mask = SCENE > 120
    for top, packing in ((1, {}), (1, {"compression": "zlib"}), (255, {"compression": "zlib"})):
        tifffile.imwrite(tmp_path / "m.tif", np.float32(mask * top), byteorder=">", **packing)
        np.testing.assert_array_equal(read_mask_file(tmp_path / "m.tif"), mask)
    tifffile.imwrite(tmp_path / "m.tif", np.float32(mask).byteswap())
    for read in (read_image, read_mask_file):
        with pytest.raises(
            InputError, match=r"its values run from 0 to 4\.6\S*e-41, next to nothing of 0–1; are bytes exchanged"
        ):
            read(tmp_path / "m.tif")


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_a_tiff_with_parts_that_are_stored_nowhere_is_refused(tmp_path, kind):
    """Pillow takes the file's first bytes for them; other readers say 0."""
    file, values = tmp_path / "a.tif", OF_BYTES[kind](np.repeat(SCENE, 2, axis=1))
    for options in ({"tile": (16, 16)}, {"rowsperstrip": 4}):
        tifffile.imwrite(file, values, **options)
        assert read_image(file).shape == (40, 32, 3)
        with tifffile.TiffFile(file, mode="r+") as tiff:
            places = tiff.pages[0].tags["TileOffsets" if "tile" in options else "StripOffsets"]
            places.overwrite([0, *places.value[1:]])
        with pytest.raises(InputError, match="a TIFF with parts that are stored nowhere, empty or never written"):
            read_image(file)


@pytest.mark.parametrize("packed", ["none", "zlib"])
@pytest.mark.parametrize("beside", [0, 1, 2])
def test_grey_and_its_opacity_apart_are_refused(tmp_path, beside, packed):
    """Pillow leaves the second plane empty where the file is packed, and all that was hidden is seen."""
    both = np.stack([RGB[..., 0], np.full(RGB.shape[:2], 255, np.uint8)])
    how = {"photometric": "minisblack", "compression": packed, "extrasamples": [beside]}
    tifffile.imwrite(tmp_path / "a.tif", both, planarconfig="separate", **how)
    if beside:
        with pytest.raises(InputError, match="grey and its opacity in planes of their own; save it as PNG"):
            read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(both, 0, 2), planarconfig="contig", **how)
    if beside == 2 or PILLOW_13:
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], RGB[..., 0])
    else:  # nobody says what the second is, or colours multiplied by it
        with pytest.raises(InputError, match="of a kind that is not read here"):
            read_image(tmp_path / "a.tif")


def test_lab_with_its_channels_apart_is_refused(tmp_path):
    for planes, array in (("separate", np.moveaxis(RGB, 2, 0)), ("contig", RGB)):
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="cielab", planarconfig=planes)
        if planes == "contig":
            assert read_image(tmp_path / "a.tif").shape == RGB.shape
            continue
        with pytest.raises(InputError, match="Lab with each channel in a plane of its own; save it as RGB"):
            read_image(tmp_path / "a.tif")


def test_grey_that_was_multiplied_by_its_opacity_is_read(tmp_path):
    opacity = np.where(SCENE > 100, np.uint8(255), np.uint8(51))
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([SCENE // 5, opacity]), extrasamples=["assocalpha"])
    seen = SCENE[SCENE <= 100] // 5 + 204.0  # a fifth of it over white
    try:
        image = read_image(tmp_path / "a.tif")
    except InputError as error:
        assert "read here" in str(error) and not PILLOW_13
        return
    assert np.abs(image[SCENE <= 100][:, 0] - seen).max() <= 1
    np.testing.assert_array_equal(image[SCENE > 100][:, 0], SCENE[SCENE > 100] // 5)


def test_a_directory_of_thousands_of_entries_is_refused_before_it_is_walked(tmp_path):
    entry = struct.pack("<HHII", 273, 4, 2**18, 8)
    (tmp_path / "a.tif").write_bytes(struct.pack("<2sHIH", b"II", 42, 8, 65535) + entry * 65535 + bytes(2**20))
    started = time.perf_counter()
    for read in (read_image, read_mask_file):
        with pytest.raises(InputError, match="a TIFF directory of 65535 entries, at most 1000"):
            read(tmp_path / "a.tif")
    assert time.perf_counter() - started < 5


def test_pixels_that_spell_canons_mark_make_no_raw_file(tmp_path):
    """Plain TIFFs often begin with their pixels at the eighth byte; a CR2 has its first page at the sixteenth."""
    levels = np.uint16([[67, 82, 2, 0, 255, 1]] * 2)
    (tmp_path / "a.tif").write_bytes(tiff_grey(levels, bits=8))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], levels)
    page = struct.pack("<HHHIII", 1, 256, 4, 1, 6, 0)
    (tmp_path / "a.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + page)
    with pytest.raises(InputError, match="raw or preview file"):
        read_image(tmp_path / "a.cr2")


def test_a_mask_whose_next_page_is_no_page_has_one(tmp_path):
    """Where the next one should be, pixels stand: a writer left the place of it unset."""
    data = bytearray(tiff_grey(np.uint16([[0, 0, 255, 255]] * 300), bits=8))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, 10)  # pixels 255, 255: 65535 entries
    (tmp_path / "m.tif").write_bytes(data)
    np.testing.assert_array_equal(read_mask_file(tmp_path / "m.tif"), [[0, 0, 1, 1]] * 300)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
def test_a_png_with_megabytes_of_words_is_read(tmp_path, kind):
    """Editors leave histories of that size; Pillow refuses what unpacks to more than one megabyte."""
    words, options = "x" * 3_000_000, {}
    if kind == "iCCP":
        options["icc_profile"] = words.encode()
    else:
        options["pnginfo"] = PngInfo()
        {"zTXt": options["pnginfo"].add_text, "iTXt": options["pnginfo"].add_itxt}[kind]("history", words, zip=True)
    Image.fromarray(RGB).save(tmp_path / "a.png", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_an_avif_by_its_second_name_is_no_heic(tmp_path, monkeypatch):
    if "AVIF" not in decoders.FORMATS:
        pytest.skip("Pillow reads AVIF from 11.3 on")
    Image.fromarray(np.tile(RGB, (8, 8, 1))).save(tmp_path / "a.avif", quality=90)
    data = bytearray((tmp_path / "a.avif").read_bytes())
    assert data[8:12] == b"avif" and b"mif1" in data[16 : data[3]]
    data[8:12] = b"mif1"
    (tmp_path / "b.avif").write_bytes(data)
    monkeypatch.setattr(decoders, "FORMATS", tuple(f for f in decoders.FORMATS if f != "HEIF"))
    np.testing.assert_array_equal(read_image(tmp_path / "b.avif"), read_image(tmp_path / "a.avif"))


@pytest.mark.parametrize("kind", ["pbm", "pgm", "ppm", "16.pgm"])
def test_several_pictures_in_one_pgm_are_no_mask(tmp_path, kind):
    """Programs write the pages of a document so; Pillow shows the first of them."""
    mask = np.zeros((12, 21), np.uint8)
    mask[3:9, 4:11] = 255
    picture = {"pbm": Image.fromarray(mask > 0), "ppm": Image.fromarray(np.dstack([mask] * 3))}.get(kind)
    if kind == "16.pgm":
        (tmp_path / "m.16.pgm").write_bytes(b"P5 21 12 65535\n" + (mask * np.uint16(257)).astype(">u2").tobytes())
    else:
        (picture or Image.fromarray(mask)).save(tmp_path / f"m.{kind}")
    data = (tmp_path / f"m.{kind}").read_bytes()
    for more in (b"", b"\n", b"\n# the end"):
        (tmp_path / f"m.{kind}").write_bytes(data + more)
        np.testing.assert_array_equal(read_mask_file(tmp_path / f"m.{kind}"), mask > 0)
    (tmp_path / f"m.{kind}").write_bytes(data + data)
    with pytest.raises(InputError, match="2 pages, expected one; save one that joins them"):
        read_mask_file(tmp_path / f"m.{kind}")


@pytest.mark.parametrize("colours", [1, 14])
def test_jpeg_2000_of_other_colours_is_refused_with_8_bits_too(tmp_path, colours):
    data = bytearray(cv2.imencode(".jp2", np.tile(RGB, (8, 8, 1)))[1])
    data[data.index(b"colr") + 10] = colours
    (tmp_path / "a.jp2").write_bytes(data)
    with pytest.raises(
        InputError, match="JPEG 2000 with 8 bits that are no unsigned grey, RGB or RGBA; save it as PNG"
    ):
        read_image(tmp_path / "a.jp2")


def test_a_damaged_jpeg_2000_of_other_colours_is_called_so(tmp_path):
    """Python's sentence on an empty list was the reason given."""
    data = bytearray(cv2.imencode(".jp2", np.tile(RGB, (8, 8, 1)))[1])
    data[data.index(b"colr") + 10] = 14
    begins = data.index(b"\xff\x4f\xff\x51")
    for damaged in (data[: begins + 10], data[:begins] + bytes(100)):
        (tmp_path / "a.jp2").write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            read_image(tmp_path / "a.jp2")


def test_a_comment_of_a_ppm_is_no_video(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6\n#wide angle\n9 6\n255\n" + RGB.tobytes())
    (tmp_path / "b.ppm").write_bytes(b"P6 #wide\n9 6\n255\n" + RGB.tobytes())
    for name in "ab":
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.ppm"), RGB)


def test_a_header_can_be_looked_at_without_decoding(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "photo.jpg")
    with open_image(tmp_path / "photo.jpg") as image:
        assert image.size == (9, 6) and len(image.quantization) == 2
    with (
        pytest.raises(InputError, match=r"gone.jpg: cannot be read as an image \(No such file"),
        open_image("gone.jpg"),
    ):
        pass


@pytest.mark.trust
def test_a_side_of_more_than_a_million_pixels_is_refused_and_one_of_them_is_read(tmp_path):
    """Rows are worked on in bands, and two rows of 33 million pixels were one band: 2.3 GiB for 261 KB."""
    for side in (1_000_000, 1_000_001):
        Image.new("RGBA", (side, 3), (10, 20, 30, 255)).save(tmp_path / f"{side}.png")
    image = read_image(tmp_path / "1000000.png")
    assert image.shape == (3, 1_000_000, 3) and (image == (10, 20, 30)).all()
    with pytest.raises(InputError, match="a side of 1000001 pixels, at most 1000000"):
        read_image(tmp_path / "1000001.png")
