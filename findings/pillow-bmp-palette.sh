#!/usr/bin/env bash
# Pillow on a BMP of 4 or 8 bits a pixel whose palette is black and white: it unpacks single bits, another picture.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.4.0 opencv-python-headless==4.13.0.92

"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys

import cv2
import numpy as np
import PIL
from PIL import Image

print(f"Python {sys.version.split()[0]}, Pillow {PIL.__version__}, OpenCV {cv2.__version__}, NumPy {np.__version__}")
print("Guess: a BMP that Pillow has written, and one with the same header and palette of 4 bits a pixel, comes back as it")
print("       was, whatever the colours of its palette.")

shape = np.zeros((120, 160), np.uint8)
shape[30:95, 40:105] = 1


def saved(colours):
    """The shape as a BMP of 8 bits a pixel, by Pillow, in two colours."""
    picture, file = Image.fromarray(shape), io.BytesIO()
    picture.putpalette(colours)
    picture.save(file, "BMP")
    return file.getvalue()


def packed(greys):
    """The shape, with levels 0 and 1, as a BMP of 4 bits a pixel whose palette holds these greys."""
    pixels = (shape[::-1, ::2] << 4 | shape[::-1, 1::2]).tobytes()
    palette = b"".join(bytes([grey] * 3 + [0]) for grey in greys)
    start = 54 + len(palette)
    facts = struct.pack("<IiiHHIIiiII", 40, 160, 120, 1, 4, 0, len(pixels), 0, 0, len(greys), 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + facts + palette + pixels


FILES = {  # file, the value of level 1
    "8 bits, black and white": (saved([0, 0, 0, 255, 255, 255]), 255),
    "8 bits, black and nearly white": (saved([0, 0, 0, 254, 254, 254]), 254),
    "4 bits, black and white": (packed([0, 255]), 255),
    "4 bits, the greys 0, 1, … 15": (packed(range(16)), 1),
}
print("\nSeen, the share of pixels that are not black (it is 22.0 %), and whether every pixel is right")
seen = {}
for name, (data, level) in FILES.items():
    by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    right = np.array_equal(by_opencv, shape * np.uint8(level))
    try:
        picture = Image.open(io.BytesIO(data))
        values = np.asarray(picture.convert("L"))
        seen[name] = bool(np.array_equal(values, shape * np.uint8(level)))
        told = f"mode {picture.mode}, {(values > 0).mean():.1%}, {'right' if seen[name] else 'WRONG'}"
    except OSError as error:
        seen[name], told = None, f"refused ({error})"
    print(f"  {name}: Pillow {told}; OpenCV {(by_opencv > 0).mean():.1%}, {'right' if right else 'WRONG'}")
    if not right:
        sys.exit("\nChanged: OpenCV reads it differently.")

if list(seen.values()) != [False, True, False, None]:
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before. Why: BmpImagePlugin drops a palette of greys in order. With two of them it takes the mode '1' and with more 'L',")
print("and that mode as the way to unpack, too: 1 and 8 bits a pixel, whatever the header says. No error is raised for the former.")
PYTHON
