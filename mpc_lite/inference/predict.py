"""Many photographs in, pictures and one line each out: `mpc-lite predict`."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from mpc_lite.errors import InputError
from mpc_lite.files import pictures_in, place, write_atomic
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Hit, Localizer
from mpc_lite.inference.overlay import THRESHOLD, overlay
from mpc_lite.inference.photo_report import Entry, thumbnails, write_photo_report
from mpc_lite.inference.score_map import quantise

FILES = ("score", "mask", "overlay", "confidence")  # STEM.score.png and so on; the last where it was asked for
KEYS = ("image", "width", "height", "score", "authentic_above", "verdict", "tampered_fraction", "files", "error")
REPORT = "report.html"
_LONGEST = 180  # bytes of a stem; systems allow 255 for a name, and endings and those of temporary files come behind
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # of a disk, not of one name on it
_BAND = 128  # rows worked on at a time where whole photos would need large copies


def predict(
    photos: Iterable[str | Path],
    out: str | Path,
    localizer: Localizer,
    report: bool = False,
    confidence: bool = False,
    threshold: float = THRESHOLD,
) -> Iterator[dict]:
    """Score photos one by one: write their pictures into folder `out`, and yield the lines of its `predictions.jsonl`.

    A folder stands for the photographs in it and below, without hidden ones and without `out`. A line is {image, width,
    height, score, authentic_above, verdict, tampered_fraction, files, error}; `authentic_above` and `verdict` as in
    `Hit`. A photo that cannot be scored, or whose pictures cannot be written, gives a line with `error` and the others
    go on. Photos of equal stem get a suffix (`a`, `a-2`, …); no photo of the list is ever overwritten; an
    earlier `predictions.jsonl` is replaced. With `report`, `report.html` shows them all when the last one is done. With
    `confidence`, each photo is scored in four mirrors and the map of their agreement is written too. `threshold`, in
    (0,1), makes the mask, its contour and `tampered_fraction`; the scores do not depend on it.
    Raises InputError when the folder cannot be written or its disk is full, and for another threshold.
    """
    if not 0 < threshold < 1:
        raise InputError(f"threshold {threshold}; expected a number between 0 and 1, as 0.5")
    out = Path(out)
    photos = [file for photo in map(place, photos) for file in _files(photo, out)]
    taken = {_where(photo) for photo in photos}
    entries: list[Entry] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        # A name that is not UTF-8 is written with JSON's own escapes, and json.loads gives the same name back.
        with open(out / "predictions.jsonl", "w", encoding="utf-8", errors="backslashreplace") as lines:
            for photo in photos:
                line = dict.fromkeys(KEYS)
                line.update(image=photo.as_posix(), files={})
                small = None
                try:
                    image = read_image(photo)
                    hit = localizer.with_confidence(image) if confidence else localizer(image)
                    files = write_pictures(hit, image, _free_stem(out, photo.stem, taken), out, threshold)
                except (InputError, MemoryError, RuntimeError) as error:  # RuntimeError: torch is out of memory
                    if isinstance(error.__cause__, OSError) and _refuses_all(error.__cause__, out):
                        raise
                    line["error"] = str(error) or type(error).__name__
                else:
                    line["height"], line["width"] = hit.score_map.shape
                    line["score"] = round(hit.score, 6)
                    line["authentic_above"] = hit.authentic_above and round(hit.authentic_above, 6)
                    line["verdict"] = hit.verdict
                    line["tampered_fraction"] = round(float((hit.score_map > threshold).mean()), 6)
                    line["files"] = files
                    small = thumbnails(image, hit.score_map, threshold) if report else None
                entries += [(line, small)] if report else []
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                lines.flush()
                yield line
        if report:
            write_photo_report(out / REPORT, entries, localizer, threshold)
    except OSError as error:
        raise InputError(
            f"{out}: results cannot be written ({error.strerror}); choose a folder with space that you may write to"
        ) from None


def write_pictures(hit: Hit, image: np.ndarray, stem: str, out: Path, threshold: float = THRESHOLD) -> dict[str, str]:
    """Write STEM.score.png (16-bit grey), STEM.mask.png (0 or 255), STEM.overlay.png; returns {kind: file name}.

    STEM.confidence.png (16-bit grey) too where the hit has such a map. All have the photo's size but the overlay, which
    is larger by a legend (`overlay.overlay`). Raises InputError when a file cannot be written; those before it stay.
    """
    files = {kind: f"{stem}.{kind}.png" for kind in (FILES if hit.confidence_map is not None else FILES[:-1])}
    _write_png(out / files["score"], _levels(hit.score_map))
    if hit.confidence_map is not None:
        _write_png(out / files["confidence"], _levels(hit.confidence_map))
    _write_png(out / files["mask"], (hit.score_map > threshold).astype(np.uint8) * 255)
    _write_png(out / files["overlay"], cv2.cvtColor(overlay(image, hit.score_map, threshold), cv2.COLOR_RGB2BGR))
    return files


def _refuses_all(error: OSError, out: Path) -> bool:
    """Is it the disk or the folder that refuses a file, and so all that would follow?"""
    return error.errno in _FULL or not out.is_dir() or not os.access(out, os.W_OK | os.X_OK)


def _levels(values: np.ndarray) -> np.ndarray:
    levels = np.empty(values.shape, np.uint16)
    for top in range(0, len(values), _BAND):
        rows = slice(top, top + _BAND)
        levels[rows] = quantise(values[rows])  # rounds as the metrics do: above 0.5 stays above 0.5
    return levels


def _files(photo: Path, out: Path) -> list[Path]:
    """A photograph, or those of a folder; a folder without any stays, to be listed as what cannot be read."""
    return (pictures_in(photo, without=out) or [photo]) if os.path.isdir(photo) else [photo]


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_atomic(path, cv2.imencode(".png", pixels)[1].tobytes())


def _where(path: Path) -> str:
    """Where a file lies, in lower case: A.png and a.png are one file on many disks."""
    try:
        return str(path.resolve()).lower()
    except (OSError, ValueError, RuntimeError):  # what no system takes as a path, or a link to itself
        return str(path).lower()


def _free_stem(out: Path, stem: str, taken: set[str]) -> str:
    """`stem`, or `stem-2`, … such that no file written for it is one of `taken`; the new files are added to it."""
    stem = os.fsdecode(os.fsencode(stem)[:_LONGEST]) if len(os.fsencode(stem)) > _LONGEST else stem
    candidate, count = stem, 1
    while True:
        files = {_where(out / f"{candidate}.{kind}.png") for kind in FILES}
        if not files & taken:
            taken |= files
            return candidate
        count += 1
        candidate = f"{stem}-{count}"
