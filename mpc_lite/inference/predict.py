"""Many photographs in, pictures and one line each out: `mpc-lite predict`."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from mpc_lite.errors import NO_MEMORY, InputError, out_of_memory, shown, some
from mpc_lite.files import (
    PICTURES,
    check_plain,
    closed_folder,
    folders_below,
    location,
    open_file,
    pictures_in,
    place,
    write_atomic,
)
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Hit, Localizer
from mpc_lite.inference.overlay import THRESHOLD, overlay
from mpc_lite.inference.photo_report import TITLE, Entry, thumbnails, write_photo_report
from mpc_lite.inference.score_map import quantise
from mpc_lite.provenance import predict_wrote, sealed
from mpc_lite.run_folder import locked, unshare

FILES = ("score", "mask", "overlay", "confidence")  # STEM.score.png and so on; the last where it was asked for
KEYS = ("image", "width", "height", "score", "authentic_above", "verdict", "tampered_fraction", "files", "error")
REPORT = "report.html"
_OTHERS = (  # how files end that people take for photographs, or keep beside them
    ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".raf", ".rw2", ".orf", ".pef", ".srw",
    ".x3f", ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos", ".mrw", ".kdc", ".dcr", ".raw", ".psd", ".psb", ".xcf",
    ".rwl", ".gpr", ".ptx", ".cap", ".afphoto", ".kra", ".jxl", ".exr", ".pdf", ".eps", ".ai", ".svg",
)  # fmt: skip
# What exiftool, editors, browsers and cameras keep beside a picture of the same name, or begin to fetch.
_KEPT = ("_original", "~", ".bak", ".old", ".part", ".crdownload", ".download", ".tmp", ".thm")
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")  # of pictures, whatever they are called
_LONGEST = 180  # bytes of a stem; systems allow 255 for a name, and endings and those of temporary files come behind
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # of a disk, not of one name on it


def predict(
    photos: Iterable[str | Path],
    out: str | Path,
    localizer: Localizer,
    report: bool = False,
    confidence: bool = False,
    threshold: float = THRESHOLD,
) -> Iterator[dict]:
    """Score photos one by one: write their pictures into folder `out`, and yield the lines of its `predictions.jsonl`.

    A folder stands for the photographs in it and below, see `photographs`; a warning names the pictures left out. A
    line is {image, width, height, score, authentic_above, verdict, tampered_fraction, files, error}; `authentic_above`
    and `verdict` as in `Hit`. A photo that cannot be scored, or whose pictures cannot be written, gives a line with
    `error`, whatever went wrong, and the others go on. Photos of equal stem get a suffix (`a`, `a-2`, …), and so does
    one whose files would take the place of a photo of the list, or of any file that predict has not written; what an
    earlier run wrote is replaced, its lines when the first photo has been scored: where none could be, they stay, and
    so does its page. With `report`, `report.html` shows them all when the last one is done. With
    `confidence`, each photo is scored in four mirrors and the map of their agreement is written too. `threshold`, in
    (0,1), makes the mask, its contour and `tampered_fraction`; the scores do not depend on it.
    The folder belongs to this run until it ends. Raises InputError when another one holds it, when it cannot be
    written or its disk is full, where its `predictions.jsonl` or `report.html` is another program's, for another
    threshold, and when predict or evaluate wrote all that it should read.
    """
    if not 0 < threshold < 1:
        raise InputError(f"threshold {threshold}; expected a number between 0 and 1, as 0.5")
    out = Path(out)
    photos, left_out = photographs(photos, out)
    if left_out:
        warnings.warn(told(left_out), stacklevel=2)
    with locked(out, "Ctrl-C where it runs"):  # of two at once, each would write over the other's lines and pictures
        _check_tables(out, report)
        if not report and (out / REPORT).is_file() and _our_page(_start_of(out / REPORT)):
            warnings.warn(f"{out / REPORT} shows an earlier run; --report makes it anew", stacklevel=2)
        taken, last = {location(photo) for photo in photos}, Counter()
        entries: list[Entry] = []
        try:
            out.mkdir(parents=True, exist_ok=True)
            unshare(out / "predictions.jsonl")
            # A name that is not UTF-8 is written with JSON's own escapes, and json.loads gives the same name back.
            with open(out / "predictions.jsonl", "a", encoding="utf-8", errors="backslashreplace") as lines:
                held: list[str] | None = [] if lines.tell() else None  # lines that an earlier run's still stand before
                for photo in photos:
                    line = dict.fromkeys(KEYS)
                    line.update(image=photo.as_posix(), files={})
                    small = None
                    try:
                        if os.path.isdir(photo):
                            raise no_pictures(photo)
                        image = read_image(photo)
                        hit = localizer.with_confidence(image) if confidence else localizer(image)
                        thumbs = thumbnails(image, hit.score_map, threshold) if report else None
                        facts = _facts(hit, threshold)
                        files = write_pictures(hit, image, _free_stem(out, photo.stem, taken, last), out, threshold)
                    except Exception as error:  # whatever it is, it came of one photo
                        cause = error if isinstance(error, OSError) else error.__cause__
                        if isinstance(cause, OSError) and _refuses_all(cause, out):
                            raise
                        line["error"] = _reason(error)
                    else:
                        small = thumbs
                        line.update(facts, files=files)
                        if held is not None:
                            lines.truncate(0)
                            lines.writelines(held)
                            held = None
                    entries += [(line, small)] if report else []
                    text = json.dumps(line, ensure_ascii=False) + "\n"
                    if held is None:
                        lines.write(text)
                        lines.flush()
                    else:
                        held.append(text)
                    yield line
            if report and (held is None or not (out / REPORT).exists()):
                write_photo_report(out / REPORT, entries, localizer, threshold, left_out)
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
    _write_png(out / files["score"], quantise(hit.score_map))
    if hit.confidence_map is not None:
        _write_png(out / files["confidence"], quantise(hit.confidence_map))
    elif predict_wrote(earlier := out / f"{stem}.confidence.png"):  # of another run, and so of another map
        earlier.unlink()
    _write_png(out / files["mask"], (hit.score_map > threshold).astype(np.uint8) * 255)
    picture = overlay(image, hit.score_map, threshold)
    for row in picture:  # OpenCV writes blue first; one by one, for a large picture has no room for a second
        row[:] = row[:, ::-1].copy()
    _write_png(out / files["overlay"], picture)
    return files


def _facts(hit: Hit, threshold: float) -> dict:
    height, width = hit.score_map.shape
    return {
        "height": height,
        "width": width,
        "score": round(hit.score, 6),
        "authentic_above": hit.authentic_above and round(hit.authentic_above, 6),
        "verdict": hit.verdict,
        "tampered_fraction": round(float((hit.score_map > threshold).mean()), 6),
    }


def _reason(error: Exception) -> str:
    """What a photo's line says of an error: its own words, and of one that nobody foresaw what it is and what to do."""
    text, kind = str(error), type(error).__name__
    if isinstance(error, InputError):
        return text
    if out_of_memory(error):
        return NO_MEMORY
    if isinstance(error, RuntimeError):
        return text or kind
    return f"{kind}: {' '.join(text.split())}; a fault of the program: report it, if you can with this photograph"


