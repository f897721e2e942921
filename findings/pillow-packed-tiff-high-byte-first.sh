#!/usr/bin/env bash
# Pillow on a compressed TIFF with the high byte first: signed, 32-bit and float samples come back with their bytes exchanged.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.0 opencv-python-headless==4.13.0.92

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL
import tifffile
from PIL import Image

file = Path(sys.argv[1]) / "a.tif"
print(
    f"Python {sys.version.split()[0]}, Pillow {PIL.__version__}, tifffile {tifffile.__version__}, OpenCV {cv2.__version__}, "
    f"NumPy {np.__version__}"
)
print("Guess: the order of bytes and a lossless compression change no value: a mask of 0.0 and 1.0 comes back as it was.")

grey = np.add.outer(np.arange(0, 240, 6), np.arange(16))
KINDS = {"bytes": np.uint8, "unsigned 16": np.uint16, "signed 16": np.int16, "signed 32": np.int32, "float 32": np.float32}
READERS = {
    "tifffile": tifffile.imread,
    "OpenCV": lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
    "Pillow": lambda path: np.asarray(Image.open(path)),
}
seen = {}
print("\nSeen, whether a reader gives the values back:")
for name, kind in KINDS.items():
    for order, said in (("<", "low byte first"), (">", "high byte first")):
        for packing in (None, "zlib"):
            stored = grey.astype(kind)
            tifffile.imwrite(file, stored, byteorder=order, compression=packing)
            right = {reader: bool(np.array_equal(read(file).astype(float), stored)) for reader, read in READERS.items()}
            seen[name, order, packing] = right
            print(f"  {name:12} {said:15} {packing or 'plain':6} " + ", ".join(f"{r} {ok}" for r, ok in right.items()))

mask = grey > 120
tifffile.imwrite(file, mask.astype(np.float32), byteorder=">", compression="zlib")
values = np.asarray(Image.open(file))
print(f"A mask of 0.0 and 1.0, high byte first, zlib: Pillow's values run from {values.min():g} to {values.max():g}")

wrong = {key for key, right in seen.items() if not right["Pillow"]}
others = [right[name] for right in seen.values() for name in ("tifffile", "OpenCV")]
if wrong != {(name, ">", "zlib") for name in ("signed 16", "signed 32", "float 32")} or not all(others) or values.max() > 1e-30:
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before: no error, and such a mask is empty. Why: libtiff exchanges the bytes while it unpacks, and Pillow does so once more.")
PYTHON
