"""Pictures of more than 8 bits a sample, of which Pillow would make 8."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.Jpeg2KImagePlugin import BoxReader
from PIL.PpmImagePlugin import PpmImageFile

from mpc_lite.files import open_file

TILE = 512  # rows converted at a time, for no second copy


def deep_jpeg2000(file: BinaryIO, head: bytes) -> int:
    """How many bits a sample of a JPEG 2000 has, if more than 8, which Pillow rounds so that white becomes black; or 0.

    ValueError for those that OpenCV does not read, or takes for RGB.
    """
    file.seek(0)
    if head[4:8] == b"jP  ":
        boxes = BoxReader(file)
        with suppress(Exception):  # a damaged box, or one of no length: that goes on to the end, and is named already
            while boxes.next_box_type() != b"jp2c":
                pass
    start = file.read(42 + 4 * 3)  # the size, and three bytes for each of up to four samples
    known = len(start) == 54 and start.startswith(b"\xff\x4f\xff\x51")
    samples = [start[at : at + 3] for at in (42, 45, 48, 51)][: start[41]] if known else []
    if (bits := max([0, *(sample[0] & 127 for sample in samples)]) + 1) <= 8:
        return 0
    other_colours = re.search(rb"colr\x01..(?!\0\0\0[\x10\x11])", head, re.DOTALL)  # 16 is sRGB, 17 grey
    if bits > 16 or max(samples)[0] > 127 or len(set(samples)) > 1 or len(samples) == 2 or other_colours:
        raise ValueError(f"JPEG 2000 with {bits} bits that are no unsigned grey, RGB or RGBA; save it as PNG")
    return bits


def widened(values: np.ndarray, bits: int) -> np.ndarray:
    """Values of 9 to 15 bits as of 16, in their own memory, so that the greatest is 65535; all others as they are."""
    if values.dtype == np.uint16 and 8 < bits < 16:
        for first in range(0, len(values), TILE):
            band = values[first : first + TILE]
            band[:] = band << (16 - bits) | band >> (2 * bits - 16)
    return values


def deep_ppm(path: str | Path, image: Image.Image) -> np.ndarray | None:
    """The values (H,W,3) of a PPM in colour of more than 8 bits, opened as `image` and not loaded; None of all others.

    Pillow makes 8 bits of them whatever they hold, and black of small values. Those that use a quarter of their range
    or more are uint8, as it rounds them; others uint16 of 0–65535, as it gives grey ones, so that it shows whether they
    are bytes, labels, or of fewer bits than the header says. ValueError for a file that is cut, and in text for a value
    above its maximum.
    """
    if image.format != "PPM" or image.mode != "RGB" or image.tile[0][0] == "raw":
        return None
    coding, _, start, (_, top) = image.tile[0]
    if top < 256:
        return None
    width, height = image.size
    count = 3 * width * height
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size - start < 2 * count - 1:  # in text, a digit and a space each
            raise ValueError("the file is cut")
        file.seek(start)
        if coding == "ppm":
            values = np.fromfile(file, ">u2", count)
        else:  # numbers in text, comments between them: as grey of 65535, which Pillow leaves as it is
            with PpmImageFile(BytesIO(b"P2 %d %d 65535\n" % (3 * width, height) + file.read())) as grey:
                values = np.asarray(grey, np.uint16)
    if values.size < count:
        raise ValueError("the file is cut")
    values, high = values.reshape(height, width, 3), int(values.max())
    if high > top and coding != "ppm":
        raise ValueError(f"a value of {high}, at most {top} by its header")
    share = np.arange(65536).clip(max=top) / top
    dark = round(min(high, top) / top * 65535) < 0x4000
    table = np.round(share * 65535).astype(np.uint16) if dark else np.round(share * 255).astype(np.uint8)
    result = np.empty(values.shape, table.dtype)
    for first in range(0, height, TILE):
        result[first : first + TILE] = table[values[first : first + TILE]]
    return result
