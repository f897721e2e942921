"""The released augmentation, one operation a function: what it does to grey levels, at given parameters.

Every function takes a picture (H,W,3) uint8 RGB and returns a new one of the same shape; the mask does not change.
The facts (parameters, kernels, colour spaces, where grey levels are cut off and where they are rounded) are those of
albumentations 1.3.1, which the released code pins; the code is ours. Borders are mirrored without the edge pixel.
Where ours differs, the function says so.
"""

from __future__ import annotations

import cv2
import numpy as np

from mpc_lite.images import decode, encode_jpeg

# ---------------------------------------------------------------------------------------------------------- compression


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Saved as JPEG and opened again: quality 0-100 on libjpeg's scale, chroma 4:2:0.

    Ours differs: albumentations hands its array to OpenCV's encoder, which takes the first channel for blue; on RGB
    pictures red and blue therefore change roles when luma and chroma are formed. Here red is red, as in every camera.
    """
    return decode(encode_jpeg(image, quality, subsampling=2))


# ----------------------------------------------------------------------------------------------------------------- blur


def box_blur(image: np.ndarray, kernel: int) -> np.ndarray:
    """The mean of kernel × kernel pixels."""
    return cv2.blur(image, (kernel, kernel))


def gaussian_blur(image: np.ndarray, kernel: int) -> np.ndarray:
    """A Gaussian of kernel × kernel pixels, kernel odd; its width is OpenCV's choice for a kernel alone.

    That is 0.3·((kernel − 1)/2 − 1) + 0.8, but for small kernels, which OpenCV has in tables (`degrade.blur_sigma`).
    """
    return cv2.GaussianBlur(image, (kernel, kernel), 0)


def median_blur(image: np.ndarray, kernel: int) -> np.ndarray:
    """The median of kernel × kernel pixels, kernel odd, colour by colour; its borders repeat the edge pixel."""
    return cv2.medianBlur(image, kernel)


def motion_blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Weighted with a `motion_kernel` (K,K): the trace of a camera that moved."""
    return _filtered(image, kernel)


def motion_kernel(size: int, start: tuple[int, int], end: tuple[int, int]) -> np.ndarray:
    """A straight line one pixel wide: (size,size) float32 with sum 1; start and end are (x, y), both included."""
    line = cv2.line(np.zeros((size, size), np.uint8), start, end, 1)
    return (line / line.sum()).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------- resolution


def downscale(image: np.ndarray, step: int = 4) -> np.ndarray:
    """Every `step`-th pixel of every `step`-th row, enlarged to the old size by repeating pixels (nearest)."""
    height, width = image.shape[:2]
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    small = np.ascontiguousarray(image[::step, ::step][:rows, :columns])
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


# --------------------------------------------------------------------------------------------------------------- noise


def gaussian_noise(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Noise (H,W,3) in grey levels of 0-255, added; the sum is cut to 0-255 and its fraction is cut off.

    Cutting instead of rounding darkens the picture by half a grey level on the average, there as here.
    """
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def lightness_deviation(image: np.ndarray) -> float:
    """Standard deviation of the lightness, L of HLS in [0,1], over the pixels."""
    low, high = image.min(axis=2), image.max(axis=2)
    return float((low.astype(np.float32) + high).std(dtype=np.float64) / 510)


def iso_noise(image: np.ndarray, hue: np.ndarray, photons: np.ndarray) -> np.ndarray:
    """Noise of a sensor at a high sensitivity, in the colour space HLS.

    Args:
        hue: (H,W) degrees, added to the hue on its circle; albumentations draws them Gaussian, mean 0.
        photons: (H,W) counts n >= 0, L -> L + (n / 255)·(1 − L); drawn from a Poisson law whose mean is
            255 · intensity · `lightness_deviation`, so a flat picture gets none.
    Returns:
        The picture, back in RGB; fractions of grey levels are cut off.
    """
    hue_of, light, saturation = _to_hls(image.astype(np.float32) * np.float32(1 / 255))
    hue_of = np.mod(hue_of + hue, 360).astype(np.float32)
    light = (light + photons / 255 * (1 - light)).astype(np.float32)
    return np.clip(_from_hls(hue_of, light, saturation) * 255, 0, 255).astype(np.uint8)


# OpenCV's conversions of float32 round otherwise on processors with and without AVX2.


def _to_hls(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB (H,W,3) float32 in [0,1] -> hue in degrees, lightness and saturation in [0,1], (H,W) float32 each."""
    red, green, blue = np.moveaxis(picture, 2, 0)
    top, low = picture.max(axis=2), picture.min(axis=2)
    spread, light = top - low, (top + low) * np.float32(0.5)
    grey = spread <= np.finfo(np.float32).eps
    some = np.where(grey, 1, spread)
    sector = np.where(
        top == red, (green - blue) / some, np.where(top == green, (blue - red) / some + 2, (red - green) / some + 4)
    )
    hue = np.where(grey, 0, np.where(sector < 0, sector * 60 + 360, sector * 60))
    saturation = np.where(grey, 0, spread / np.where(grey, 1, np.where(light < 0.5, top + low, 2 - top - low)))
    return hue, light, saturation


def _from_hls(hue: np.ndarray, light: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """Back to RGB, (H,W,3) float32."""
    top = np.where(light <= 0.5, light * (1 + saturation), light + saturation - light * saturation)
    low = 2 * light - top
    # Each colour is at its top for a third of the circle, climbs for a sixth before that and falls for one after it.
    places = (np.mod(hue / np.float32(60) + np.float32(start), 6) for start in (2, 0, 4))
    return np.stack([low + (top - low) * np.clip(np.minimum(at, 4 - at), 0, 1) for at in places], axis=2)


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """OpenCV's `filter2D`, the sums formed in float64: with weights of float32 they are exact, in whatever order a
    processor forms them."""
    sums = cv2.filter2D(image, cv2.CV_64F, kernel.astype(np.float64))
    return np.clip(np.rint(sums), 0, 255).astype(np.uint8)


# --------------------------------------------------------------------------------------------------------------- tones


def brightness_contrast(image: np.ndarray, contrast: float, brightness: float) -> np.ndarray:
    """g -> (1 + contrast)·g + 255·brightness, cut to 0-255, fractions cut off. Both are 0 for no change."""
    levels = np.arange(256) * (1 + contrast) + 255 * brightness
    return np.clip(levels, 0, 255).astype(np.uint8)[image]


def gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    """g -> 255·(g / 255)^exponent, fractions cut off; below 1 brightens."""
    return (255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)[image]


def tone_curve(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """A cubic Bézier curve over the grey levels t = g / 255, rounded: y = 3(1−t)²t·low + 3(1−t)t²·high + t³.

    low and high, in [0,1], are the heights of the two inner control points; 1/3 and 2/3 would leave the picture alone.
    """
    t = np.linspace(0, 1, 256)
    curve = 3 * (1 - t) ** 2 * t * low + 3 * (1 - t) * t**2 * high + t**3
    return np.rint(255 * curve).astype(np.uint8)[image]


def sharpen(image: np.ndarray, alpha: float, lightness: float) -> np.ndarray:
    """The picture and its Laplacian mixed: weights −alpha around, (1 − alpha) + alpha·(8 + lightness) in the centre.

    The weights add up to 1 − alpha·(1 − lightness): a lightness below 1 darkens.
    """
    kernel = np.full((3, 3), -alpha, np.float32)
    kernel[1, 1] = 1 - alpha + alpha * (8 + lightness)
    return _filtered(image, kernel)
