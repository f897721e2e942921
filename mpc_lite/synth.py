"""Forgeries from cameras: what a splice leaves behind, made from known parts.

A *scene* is light: linear RGB in [0, 1] without the marks of any camera. A `Camera` turns light into a photograph:
Bayer mosaic, sensor noise, demosaicing, denoising and sharpening, tone curve, zoom, JPEG. `forge` takes a photograph
and pastes a piece of another camera's photograph (splice), a transformed piece of itself (copy-move), or what OpenCV's
inpainting makes up (removal). Everything is a pure function of (split, seed, index): the same numbers give the same
bytes in any process and with any number of workers.

A *null splice* is the control: both photographs come from the same camera with the same settings, on the same mosaic
and JPEG grids. Nothing but the content differs, so a model that marks it has learnt the paste, not the trace.
"""

from __future__ import annotations

import csv
import io
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from mpc_lite.config import InputError
from mpc_lite.scenes import Scenes

SPLITS = ("train", "validation", "test")
KINDS = ("splice", "copy_move", "removal", "authentic")
SHARES = {"splice": 0.6, "copy_move": 0.2, "removal": 0.2}  # among tampered images: a splice is the paper's main case
MARGIN = 16  # pixels shot beyond the picture, so that borders of filters never show and the JPEG grid can be shifted


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


@dataclass(frozen=True)
class Forgery:
    """image (H,W,3) uint8 RGB; mask (H,W) uint8, 1 = tampered; jpeg: the file, where the last save was a JPEG."""

    image: np.ndarray
    mask: np.ndarray
    kind: str
    cameras: tuple[str, ...]
    jpeg: bytes | None


@lru_cache(maxsize=1)
def split_ranges() -> dict:
    return yaml.safe_load((resources.files("mpc_lite") / "splits.yaml").read_text(encoding="utf-8"))


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
    if method in ("bilinear", "edge_aware"):
        # OpenCV names a Bayer pattern by its second row's second and third pixel: RGGB is its "BG".
        code = cv2.COLOR_BayerBG2RGB if method == "bilinear" else cv2.COLOR_BayerBG2RGB_EA
        full = cv2.demosaicing(np.round(np.clip(raw, 0, 1) * 65535).astype(np.uint16), code)
        return full.astype(np.float32) / 65535
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
    at_colour, along, across, diagonal = (cv2.filter2D(raw, -1, kernel) for kernel in _MALVAR)
    out = np.dstack([raw, raw, raw])
    out[0::2, 0::2, 1], out[1::2, 1::2, 1] = at_colour[0::2, 0::2], at_colour[1::2, 1::2]
    out[0::2, 1::2, 0], out[1::2, 0::2, 0] = along[0::2, 1::2], across[1::2, 0::2]
    out[0::2, 1::2, 2], out[1::2, 0::2, 2] = across[0::2, 1::2], along[1::2, 0::2]
    out[1::2, 1::2, 0], out[0::2, 0::2, 2] = diagonal[1::2, 1::2], diagonal[0::2, 0::2]
    return out


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


