#!/usr/bin/env bash
# kornia's JPEG codec against the files of Pillow at the same quality: greys come back tinted, photographs differ.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
# Where PyPI's wheel of torch is too large (it brings CUDA along), PIP_INDEX_URL or PIP_FIND_LINKS can name one for CPUs.
"$folder/venv/bin/pip" install --quiet \
    torch==2.13.0 kornia==0.9.0 numpy==2.4.0 pillow==13.0.0 scikit-image==0.26.0

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
import warnings

import kornia
import numpy as np
import PIL
import torch
from PIL import Image
from skimage import data

warnings.simplefilter("ignore")
print(f"Python {sys.version.split()[0]}, kornia {kornia.__version__}, torch {torch.__version__}, Pillow {PIL.__version__}")
print("Guess: jpeg_codec_differentiable gives about what a JPEG file of that quality gives: grey stays grey, and the")
print("       values differ by what rounding explains, a level or two. Its documentation names no other difference.")


def by_kornia(picture, quality):
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
    saved = kornia.enhance.jpeg_codec_differentiable(pixels, torch.tensor([float(quality)]))
    return 255 * saved[0].permute(1, 2, 0).double().numpy()


def by_pillow(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file)).astype(float)


same = []
print("\nSeen, an even grey of 119: red, green, blue")
grey = np.full((64, 64, 3), 119, np.uint8)
for quality in (50, 75, 90, 95):
    ours, file = by_kornia(grey, quality).mean((0, 1)), by_pillow(grey, quality).mean((0, 1))
    tint = ours[[0, 2]].mean() - ours[1]
    print(f"  quality {quality}: kornia {np.round(ours, 2).tolist()}, Pillow {file.tolist()}, tint {tint:.2f}")
    same += [np.ptp(file) == 0, (tint > 1.0) == (quality <= 75)]

print("\nSeen, photographs, kornia's values rounded to whole levels and compared with Pillow's")
photographs = {"astronaut": data.astronaut(), "camera (grey)": np.dstack([data.camera()] * 3)}
for name, picture in photographs.items():
    for quality in (75, 90):
        ours, file = np.round(by_kornia(picture, quality)).clip(0, 255), by_pillow(picture, quality)
        apart = np.abs(ours - file)
        shift = (ours - picture).mean((0, 1)), (file - picture).mean((0, 1))
        print(
            f"  {name}, quality {quality}: differs by {apart.mean():.2f} levels on average, {apart.max():.0f} at most, by over 2 in"
            f" {(apart > 2).mean():.1%}; mean shift of R, G, B {np.round(shift[0], 2).tolist()}, Pillow's"
            f" {np.round(shift[1], 2).tolist()}"
        )
        same += [apart.max() > 5, 0.2 < apart.mean() < 2]

if not all(same):
    sys.exit("\nChanged: this is not what was seen before.")
print("\nAs before. Why: kornia puts neutral colour at 127.5 and the codec quantises its distance from 128. That half level")
print("is rounded away wherever the step is large, so a neutral pixel comes back at 128, a little red and blue. Beside it,")
print("rounding is a polynomial, of coefficients and of the steps themselves: some steps are nearly one below libjpeg's.")
PYTHON
