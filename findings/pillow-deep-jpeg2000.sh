#!/usr/bin/env bash
# Pillow on a JPEG 2000 in colours of more than 8 bits: white comes back black, without an error.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.4.0 opencv-python-headless==4.13.0.92 imagecodecs==2026.3.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import cv2
import imagecodecs
import numpy as np
import PIL
from PIL import Image

versions = f"Pillow {PIL.__version__}, OpenCV {cv2.__version__}, imagecodecs {imagecodecs.__version__}, NumPy {np.__version__}"
print(f"Python {sys.version.split()[0]}, {versions}")
print("Guess: a lossless JPEG 2000 with colours of 16 bits comes back as the high byte of each, to within a level.")

cv2.utils.logging.setLogLevel(0)
ramp = np.tile(np.linspace(0, 1, 256), (64, 1))
colour = np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])


def by_opencv(pixels):
    order = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return cv2.imencode(".jp2", np.ascontiguousarray(order))[1].tobytes()


def by_imagecodecs(bits):
    return lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, bitspersample=bits)


opaque = np.dstack([colour, np.ones_like(ramp)])
FILES = {  # file: pixels of 0 to 1, bits, the writer
    "RGB of 8 bits, by OpenCV": (colour, 8, by_opencv),
    "grey of 16 bits, by OpenCV": (ramp, 16, by_opencv),
    "RGB of 16 bits, by OpenCV": (colour, 16, by_opencv),
    "RGBA of 16 bits, by OpenCV": (opaque, 16, by_opencv),
    "RGB of 16 bits, by imagecodecs": (colour, 16, by_imagecodecs(16)),
    "RGB of 12 bits, by imagecodecs": (colour, 12, by_imagecodecs(12)),
}
print("\nSeen, of the pixels whose red is white: what Pillow gives, and how many values of the picture are off by more than 1 of 255")
seen = []
for name, (pixels, bits, write) in FILES.items():
    stored = np.round(pixels * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    data = write(stored)
    if not np.array_equal(imagecodecs.jpeg2k_decode(data), stored):
        sys.exit(f"\nChanged: {name} does not come back from imagecodecs as it was.")
    picture = Image.open(io.BytesIO(data))
    values = np.asarray(picture).astype(np.int64)
    values = values >> 8 if picture.mode.startswith("I") else values
    off = np.abs(values - np.round(pixels * 255)) > 1
    white = values[pixels == 1] if pixels.ndim == 2 else values[..., 0][pixels[..., 0] == 1]
    seen.append((picture.mode, sorted(set(white.tolist()))))
    print(f"  {name}: mode {picture.mode}, white is {seen[-1][1]}, {off.mean():.2%} are off")

if seen != [("RGB", [255]), ("I;16", [255]), ("RGB", [0]), ("RGBA", [0]), ("RGB", [0]), ("RGB", [0])]:
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before; imagecodecs gives every value back. Why: Jpeg2KDecode.c makes 8 bits by (value + half a step) >> (bits - 8) and")
print("keeps the low byte, so the last half step, white, wraps round to 0; opacity does too, and what is opaque becomes clear.")
PYTHON