def _refuses_all(error: OSError, out: Path) -> bool:
    """Is it the disk or the folder that refuses a file, and so all that would follow?"""
    return error.errno in _FULL or not out.is_dir() or not os.access(out, os.W_OK | os.X_OK)


def photographs(photos: Iterable[str | Path], out: str | Path | None = None) -> tuple[list[Path], list[Path]]:
    """Files, and for folders the photographs in them and below, without hidden ones and those in the folder `out`; and
    the files left out of them because predict or evaluate wrote them.

    A folder in which there is none, or that may not be looked into, stays, to be listed as what cannot be read.
    InputError when nothing else is left.
    """
    files, left_out = [], []
    for photo in map(place, photos):
        folder = os.path.isdir(photo)
        found = [*pictures_in(photo, out, closed := []), *closed] if folder else [photo]
        own = [file for file in found if file.suffix.lower() == ".png" and predict_wrote(file)]
        if folder:
            below = [Path(here, name) for here, names in folders_below(photo, out, []) for name in names]
            if other := sorted(file.name for file in below if file.suffix.lower() in _OTHERS):
                text = f"{len(other)} files of kinds that are not read here (raw, layers, PDF): {some(other)}"
                warnings.warn(f"{photo}: {text}", stacklevel=1)
            misnamed = [file for file in below if not file.name.lower().endswith((*PICTURES, *_OTHERS, *_KEPT))]
            if other := sorted(file.name for file in misnamed if _start_of(file, 16).startswith(_STARTS)):
                text = f"{len(other)} pictures are passed over, whose names have no picture's ending: {some(other)}"
                warnings.warn(f"{photo}: {text}; name them one by one, or rename them", stacklevel=1)
        skipped = set(own)
        files += [file for file in found if file not in skipped]
        files += [photo] if folder and not found else []
        left_out += own
    if left_out and not files:
        raise InputError(f"no photograph: {told(left_out)}; name the photographs that they were made from")
    return files, left_out


