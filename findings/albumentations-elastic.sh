#!/usr/bin/env bash
# albumentations' ElasticTransform with its affine part: a picture that is not square is moved about the wrong point.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
# The affine part was removed in later releases; 1.3.1 is the one that published forensic training code still pins.
"$folder/venv/bin/pip" install --quiet albumentations==1.3.1 numpy==1.26.4 opencv-python-headless==4.8.1.78 \
    scikit-image==0.26.0 scikit-learn==1.9.1 scipy==1.17.1 qudida==0.0.4

"$folder/venv/bin/python" - <<'PYTHON'
import random
import sys

import albumentations as A
import cv2
import numpy as np

print(f"Python {sys.version.split()[0]}, albumentations {A.__version__}, OpenCV {cv2.__version__}, NumPy {np.__version__}")
print("Guess: the random affine map moves a picture about its middle, whatever its shape: a wide picture and its")
print("       transpose alike, and the point that moves least lies near the middle.")


def statistics(height, width, shift=20, draws=200):
    """Where the picture moves least, (x, y), and the root mean square shift there and in the middle, in pixels."""
    # A picture of coordinates: a pixel of the result says where it came from; the third channel says whether inside.
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    coordinates = np.dstack([x, y, np.ones_like(x)])
    transform = A.ElasticTransform(
        alpha=0, sigma=1, alpha_affine=shift, border_mode=cv2.BORDER_CONSTANT, value=0, p=1
    )  # alpha=0: the affine part alone
    turns, offsets = [], []
    for seed in range(draws):
        random.seed(seed)
        source = transform(image=coordinates)["image"]
        inside = (source[..., 2] > 0.999) & (x % 8 == 0) & (y % 8 == 0)
        points = np.column_stack([x[inside], y[inside], np.ones(inside.sum())]).astype(float)
        fit = np.linalg.lstsq(points, source[inside][:, :2].astype(float), rcond=None)[0].T  # (2,3), pixel -> source
        turns.append(fit[:, :2] - np.eye(2))
        offsets.append(fit[:, 2])
    turns, offsets = np.array(turns), np.array(offsets)
    # The mean square of D p + d over the draws is quadratic in p.
    least = -np.linalg.solve(np.einsum("nij,nik->jk", turns, turns), np.einsum("nij,ni->j", turns, offsets))

    def rms(point):
        return float(np.sqrt(np.square(turns @ point + offsets).sum(1).mean()))

    return least, rms(least), rms(np.array([(width - 1) / 2, (height - 1) / 2]))


print("\nSeen, alpha_affine=20, 200 draws each")
seen = {}
for height, width in ((480, 480), (480, 640), (640, 480), (256, 256), (256, 768), (768, 256)):
    least, there, middle = seen[height, width] = statistics(height, width)
    place = "inside" if 0 <= least[0] < width and 0 <= least[1] < height else "OUTSIDE"
    print(
        f"  {width} wide, {height} high: moves least at x = {least[0]:.0f}, y = {least[1]:.0f} ({place} the picture), by"
        f" {there:.1f} pixels; in the middle by {middle:.1f}"
    )

same = [
    seen[256, 256][2] < 20,
    seen[256, 768][1] < 20,
    seen[256, 768][2] > 2.5 * seen[256, 256][2],
    seen[256, 768][0][1] > 256,
    seen[768, 256][0][0] > 256,
    seen[640, 480][2] > 1.4 * seen[480, 640][2],
]
if not all(same):
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before. Why: the middle is taken as (height, width) // 2 and used as (x, y). The three points that are shifted lie")
print("about it, by a third of the shorter side; at 3 to 1 they are all outside, and the shift grows with the distance.")
PYTHON
