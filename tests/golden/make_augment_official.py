"""How augment_official.npz was made: what albumentations itself does to one small picture, at fixed parameters.

Run once, in an environment of its own: albumentations 1.3.1, opencv-python-headless 4.8.1.78, numpy 1.26.4. The tests
read the file only. Each case holds its parameters (NAME.0, NAME.1, ...) as ours takes them, NAME.image and, of what
moves pixels, NAME.mask.
"""

from pathlib import Path

import albumentations as A
import cv2
import numpy as np
from albumentations.augmentations import functional as F
from albumentations.augmentations.geometric import functional as G


class Dealt:
    """Stands for the random state that albumentations passes to its functions: deals prepared numbers in order."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def _deal(self, *_, **__):
        return self.numbers.pop(0)

    poisson = normal = uniform = rand = _deal


H, W = 27, 36
rng = np.random.default_rng(0)
y, x = np.mgrid[0:H, 0:W]
image = np.dstack([120 + 90 * np.sin(x / 3), 60 + 4 * y + 50 * (x > 17), 128 + 110 * np.cos(x * y / 70)])
image = np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
mask = ((x // 6 + y // 5) % 2).astype(np.uint8)
mask[:7, :9] = 255
out = {"image": image, "mask": mask}


def case(name, parameters, result, result_mask=None):
    out.update({f"{name}.{k}": np.asarray(p) for k, p in enumerate(parameters)})
    out[f"{name}.image"] = result
    if result_mask is not None:
        out[f"{name}.mask"] = result_mask


noise = np.round(rng.normal(0, 6, image.shape), 2).astype(np.float32)
case("gaussian_noise", [noise], F.gauss_noise(image, noise))
hue, photons = rng.normal(0, 9, (H, W)).astype(np.float32), rng.poisson(8, (H, W)).astype(np.float32)
case("iso_noise", [hue, photons], F.iso_noise(image, random_state=Dealt(photons, hue)))
case("downscale", [], F.downscale(image, 0.25, cv2.INTER_NEAREST, cv2.INTER_NEAREST))
case("brightness_contrast", [-0.15, 0.13], F.brightness_contrast_adjust(image, 1 - 0.15, 0.13, True))
case("gamma", [0.83], F.gamma_transform(image, 0.83))
case("tone_curve", [0.12, 0.81], F.move_tone_curve(image, 0.12, 0.81))
sharp = A.Sharpen(alpha=(0.37, 0.37), lightness=(0.6, 0.6)).get_params()["sharpening_matrix"]
case("sharpen", [0.37, 0.6], F.convolve(image, sharp))
case("jpeg", [57], np.ascontiguousarray(F.image_compression(image[..., ::-1], 57, ".jpg")[..., ::-1]))
for name, kernel in (("box_blur", A.Blur), ("gaussian_blur", A.GaussianBlur), ("median_blur", A.MedianBlur)):
    case(name, [5], kernel((5, 5), p=1)(image=image)["image"])
case("scale", [0.71], G.scale(image, 0.71, cv2.INTER_LINEAR), G.scale(mask, 0.71, cv2.INTER_NEAREST))
padded = A.PadIfNeeded(80, 80, border_mode=cv2.BORDER_REFLECT_101)(image=image, mask=mask)
case("pad", [80], padded["image"], padded["mask"])
shifts, field = rng.uniform(-6, 6, (3, 2)).astype(np.float32), rng.random((2, H, W))
elastic = [
    G.elastic_transform(p, 120, 6, 6, how, cv2.BORDER_REFLECT_101, None, Dealt(shifts, *field))
    for p, how in ((image, cv2.INTER_LINEAR), (mask, cv2.INTER_NEAREST))
]
case("elastic", [shifts, (2 * field - 1).astype(np.float32)], *elastic)
columns, rows = rng.uniform(0.7, 1.3, (2, 6))
grid = [
    G.grid_distortion(p, 5, columns, rows, how, cv2.BORDER_REFLECT_101)
    for p, how in ((image, cv2.INTER_LINEAR), (mask, cv2.INTER_NEAREST))
]
case("grid_distortion", [columns, rows], *grid)
np.savez_compressed(Path(__file__).with_name("augment_official.npz"), **out)
