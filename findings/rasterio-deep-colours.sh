#!/usr/bin/env bash
# rasterio on three bands of 16 bits: the TIFF calls them grey, and OpenCV gives one grey channel where it gives three of 8 bits.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rasterio==1.4.3 pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.0 \
    opencv-python-headless==4.13.0.92

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import PIL
import rasterio
import tifffile
from PIL import Image

file = Path(sys.argv[1]) / "a.tif"
warnings.simplefilter("ignore")  # that a plain picture has no place on the earth
print(
    f"Python {sys.version.split()[0]}, rasterio {rasterio.__version__} (GDAL {rasterio.__gdal_version__}), "
    f"OpenCV {cv2.__version__}, Pillow {PIL.__version__}, NumPy {np.__version__}"
)
print("Guess: three bands of 16 bits, written as three bands of 8 bits are, are a picture in colour for whoever reads them.")

ramp = np.tile(np.linspace(0, 255, 128), (96, 1)).astype(np.uint8)
colour = np.stack([ramp, ramp[::-1, ::-1], 255 - ramp // 2])  # (3, H, W)


def by_opencv(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else image[..., ::-1]


def by_pillow(path):
    try:
        return np.asarray(Image.open(path))
    except OSError as error:
        return str(error).partition(" file")[0]


seen = {}
print("\nSeen:")
for bits, bands, more in ((8, colour, {}), (16, colour * np.uint16(257), {}), (16, colour * np.uint16(257), {"photometric": "RGB"})):
    options = {"driver": "GTiff", "count": 3, "height": 96, "width": 128, "dtype": bands.dtype, **more}
    with rasterio.open(file, "w", **options) as target:
        target.write(bands)
    page = tifffile.TiffFile(file).pages[0]
    image, pillow = by_opencv(file), by_pillow(file)
    right = image.shape == (96, 128, 3) and np.array_equal(image, np.moveaxis(bands, 0, 2))
    found = pillow if isinstance(pillow, str) else f"shape {pillow.shape} of {pillow.dtype}"
    seen[bits, bool(more)] = (page.photometric.name, image.ndim, bool(right))
    print(f"  {bits} bits{', photometric=RGB' if more else ''}: the file says {page.photometric.name};", end=" ")
    print(f"OpenCV gives shape {image.shape}, {'the' if right else 'not the'} colours; Pillow: {found}")

if seen != {(8, False): ("RGB", 3, True), (16, False): ("MINISBLACK", 2, False), (16, True): ("RGB", 3, True)}:
    sys.exit(f"\nChanged: {seen}")
print("\nAs before: of 8 bits GDAL says RGB by itself, of 16 it says grey with two samples beside, and OpenCV makes one grey channel.")
PYTHON
