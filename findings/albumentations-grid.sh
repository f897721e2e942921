#!/usr/bin/env bash
# albumentations' GridDistortion: the last columns and rows of a picture become copies of the first.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '%s\n' albumentations==1.3.1 numpy==1.26.4 opencv-python-headless==4.8.1.78 scikit-image==0.26.0 \
    scikit-learn==1.9.1 scipy==1.17.1 qudida==0.0.4 > "$folder/old.txt"
printf '%s\n' albumentations==2.0.8 numpy==2.4.0 opencv-python-headless==4.13.0.92 scikit-image==0.26.0 \
    scipy==1.17.1 > "$folder/new.txt"

cat > "$folder/grid.py" <<'PYTHON'
import random
import sys

import albumentations as A
import cv2
import numpy as np
from skimage import data

print(f"\nPython {sys.version.split()[0]}, albumentations {A.__version__}, OpenCV {cv2.__version__}, NumPy {np.__version__}")


def copies(size, steps, normalized, seed):
    """How many of the last columns and rows, in picture and mask, repeat the first column and row."""
    picture = np.ascontiguousarray(data.astronaut()[100 : 100 + size, 100 : 100 + size])
    mask = np.zeros((size, size), np.uint8)
    mask[:, : size // 8] = 1  # a region at the left edge
    random.seed(seed)
    transform = A.GridDistortion(num_steps=steps, distort_limit=(-0.3, 0.3), normalized=normalized, p=1)
    if hasattr(transform, "set_random_seed"):
        transform.set_random_seed(seed)
    out = transform(image=picture, mask=mask)

    def repeated(lines):
        differs = [not np.array_equal(line, lines[0]) for line in lines[::-1]]
        return differs.index(True) if True in differs else len(lines)

    columns, rows = repeated(out["image"].swapaxes(0, 1)), repeated(out["image"])
    return columns, rows, bool(out["mask"][:, -1].any())


same = []
for size, steps, expected in ((256, 20, 4), (28, 10, 6), (224, 20, 0), (256, 5, 0)):
    for normalized in (False, True):
        draws = [copies(size, steps, normalized, seed) for seed in range(50)]
        columns, rows = (sorted({d[k] for d in draws}) for k in (0, 1))
        masks = sum(d[2] for d in draws)
        print(
            f"  {size} x {size}, num_steps={steps}, normalized={normalized}: in 50 draws the last {columns} columns and {rows}"
            f" rows repeat the first; the mask's left region reaches its right edge in {masks}"
        )
        same += [columns == [expected], rows == [expected], (masks > 0) == (expected > 0)]
sys.exit(0 if all(same) else "\nChanged: this is not what was seen before.")
PYTHON

echo "Guess: a grid of any number of steps stretches the whole picture; its right edge shows what lies near the right edge."
for which in old new; do
    python3.11 -m venv "$folder/$which"
    "$folder/$which/bin/pip" install --quiet -r "$folder/$which.txt"
    NO_ALBUMENTATIONS_UPDATE=1 "$folder/$which/bin/python" "$folder/grid.py"
done
echo
echo "As before. Why: cells are size // num_steps wide and one more cell of that width takes the remainder. Where the remainder"
echo "is larger (256 = 20 * 12 + 16), the source positions of what is left over stay 0: the first column, the first row."
