"""Cameras: from light to a photograph, with the marks that every camera leaves.

A `Camera` turns light (linear RGB in [0,1] without the marks of any camera) into a photograph: Bayer mosaic, sensor
noise, demosaicing, denoising and sharpening, tone curve, zoom, JPEG. Each split has its own cameras, drawn from its
ranges in `splits.yaml`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import cv2
import numpy as np
import yaml

from mpc_lite.errors import InputError
from mpc_lite.forgeries.resample import without_ipp
from mpc_lite.images import decode, encode_jpeg

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Camera:
    """One body and its settings; every field is drawn once, from its split's ranges in `splits.yaml`."""

    name: str
    demosaic: str
    gains: tuple[float, float, float]  # white balance, red green blue
    shot: float  # noise variance = shot * signal + read
    read: float
    denoise: float  # standard deviation of a Gaussian, pixels
    sharpen: float  # amount of unsharp masking
    gamma: float
    zoom: float  # 1 = none; otherwise the picture is resampled by this factor
    quality: int  # JPEG, libjpeg's scale
    subsampling: int  # 0 = 4:4:4, 2 = 4:2:0


@lru_cache(maxsize=1)
def split_ranges() -> dict:
    return yaml.safe_load((resources.files("mpc_lite.forgeries") / "splits.yaml").read_text(encoding="utf-8"))


@lru_cache(maxsize=8)
def cameras_of(split: str) -> tuple[Camera, ...]:
    """The split's cameras; split: train, validation or test."""
    if split not in SPLITS:
        raise InputError(f"split '{split}' is unknown; splits are {', '.join(SPLITS)}")
    ranges = split_ranges()[split]
    return tuple(_draw_camera(split, number, ranges) for number in range(ranges["cameras"]))


def _draw_camera(split: str, number: int, r: dict) -> Camera:
    rng = np.random.default_rng([zlib.crc32(split.encode()), number])
    log = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))  # noqa: E731
    return Camera(
        name=f"{split}-{number}",
        demosaic=str(rng.choice(r["demosaic"])),
        gains=(rng.uniform(1.3, 2.2), 1.0, rng.uniform(1.2, 2.0)),
        shot=log(*r["shot"]),
        read=log(*r["read"]),
        denoise=rng.uniform(*r["denoise"]) if rng.random() < 0.5 else 0.0,
        sharpen=rng.uniform(*r["sharpen"]),
        gamma=rng.uniform(*r["gamma"]),
        zoom=rng.uniform(*r["zoom"]) if rng.random() < r["zoom_share"] else 1.0,
        quality=int(rng.choice(r["quality"])),
        subsampling=int(rng.choice([0, 2])),
    )


# --- one photograph ---------------------------------------------------------------------------------------------------

# Filters read 16 bits, not float32: there OpenCV's versions, and processors with other instructions, agree on each bit.
_TOP = np.float32(65535)


def _whole(image: np.ndarray) -> np.ndarray:
    """[0,1] float32 -> uint16."""
    return np.round(image * _TOP).astype(np.uint16)


@lru_cache(maxsize=128)
def _tone_curve(gamma: float) -> np.ndarray:
    """What x^(1/gamma) makes of each of the 65536 values: uint16."""
    return np.round((np.arange(65536) / 65535) ** (1 / gamma) * 65535).astype(np.uint16)


@lru_cache(maxsize=64)
def _developed(gamma: float, gains: tuple[float, float, float]) -> tuple[np.ndarray, ...]:
    """What white balance and tone curve make of each of the 65536 values, for each colour: uint16."""
    values = np.arange(65536, dtype=np.uint16) / _TOP
    return tuple(_tone_curve(gamma)[_whole(np.clip(values * gain, 0, 1))] for gain in np.float32(gains))


def mosaic(light: np.ndarray) -> np.ndarray:
    """Keep one colour a pixel, RGGB: (H,W,3) -> (H,W)."""
    raw = light[..., 1].copy()
    raw[0::2, 0::2] = light[0::2, 0::2, 0]
    raw[1::2, 1::2] = light[1::2, 1::2, 2]
    return raw