def no_pictures(folder: str | Path) -> InputError:
    """The sentence on a folder in which `pictures_in` finds nothing, or may not look."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        return closed_folder(error)
    return InputError(
        f"{shown(folder, 200)} holds no photograph: in it and below, no name ends in {some(PICTURES, 6)}; "
        "name another folder, or the files themselves"
    )


def told(left_out: list[Path]) -> str:
    """The sentence on pictures that are left out because predict or evaluate wrote them."""
    return (
        f"{len(left_out)} pictures that predict or evaluate wrote are left out: {some(file.name for file in left_out)}"
    )


def _check_tables(out: Path, report: bool) -> None:
    """InputError where a table or page to write would take the place of another program's, or of a pipe."""
    for name, ours in (("predictions.jsonl", _our_lines), (REPORT, _our_page)):
        if name == REPORT and not report:
            continue
        check_plain(out / name)
        start = _start_of(out / name)
        if os.path.islink(out / name) or (start and not ours(start)):  # a link's end may be anywhere
            raise InputError(f"{out / name}: not written by predict, and would be replaced; move it, or change --out")


def _start_of(path: Path, length: int = 1 << 16) -> bytes:
    try:
        with open_file(path) as file:
            return file.read(length)
    except OSError:  # nothing there, or nothing to be kept: what cannot be written is told when it is
        return b""


def _our_lines(start: bytes) -> bool:
    first, end, _ = start.partition(b"\n")
    return first.startswith(b'{"image": ') and (not end or b'"tampered_fraction": ' in first)


def _our_page(start: bytes) -> bool:
    return TITLE.encode() + b"</title>" in start


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_atomic(path, sealed(cv2.imencode(".png", pixels)[1].tobytes()))


def _free_stem(out: Path, stem: str, taken: set[Path], last: Counter[str]) -> str:
    """`stem`, or `stem-2`, … such that no file written for it is one of `taken`, or there and not written by predict;
    the new files are added to `taken`. last: the number that a stem was given at its last time; those before it are not
    tried again."""
    while len(os.fsencode(stem)) > _LONGEST:  # whole characters: half of one is no name in UTF-8
        stem = stem[:-1]
    while True:
        last[stem] += 1
        candidate = f"{stem}-{last[stem]}" if last[stem] > 1 else stem
        paths = [out / f"{candidate}.{kind}.png" for kind in FILES]
        files = set(map(location, paths))
        there = [path for path in paths if os.path.lexists(path) and not path.is_dir()]
        if not files & taken and all(map(predict_wrote, there)):
            taken |= files
            return candidate