def shoot(light: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Photograph a scene: linear (H,W,3) float32 in [0,1] -> developed (H',W',3) uint8, before JPEG; H' = H * zoom."""
    gains = np.float32(camera.gains)
    raw = mosaic(light / gains)
    spread = np.sqrt(camera.shot * raw + camera.read)
    raw = np.clip(raw + spread * rng.standard_normal(raw.shape, dtype=np.float32), 0, 1)
    image = np.clip(demosaic(raw, camera.demosaic) * gains, 0, 1)
    image = image ** np.float32(1 / camera.gamma)
    if camera.denoise > 0:
        image = cv2.GaussianBlur(image, (0, 0), max(camera.denoise, 0.1))
    if camera.sharpen > 0:
        image = image + np.float32(camera.sharpen) * (image - cv2.GaussianBlur(image, (0, 0), 1.0))
    if camera.zoom != 1:
        how = cv2.INTER_CUBIC if camera.zoom > 1 else cv2.INTER_AREA
        image = cv2.resize(image, None, fx=camera.zoom, fy=camera.zoom, interpolation=how)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def encode_jpeg(image: np.ndarray, quality: int, subsampling: int) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
        return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def photograph(
    light: np.ndarray, camera: Camera, rng: np.random.Generator, size: int, shift: tuple[int, int]
) -> np.ndarray:
    """Shoot, save as JPEG, open again and cut (size, size); `shift` moves the cut, and with it the 8×8 grid, by 0-7."""
    saved = decode(encode_jpeg(shoot(light, camera, rng), camera.quality, camera.subsampling))
    top, left = (8 + s for s in shift)
    return saved[top : top + size, left : left + size]


# --- one forgery ------------------------------------------------------------------------------------------------------


def region(rng: np.random.Generator, size: int, area: tuple[float, float]) -> np.ndarray:
    """A random tampered region: (size,size) uint8 0/1; ellipse, polygon or blob that covers `area` of the picture."""
    share = np.exp(rng.uniform(np.log(area[0]), np.log(area[1])))
    grid = np.mgrid[0:size, 0:size].astype(np.float32)
    centre = rng.uniform(0.2, 0.8, 2) * size
    angle = np.arctan2(grid[0] - centre[0], grid[1] - centre[1])
    distance = np.hypot((grid[0] - centre[0]) * rng.uniform(0.7, 1.4), (grid[1] - centre[1]) * rng.uniform(0.7, 1.4))
    shape = rng.integers(3)
    if shape == 1:  # polygon: the distance to the nearest of a few random half-planes
        turns = rng.uniform(0, 2 * np.pi, rng.integers(3, 7))
        distance = distance * np.max([np.cos(angle - turn) for turn in turns], axis=0).clip(0.3)
    elif shape == 2:  # blob: a radius that swings with the angle
        for wave in range(2, 6):
            distance = distance * np.float32(
                1 + 0.5 / wave * rng.uniform(-1, 1) * np.cos(wave * angle + rng.uniform(0, 6))
            )
    # The threshold is the distance below which just that share of the pixels lies: the area is met exactly.
    return (distance <= np.quantile(distance, share)).astype(np.uint8)


def forge(
    split: str,
    seed: int,
    index: int,
    scenes: Scenes,
    size: int = 256,
    authentic_share: float = 0.2,
    kind: str | None = None,
    null: bool = False,
) -> Forgery:
    """Make forgery number `index` of the stream `seed`: a pure function of its arguments.

    Args:
        split: train, validation or test; names the cameras. scenes: that split's scenes.
        size: height and width, pixels. kind: one of `KINDS`, or None to draw it. null: a splice from the same camera.
    """
    ranges = split_ranges()[split]
    rng = np.random.default_rng([zlib.crc32(split.encode()), seed, index])
    drawn = "authentic" if rng.random() < authentic_share else str(rng.choice(list(SHARES), p=list(SHARES.values())))
    kind = "splice" if null else (kind or drawn)
    bank = cameras_of(split)
    first, second = rng.choice(len(bank), 2, replace=False)
    host, donor = bank[first], bank[first if null else second]
    shift = tuple(rng.integers(0, 8, 2)) if rng.random() < 0.5 else (0, 0)
    image = _picture(scenes, host, rng, size, shift).copy()
    mask = np.zeros((size, size), np.uint8)
    used = (host.name,)
    if kind != "authentic":
        mask = region(rng, size, ranges["area"])
        if kind == "splice":
            pasted = _picture(scenes, donor, rng, size, shift if null else tuple(rng.integers(0, 8, 2)))
            used = (host.name, donor.name)
        elif kind == "copy_move":
            pasted, mask = _move(image, mask, rng)
        else:
            flag = cv2.INPAINT_TELEA if rng.random() < 0.5 else cv2.INPAINT_NS
            pasted = cv2.inpaint(image, cv2.dilate(mask, np.ones((3, 3), np.uint8)), 3, flag)
        image = _blend(image, pasted, mask, feather=float(rng.uniform(0.5, 2.0)) if rng.random() < 0.5 else 0.0)
    if rng.random() < ranges["final_share"]:
        jpeg = encode_jpeg(image, int(rng.choice(ranges["final"])), int(rng.choice([0, 2])))
        return Forgery(decode(jpeg), mask, kind, used, jpeg)
    return Forgery(image, mask, kind, used, None)


def _picture(scenes: Scenes, camera: Camera, rng: np.random.Generator, size: int, shift: tuple[int, int]) -> np.ndarray:
    """One photograph of a random piece of a random scene."""
    side = int(np.ceil((size + MARGIN) / camera.zoom)) + 2
    light = scenes.view(int(rng.integers(len(scenes))), side + side % 2, rng)
    return photograph(light, camera, rng, size, shift)


def _move(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Copy-move: show under `mask` another place of the same picture, scaled and turned."""
    size = mask.shape[0]
    rows, columns = np.nonzero(mask)
    here = np.array([columns.mean(), rows.mean()])
    there = rng.uniform(0.15, 0.85, 2) * size
    turn = cv2.getRotationMatrix2D(tuple(map(float, there)), rng.uniform(-25, 25), rng.uniform(0.8, 1.25))
    turn[:, 2] += here - there
    moved = cv2.warpAffine(image, turn, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return moved, mask


def _blend(image: np.ndarray, pasted: np.ndarray, mask: np.ndarray, feather: float) -> np.ndarray:
    if feather == 0:
        return np.where(mask[..., None] == 1, pasted, image)
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), feather)[..., None]
    return np.round(weight * pasted + (1 - weight) * image).astype(np.uint8)


def write_set(
    out: Path,
    split: str,
    n: int,
    seed: int,
    size: int,
    scenes: Scenes,
    authentic_share: float = 0.2,
    kind: str | None = None,
    null: bool = False,
) -> Path:
    """Write `n` forgeries, their masks (0 / 255) and ``manifest.csv`` into `out`; returns the manifest's path.

    The source column reads ``ORIGIN-KIND``; ORIGIN is ``generated`` for scenes that come with the package.
    """
    out = Path(out)
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "masks").mkdir(exist_ok=True)
    with open(out / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", "label", "source", "split", "cameras"])
        for index in range(n):
            made = forge(split, seed, index, scenes, size, authentic_share, kind, null)
            name = f"{index:06d}.jpg" if made.jpeg else f"{index:06d}.png"
            if made.jpeg:
                (out / "images" / name).write_bytes(made.jpeg)
            else:
                Image.fromarray(made.image).save(out / "images" / name)
            tampered = made.kind != "authentic"
            if tampered:
                Image.fromarray(made.mask * 255).save(out / "masks" / f"{index:06d}.png")
            label = "null_splice" if null else made.kind
            mask = f"masks/{index:06d}.png" if tampered else ""
            row = [f"images/{name}", mask, int(tampered), f"{scenes.origin}-{label}", split, " ".join(made.cameras)]
            table.writerow(row)
    return out / "manifest.csv"