def demosaic(raw: np.ndarray, method: str) -> np.ndarray:
    """Guess the two missing colours of every pixel: RGGB (H,W) float32 in [0,1] -> (H,W,3) float32.

    ``bilinear`` and ``edge_aware`` are OpenCV's; ``colour_difference`` interpolates red and blue as differences to
    green; ``malvar`` is the gradient-corrected linear filter of Malvar, He and Cutler (2004).
    """
    if method in _IN_WHOLE:
        return cv2.demosaicing(_whole(np.clip(raw, 0, 1)), _IN_WHOLE[method]) / _TOP
    red, green, blue = (np.zeros_like(raw) for _ in range(3))
    red[0::2, 0::2], blue[1::2, 1::2] = raw[0::2, 0::2], raw[1::2, 1::2]
    green[0::2, 1::2], green[1::2, 0::2] = raw[0::2, 1::2], raw[1::2, 0::2]
    if method == "colour_difference":
        green = cv2.filter2D(green, -1, _CROSS)
        for plane, part in ((red, np.s_[0::2, 0::2]), (blue, np.s_[1::2, 1::2])):
            plane[part] -= green[part]
        return np.dstack([green + cv2.filter2D(red, -1, _TENT), green, green + cv2.filter2D(blue, -1, _TENT)])
    if method != "malvar":
        raise InputError(f"demosaicing method '{method}' is unknown")
    # Whole numbers below 2^24 are added without rounding, in whatever order.
    whole = _whole(np.clip(raw, 0, 1)).astype(np.float32)
    at_colour, along, across, diagonal = (cv2.filter2D(whole, -1, 16 * kernel) / (16 * _TOP) for kernel in _MALVAR)
    out = np.dstack([raw, raw, raw])
    out[0::2, 0::2, 1], out[1::2, 1::2, 1] = at_colour[0::2, 0::2], at_colour[1::2, 1::2]
    out[0::2, 1::2, 0], out[1::2, 0::2, 0] = along[0::2, 1::2], across[1::2, 0::2]
    out[0::2, 1::2, 2], out[1::2, 0::2, 2] = across[0::2, 1::2], along[1::2, 0::2]
    out[1::2, 1::2, 0], out[0::2, 0::2, 2] = diagonal[1::2, 1::2], diagonal[0::2, 0::2]
    return out


# OpenCV names a Bayer pattern by its second row's second and third pixel: RGGB is its "BG".
_IN_WHOLE = {"bilinear": cv2.COLOR_BayerBG2RGB, "edge_aware": cv2.COLOR_BayerBG2RGB_EA}
_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
_TENT = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4
_ALONG = [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]
_MALVAR = [
    np.array(k, np.float32) / 8
    for k in (
        [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]],
        _ALONG,
        np.array(_ALONG).T,
        [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]],
    )
]


@without_ipp()
def shoot(light: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Photograph a scene: linear (H,W,3) float32 in [0,1] -> developed (H',W',3) uint8, before JPEG; H' = H * zoom."""
    gains = np.float32(camera.gains)
    raw = mosaic(light)
    raw[0::2, 0::2] /= gains[0]  # green has a gain of 1
    raw[1::2, 1::2] /= gains[2]
    spread = np.sqrt(camera.shot * raw + camera.read)
    raw = np.clip(raw + spread * rng.standard_normal(raw.shape, dtype=np.float32), 0, 1)
    if camera.demosaic in _IN_WHOLE:  # gains and tone curve of 65536 values instead of all pixels
        whole = cv2.demosaicing(_whole(raw), _IN_WHOLE[camera.demosaic])
        curves = _developed(camera.gamma, camera.gains)
        whole = np.dstack([np.take(*pair) for pair in zip(curves, cv2.split(whole), strict=True)])
    else:
        planes = demosaic(raw, camera.demosaic)
        # As one long row: three gains at a time would cost a loop a pixel.
        image = np.clip(planes.reshape(len(planes), -1) * np.tile(gains, planes.shape[1]), 0, 1)
        whole = np.take(_tone_curve(camera.gamma), _whole(image)).reshape(planes.shape)
    if camera.denoise > 0:
        whole = cv2.GaussianBlur(whole, (0, 0), max(camera.denoise, 0.1))
    image = whole / _TOP
    if camera.sharpen > 0:
        image = image + np.float32(camera.sharpen) * (image - cv2.GaussianBlur(whole, (0, 0), 1.0) / _TOP)
    if camera.zoom != 1:
        how = cv2.INTER_CUBIC if camera.zoom > 1 else cv2.INTER_AREA
        image = cv2.resize(image, None, fx=camera.zoom, fy=camera.zoom, interpolation=how)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def photograph(
    light: np.ndarray, camera: Camera, rng: np.random.Generator, size: int, shift: tuple[int, int]
) -> np.ndarray:
    """Shoot, save as JPEG, open again and cut (size, size); `shift` moves the cut, and with it the 8×8 grid, by 0-7."""
    saved = decode(encode_jpeg(shoot(light, camera, rng), camera.quality, camera.subsampling))
    top, left = (8 + s for s in shift)
    return saved[top : top + size, left : left + size]
