#!/usr/bin/env bash
# OpenCV's x86 wheels: bicubic resizing, and linear of 16 bits and floats, has other values than where IPP is missing, as on ARM.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.0

cat > "$folder/resize.py" <<'PYTHON'
import sys

import cv2
import numpy as np

picture = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
KINDS = {"uint8": picture, "uint16": picture.astype(np.uint16) * 257, "float32": picture.astype(np.float32) / 255}
HOW = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
np.savez(sys.argv[1], **{
    f"{kind}, {name}": cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=how)
    for kind, pixels in KINDS.items() for name, how in HOW.items()
})
print(cv2.ipp.getIppVersion().split("(")[0])
PYTHON

cd "$folder"
for ipp in default avx2 disabled; do
    unset OPENCV_IPP
    [ $ipp = default ] || export OPENCV_IPP=$ipp
    printf '%s: ' $ipp
    venv/bin/python resize.py $ipp.npz
done
unset OPENCV_IPP

venv/bin/python - <<'PYTHON'
import platform
import sys
from importlib.metadata import version

import numpy as np

print(f"\nPython {platform.python_version()}, opencv-python-headless {version('opencv-python-headless')}, {platform.machine()}")
print("Guess: one version of OpenCV resizes a picture to the same values everywhere.")
print("\nSeen, 700×700 to 490×490: values that differ from those without IPP, by how much at most")
default, avx2, none = (np.load(f"{name}.npz") for name in ("default", "avx2", "disabled"))
differ = set()
for what in none:
    row = []
    for other in (default, avx2):
        apart = np.abs(other[what].astype(float) - none[what])
        row.append(f"{(apart > 0).mean():6.1%} {apart.max():8.2g}")
        differ |= {what} if apart.any() else set()
    print(f"  {what:16}as this processor has it {row[0]}   as one with AVX2 {row[1]}")
if differ != {"uint8, cubic", "uint16, linear", "uint16, cubic", "float32, linear", "float32, cubic"}:
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before. Why: the x86 wheels hold Intel's IPP, which takes these cases over, with code of its own for each kind of")
print("processor; wheels for ARM have none. Rounding and JPEG make a last bit into several levels. Whoever makes data")
print("that others are to make again calls cv2.ipp.setUseIPP(False), in each thread.")
PYTHON
