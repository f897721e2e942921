#!/usr/bin/env bash
# tifffile on a boolean mask: the file says that its zeros are white, and every other reader sees the mask the other way round.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tifffile==2026.3.3 imageio==2.37.3 pillow==13.0.0 numpy==2.4.0 \
    opencv-python-headless==4.13.0.92

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib import metadata
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import PIL
import tifffile
from PIL import Image

folder = Path(sys.argv[1])
print(
    f"Python {sys.version.split()[0]}, tifffile {tifffile.__version__}, imageio {metadata.version('imageio')}, "
    f"Pillow {PIL.__version__}, OpenCV {cv2.__version__}, NumPy {np.__version__}"
)
print("Guess: a mask of True and False that is written as TIFF is read elsewhere as white on black, as its PNG is; and")
print("       the same mask as bytes of 0 and 255, written by the same call, is read alike.")

mask = np.zeros((120, 160), bool)
mask[30:95, 40:105] = True
FILES = {
    "boolean, tifffile": lambda file: tifffile.imwrite(file, mask),
    "boolean, imageio": lambda file: imageio.imwrite(file, mask),
    "bytes, tifffile": lambda file: tifffile.imwrite(file, mask.astype(np.uint8) * np.uint8(255)),
    "boolean, Pillow": lambda file: Image.fromarray(mask).save(file),
}
READERS = {
    "tifffile": tifffile.imread,
    "Pillow": lambda file: np.asarray(Image.open(file).convert("L")),
    "OpenCV": lambda file: cv2.imread(str(file), cv2.IMREAD_GRAYSCALE),
}
print(f"\nSeen, the share of pixels above 0 (it is {mask.mean():.1%})")
seen = {}
for number, (name, write) in enumerate(FILES.items()):
    write(file := folder / f"{number}.tif")
    with tifffile.TiffFile(file) as tiff:
        photometric = tiff.pages[0].photometric.name
    shares = {reader: float((read(file) > 0).mean()) for reader, read in READERS.items()}
    seen[name] = photometric, [np.isclose(share, mask.mean()) for share in shares.values()]
    print(f"  {name:18} {photometric:12}", *(f"{reader} {share:.1%}" for reader, share in shares.items()), sep="  ")

right, turned = [True, True, True], [True, False, False]
expected = {
    "boolean, tifffile": ("MINISWHITE", turned),
    "boolean, imageio": ("MINISWHITE", turned),
    "bytes, tifffile": ("MINISBLACK", right),
    "boolean, Pillow": ("MINISBLACK", right),
}
if seen != expected:
    sys.exit(f"changed: {seen}")
print("\nAs when this was written: only tifffile itself gives a boolean mask back; all others show what is not marked.")
PYTHON
