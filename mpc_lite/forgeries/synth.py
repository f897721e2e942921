"""Forgeries from cameras: what a splice leaves behind, made from known parts.

`forge` takes a photograph (light from a scene, through a `Camera`) and pastes a piece of another camera's photograph
(splice), a transformed piece of itself (copy-move), or what OpenCV's inpainting makes up (removal). Everything is a
pure function of (split, seed, index): the same numbers give the same bytes in any process and with any number of
workers.

A *null splice* is the control: both photographs come from the same camera with the same settings, on the same mosaic
and JPEG grids. Nothing but the content differs, so a model that marks it has learnt the paste, not the trace.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mpc_lite.errors import InputError, some
from mpc_lite.files import check_plain, write_atomic
from mpc_lite.forgeries.camera import Camera, cameras_of, photograph, split_ranges
from mpc_lite.forgeries.resample import affine, without_ipp
from mpc_lite.forgeries.scenes import SET_COLUMNS, SET_FOLDERS, UNFINISHED, Scenes
from mpc_lite.images import decode, encode_jpeg
from mpc_lite.run_folder import HOLDER, LOCK, TEMPORARY, locked, of_the_system

KINDS = ("splice", "copy_move", "removal", "authentic")
SHARES = {"splice": 0.6, "copy_move": 0.2, "removal": 0.2}  # among tampered images: a splice is the paper's main case
MARGIN = 16  # pixels shot beyond the picture, so that borders of filters never show and the JPEG grid can be shifted


@dataclass(frozen=True)
class Forgery:
    """image (H,W,3) uint8 RGB; mask (H,W) uint8, 1 = tampered; jpeg: the file, where the last save was a JPEG."""

    image: np.ndarray
    mask: np.ndarray
    kind: str
    cameras: tuple[str, ...]
    jpeg: bytes | None


def region(rng: np.random.Generator, size: int, area: tuple[float, float]) -> np.ndarray:
    """A random tampered region: (size,size) uint8 0/1; ellipse, polygon or blob that covers `area` of the picture."""
    share = np.exp(rng.uniform(np.log(area[0]), np.log(area[1])))
    places = np.arange(size, dtype=np.float32)
    centre = rng.uniform(0.2, 0.8, 2) * size
    down, along = (places - centre[0])[:, None], (places - centre[1])[None]
    distance = np.hypot(down * rng.uniform(0.7, 1.4), along * rng.uniform(0.7, 1.4))
    shape = rng.integers(3)
    angle = np.arctan2(down, along) if shape else None
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


@without_ipp()
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
    random_kind = (
        "authentic" if rng.random() < authentic_share else str(rng.choice(list(SHARES), p=list(SHARES.values())))
    )
    kind = "splice" if null else (kind or random_kind)
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
    return affine(image, turn), mask


def _blend(image: np.ndarray, pasted: np.ndarray, mask: np.ndarray, feather: float) -> np.ndarray:
    if feather == 0:
        return np.where(mask[..., None] == 1, pasted, image)
    weight = cv2.merge([softened(mask, feather)] * 3)  # whole: three colours at a time would cost a loop a pixel
    return np.round(weight * pasted + (1 - weight) * image).astype(np.uint8)


def softened(mask: np.ndarray, sigma: float) -> np.ndarray:
    """A mask (H,W) uint8 0/1 after a Gaussian of `sigma` pixels: float32 in [0,1], the same under every OpenCV."""
    return cv2.GaussianBlur(mask * np.uint16(65535), (0, 0), sigma) / np.float32(65535)


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
    fresh: bool = False,
) -> Path:
    """Write `n` forgeries, their masks (0 / 255) and ``manifest.csv`` into `out`; returns the manifest's path.

    The source column reads ``ORIGIN-KIND``; ORIGIN is ``generated`` for scenes that come with the package. fresh: into
    a folder without anything else (`check_fresh`). InputError while another process writes there.
    """
    stream = (forge(split, seed, index, scenes, size, authentic_share, kind, null) for index in range(n))
    return write_forgeries(out, split, ((forgery, scenes.origin) for forgery in stream), null, fresh)


def check_fresh(out: Path) -> None:
    """InputError where a folder holds anything but a lock, what systems put there, and what a killed writer left, a set
    of nobody's."""
    names = {path.name for path in out.iterdir() if not TEMPORARY.fullmatch(path.name)} if out.exists() else set()
    left = {UNFINISHED, *SET_FOLDERS, "manifest.csv"} if UNFINISHED in names else set()
    names -= {LOCK, HOLDER, *filter(of_the_system, names)}
    if names - left:
        raise InputError(
            f"--out {out} is not empty (found {some(sorted(names), 3)}); choose another folder: "
            "a set starts in an empty one"
        )


def write_forgeries(
    out: Path, split: str, forgeries: Iterable[tuple[Forgery, str]], null: bool = False, fresh: bool = False
) -> Path:
    """`write_set` of forgeries that are made elsewhere, each with its ORIGIN.

    A set that is not finished carries the file `UNFINISHED`; the next set in its folder takes its place.
    """
    out = Path(out)
    with locked(out, "Ctrl-C, or SIGTERM"):
        if fresh:
            check_fresh(out)
        try:
            return _write(out, split, forgeries, null)
        except OSError as error:  # of a full disk Python does not say where
            error.filename = error.filename or str(out)
            raise


def _write(out: Path, split: str, forgeries: Iterable[tuple[Forgery, str]], null: bool) -> Path:
    """`write_forgeries`, in a folder that is locked."""
    check_plain(out / "manifest.csv")
    if link := next((out / name for name in SET_FOLDERS if os.path.islink(out / name)), None):
        raise InputError(
            f"{link} is a link, and pictures would go to where it leads; delete it, or choose another folder"
        )
    if (out / UNFINISHED).exists():
        for name in SET_FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
    (out / UNFINISHED).touch()  # before all else: a folder without it is taken for somebody's
    for name in SET_FOLDERS:
        (out / name).mkdir(exist_ok=True)
    (out / "manifest.csv").unlink(missing_ok=True)  # nobody takes a part of a set for the whole
    table = csv.writer(text := io.StringIO(newline=""))
    table.writerow(SET_COLUMNS)
    for index, (forgery, origin) in enumerate(forgeries):
        name = f"{index:06d}.jpg" if forgery.jpeg else f"{index:06d}.png"
        if forgery.jpeg:
            (out / "images" / name).write_bytes(forgery.jpeg)
        else:
            Image.fromarray(forgery.image).save(out / "images" / name)
        tampered = forgery.kind != "authentic"
        if tampered:
            Image.fromarray(forgery.mask * 255).save(out / "masks" / f"{index:06d}.png")
        label = "null_splice" if null else forgery.kind
        mask = f"masks/{index:06d}.png" if tampered else ""
        row = [f"images/{name}", mask, int(tampered), f"{origin}-{label}", split, " ".join(forgery.cameras)]
        table.writerow(row)
    write_atomic(out / "manifest.csv", text.getvalue().encode())
    (out / UNFINISHED).unlink()
    return out / "manifest.csv"
