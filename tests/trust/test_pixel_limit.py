"""A short file that declares a huge picture takes neither time nor memory; who trusts it can raise the limit."""

import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mpc_lite.cli import main
from mpc_lite.decoders import open_image
from mpc_lite.errors import InputError
from mpc_lite.files import MAX_PIXELS, RAISED, pixel_limit
from mpc_lite.images import read_image

pytestmark = pytest.mark.trust


def declared(width: int, height: int) -> bytes:
    """A PNG that says its size and holds next to nothing of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def test_check_lists_it_at_once_and_reads_the_others(tmp_path, capsys):
    (tmp_path / "huge.png").write_bytes(declared(16384, 16384))
    Image.fromarray(np.full((9, 8, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "m.csv").write_text("image,mask,label,source\nhuge.png,,0,s\na.png,,0,s\n")
    start = time.process_time()
    assert main(["check", str(tmp_path / "m.csv")]) == 1 and time.process_time() - start < 5
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("row 2 of m.csv") and "at most 67108864" in line and "--max-pixels 268435456" in line


@pytest.mark.parametrize(("sides", "words"), [((25000, 15000), "25000×15000"), ((30000, 20000), "600000000")])
def test_what_pillow_would_refuse_by_itself_is_told_in_the_same_words(tmp_path, monkeypatch, sides, words):
    (tmp_path / "huge.png").write_bytes(declared(*sides))
    number = sides[0] * sides[1]
    with pytest.raises(InputError, match=rf"\({words} pixels, at most 67108864 .* give --max-pixels {number}\)"):
        read_image(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # raised by what follows
    monkeypatch.setenv(RAISED, str(number))
    with open_image(tmp_path / "huge.png") as image:
        assert image.size == sides


def test_the_limit_grows_with_the_file_and_gives_way_to_the_option(tmp_path, monkeypatch, capsys):
    assert pixel_limit(0) == 2**26 and pixel_limit(3 << 20) > 200_000_000 and pixel_limit(1 << 40) == MAX_PIXELS
    Image.fromarray(np.full((9, 8, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "m.csv").write_text("image,mask,label,source\na.png,,0,s\n")
    monkeypatch.setenv(RAISED, "71")
    assert main(["check", str(tmp_path / "m.csv")]) == 1 and "at most 71" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "m.csv"), "--max-pixels", "72"]) == 0


def test_a_deep_picture_takes_little_more_than_its_own_memory(tmp_path):
    """16-bit colours with opacity take 8 bytes a pixel, which nothing may multiply."""
    side = 4096
    pixels = np.full((side, side, 4), (0, 20000, 40000, 50000), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), pixels)
    code = (
        "import sys; from mpc_lite.images import read_image; from tests.trust.reader import memory;"
        "before = memory(); image = read_image(sys.argv[1]);"
        "print(*image[0, 0], (memory() - before) * 2**20 / image[..., 0].size)"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "deep.png")]
    *colour, bytes_a_pixel = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    over_white = [round((value >> 8) * 50000 / 65535 + 255 * (1 - 50000 / 65535)) for value in (40000, 20000, 0)]
    assert np.abs(np.int32(colour) - over_white).max() <= 1
    assert float(bytes_a_pixel) < 18  # OpenCV's decoder alone takes 16


def highest(call: str, file) -> float:
    """Bytes a pixel, beyond the imports, that a call takes in a process of its own."""
    code = (
        "import sys; from mpc_lite.images import read_image, read_mask_file; from tests.trust.reader import memory;"
        f"before = memory(); pixels = {call}(sys.argv[1]);"
        "print((memory() - before) * 2**20 / (pixels.shape[0] * pixels.shape[1]))"
    )
    return float(subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("mode, most", [("tiles", 13), ("stretch", 17)])
def test_a_photograph_is_scored_and_drawn_in_little_more_than_its_map(tmp_path, mode, most):
    """Picture, map and overlay take ten bytes a pixel."""
    for name, side in (("small", 96), ("large", 6144)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((side, side), np.uint8))
    code = (
        "import sys, torch; from mpc_lite.inference.localizer import Localizer;"
        "from mpc_lite.inference.predict import predict; from tests.trust.reader import memory;"
        f"localizer = Localizer(torch.nn.Conv2d(3, 1, 4, 4), mode='{mode}', size=512); out = sys.argv[1] + '/out';"
        "lines = [(next(predict([f'{sys.argv[1]}/{n}.png'], out, localizer)), memory()) for n in ('small', 'large')];"
        "assert not lines[1][0]['error']; print((lines[1][1] - lines[0][1]) * 2**20 / 6144**2)"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    assert float(subprocess.run(run, capture_output=True, text=True, check=True).stdout) < most


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_mask_with_transparency_takes_little_more_than_its_picture(tmp_path, mode):
    side = 4096
    mask = np.zeros((side, side), np.uint8)
    mask[900:2000, 700:3000] = 255
    region = Image.fromarray(mask)
    if mode == "P":
        picture = Image.fromarray(mask // 255)
        picture.putpalette([0, 0, 0, 255, 0, 0])
        picture.save(tmp_path / "mask.png", transparency=0)
    else:
        Image.merge(mode, [region] * len(mode)).save(tmp_path / "mask.png")
    assert highest("read_mask_file", tmp_path / "mask.png") < 14  # of 2**26 pixels less than a GiB


@pytest.mark.parametrize("kind, channels", [("f4", 3), ("f4", 4), ("f8", 3)])
def test_a_short_file_of_deep_pixels_may_declare_fewer_of_them(tmp_path, kind, channels, monkeypatch):
    """OpenCV takes twice a picture's own memory: what counts is how many bytes a pixel has."""
    file, pixels = tmp_path / "a.tif", np.zeros((64, 64, channels), kind)
    pixels[:9] = 1
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    tifffile.imwrite(file, pixels, photometric="rgb", compression="zlib", **extra)
    each = pixels.itemsize * channels
    monkeypatch.setattr("mpc_lite.files.UNPROVEN_PIXELS", 64 * 64 * each // 8)
    monkeypatch.setattr("mpc_lite.files.PIXELS_A_BYTE", 1)
    assert read_image(file).shape == (64, 64, 3)
    monkeypatch.setattr("mpc_lite.files.UNPROVEN_PIXELS", 64 * 64 * each // 8 - 8)
    with pytest.raises(
        InputError, match=f"64×64 pixels of {each} bytes each, at most .* of a file of .* --max-pixels 4096"
    ):
        read_image(file)
    tifffile.imwrite(file, pixels, photometric="rgb", **extra)  # a file as long as its pixels
    assert read_image(file).shape == (64, 64, 3)


SHORT = {  # file, how it is written, bytes a pixel as they count
    "rgb.webp": ("RGB", {"lossless": True, "method": 0}, 9),
    "rgba.webp": ("RGBA", {"lossless": True, "method": 0}, 9),
    "grey.jp2": ("L", {}, 4),
    "grey and opacity.jp2": ("LA", {}, 7),
    "rgb.jp2": ("RGB", {}, 10),
    "rgba.jp2": ("RGBA", {}, 13),
}


@pytest.mark.parametrize("name", SHORT)
def test_short_files_whose_decoders_take_much_may_declare_fewer_pixels(name, tmp_path, monkeypatch):
    (mode, options, each), file, side = SHORT[name], tmp_path / name, 4096
    Image.new(mode, (side, side)).save(file, **options)
    assert highest("read_image", file) < max(16, 2 * each) + 1  # of as many as may be declared a GiB
    small = tmp_path / f"small {name}"
    Image.new(mode, (64, 64)).save(small, **options)
    monkeypatch.setattr("mpc_lite.files.PIXELS_A_BYTE", 1)
    monkeypatch.setattr("mpc_lite.files.UNPROVEN_PIXELS", 64 * 64 * max(8, each) // 8)
    assert read_image(small).shape == (64, 64, 3)
    monkeypatch.setattr("mpc_lite.files.UNPROVEN_PIXELS", 64 * 64 * max(8, each) // 8 - 8)
    with pytest.raises(InputError, match=r"64×64 pixels.*, at most .* of a file of .* --max-pixels 4096"):
        read_image(small)


@pytest.mark.parametrize("channels", [3, 4])
def test_the_same_holds_for_deep_colours_of_jpeg_2000(channels, tmp_path):
    pixels = np.full((2048, 2048, channels), 40000, np.uint16)
    cv2.imwrite(str(tmp_path / "deep.jp2"), pixels)
    assert highest("read_image", tmp_path / "deep.jp2") < 2 * (3 * channels + 1)


@pytest.mark.parametrize("each", [9, 10, 13])
def test_photographs_of_24_to_102_megapixels_are_within_the_limit(each):
    assert pixel_limit(0, each) > 24_000_000 and pixel_limit(0, 10) > 48_000_000
    for megapixels in (48, 61, 102):  # at a quarter of a bit a pixel, which is little for a photograph
        assert pixel_limit(megapixels * 1_000_000 // 32, each) > megapixels * 1_000_000


def test_a_float_photograph_of_fifty_megapixels_is_within_the_limit():
    assert pixel_limit(8000 * 6250 * 12 // 3, 12) > 8000 * 6250 and pixel_limit(1 << 40, 24) * 24 > 2**31 - 24
    assert pixel_limit(0, 8) == pixel_limit(0) == 3 * pixel_limit(0, 24) + 1


@pytest.mark.parametrize("value", ["many", "-1", "0", "1e9", "9" * 5000])
def test_a_limit_that_is_no_number_is_told(value, monkeypatch):
    monkeypatch.setenv(RAISED, value)
    with pytest.raises(InputError, match=RAISED):
        pixel_limit(0)


@pytest.mark.parametrize("suffix", ["hdr", "pfm"])
def test_floats_in_colour_are_counted_by_their_own_header(suffix, tmp_path, monkeypatch):
    """OpenCV alone reads them, and no decoder that knows a limit sees them first."""
    values = np.linspace(0, 1, 9 * 8 * 3, dtype=np.float32).reshape(9, 8, 3)
    cv2.imwrite(str(tmp_path / f"photo.{suffix}"), values)
    assert read_image(tmp_path / f"photo.{suffix}").shape == (9, 8, 3)
    monkeypatch.setenv(RAISED, "71")
    with pytest.raises(InputError, match=rf"photo\.{suffix}: .*\(8×9 pixels of 12 bytes each, at most 71"):
        read_image(tmp_path / f"photo.{suffix}")
    monkeypatch.delenv(RAISED)
    data = (tmp_path / f"photo.{suffix}").read_bytes()
    data = data.replace(b"-Y 9 +X 8", b"-Y 32000 +X 32000").replace(b"8 9\n", b"32000 32000\n")
    (tmp_path / f"huge.{suffix}").write_bytes(data)
    with pytest.raises(InputError, match="32000×32000 pixels of 12 bytes each"):
        read_image(tmp_path / f"huge.{suffix}")


def test_the_more_bytes_a_pixel_has_the_fewer_are_read_of_any_file():
    assert pixel_limit(1 << 40, 8) == MAX_PIXELS and pixel_limit(1 << 40, 16) == MAX_PIXELS // 2
    assert pixel_limit(1 << 40, 12) * 24 <= 4 << 30  # two such pictures at once
