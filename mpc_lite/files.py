"""Files and paths: written whole or not at all, expanded as a recipe gives them."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import stat
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mpc_lite.errors import InputError, shown

PICTURES = (  # all that files of the listed decoders end in, but .icb, .vda and .vst, which are other programs' too
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".gif", ".avif", ".heic", ".heif", ".mpo",
    ".jfif", ".jpe", ".apng", ".dib", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avifs", ".hif", ".heics", ".heifs",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".pcx", ".qoi",
)  # fmt: skip
# Phones take 200 megapixels. 2**28 is 16384×16384; a picture that claims more is refused before its pixels are decoded,
# so a small hostile file cannot fill the memory. Nor can it take the time of a large photograph: more than 2**26 pixels
# need a file that is long for it, as those of photographs are; so do fewer that take more than BYTES_A_PIXEL each.
MAX_PIXELS, UNPROVEN_PIXELS, PIXELS_A_BYTE, BYTES_A_PIXEL = 2**28, 2**26, 64, 8
RAISED = "MPC_LITE_MAX_PIXELS"  # the environment variable that takes the place of all three; --max-pixels sets it
# What macOS, NAS boxes, Windows and Linux put beside files, in lower case.
_OF_SYSTEMS = "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"
FOLDERS = {
    "MPC_LITE_SETS": "the folder of manifests that the scripts of data_scripts/ wrote",
    "MPC_LITE_WEIGHTS": "the folder of weights that 'mpc-lite convert' wrote, such as imagenet.safetensors",
    "MPC_LITE_DATA": "the folder of real test images, with forged.csv in it",
}


def expand(path: str | Path) -> Path:
    """A path of a recipe with ``$NAME`` and ``~`` replaced.

    Raises:
        InputError: a variable that is not set; the message says what it is for.
    """
    text = os.path.expandvars(str(path))
    if missing := re.search(r"\$\{?(\w+)", text):
        name = missing.group(1)
        purpose = f" ({FOLDERS[name]})" if name in FOLDERS else ""
        raise InputError(f"{path}: the environment variable {name}{purpose} is not set; set it, or give another path")
    return place(text)


def pixel_limit(n_bytes: int, each: int = 1) -> int:
    """How many pixels, of `each` so many bytes, a file of n_bytes may declare. InputError for a bad `RAISED`."""
    if raised := os.environ.get(RAISED):
        if not raised.isdecimal() or len(raised) > 18 or not int(raised):
            raise InputError(f"{RAISED} is '{shown(raised)}'; expected a number of pixels, such as {MAX_PIXELS}")
        return int(raised)
    return min(MAX_PIXELS, max(UNPROVEN_PIXELS, PIXELS_A_BYTE * n_bytes)) * BYTES_A_PIXEL // max(BYTES_A_PIXEL, each)


def too_many_pixels(width: int, height: int, n_bytes: int | None = None, each: int = 1) -> str | None:
    """What is wrong with so many pixels of a file of so many bytes (None: a short one); None where nothing is."""
    if width * height <= (limit := pixel_limit(n_bytes or 0, each)):
        return None
    file = "short file" if n_bytes is None else f"file of {n_bytes} bytes"
    of = f" of {each} bytes each" if each > BYTES_A_PIXEL else ""
    problem = f"{width}{f'×{height}' if height > 1 else ''} pixels{of}, at most {limit} are read of a {file}"
    # The scripts of data_scripts/, and commands that read pictures among much else, know the variable alone.
    return f"{problem}; if you trust it, set {RAISED} or, where the command has it, give --max-pixels {width * height}"


def check_size(width: int, height: int, path: Path, each: int = 1) -> None:
    """ValueError where a file declares too many pixels (`too_many_pixels`)."""
    if problem := too_many_pixels(width, height, path.stat().st_size, each):
        raise ValueError(problem)


def open_file(path: str | Path) -> BinaryIO:
    """A file, open to be read. OSError, besides what `open` raises, for a pipe or a device: none may ever end, or begin
    to say anything, and a folder of strangers may hold one by the name of a picture."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=opener)  # noqa: SIM115 (the caller closes it)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "a pipe or a device, expected a file", str(path))


def csv_rows(path: Path, expected: str) -> Iterator[tuple[list[str], str]]:
    """The rows of a CSV file as (cells, what is wrong), one by one: a list of a million need not be in memory.

    A row is one line: a quote that is not closed in its line would take the rows below it for part of a cell.
    InputError for a file that is none, and for none where `expected` should be.
    """
    end = 0
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="") as file:
            # With its break even the last line shows that a quote was open at its end.
            reader = csv.reader(line if line.endswith(("\n", "\r")) else f"{line}\n" for line in file)
            for cells in reader:
                first, end = end + 1, reader.line_num
                open_quote = end > first or (cells[-1:] != [] and cells[-1].endswith(("\n", "\r")))
                lost = f", so lines {first} to {end} became one row" if end > first else ""
                yield cells, f"a quote that opens in line {first} is not closed in it{lost}" if open_quote else ""
    except OSError as error:
        reason = ", no such file" if isinstance(error, FileNotFoundError) else f" ({error.strerror})"
        raise InputError(f"{shown(path, 200)}: cannot be read{reason}; expected {expected}") from None
    except (ValueError, csv.Error) as error:  # ValueError: other bytes than UTF-8, a NUL in the path
        reason = f"{error}; is a quote open in line {end + 1}?" if isinstance(error, csv.Error) else error
        raise InputError(
            f"{shown(path, 200)}: cannot be read as a CSV file in UTF-8 ({reason}); save it in this form"
        ) from None


def place(path: str | Path, folder: str | Path = ".") -> Path:
    """Where a path of a manifest, a list or an option lies, whichever system wrote it.

    Relative paths start at `folder`; `~` is home, unless a file is called so. The first that exists: as written, with
    slashes for backslashes, both without blanks around, accents of each part as NFC or NFD; of what is not there, as a
    file to write, the longest beginning that exists and the rest as written, without blanks.
    """
    text, folder = str(path), folder if isinstance(folder, Path) else Path(folder)  # to join is quicker than to make
    if text and os.path.lexists(plain := folder / text):  # most are, and lists have a million; or a folder is ~backup
        return plain
    name = text.strip() or text
    begun, new = 0, folder / os.path.expanduser(name)
    for spelling in dict.fromkeys((text, text.replace("\\", "/"), name, name.replace("\\", "/"))):
        places, parts = [folder] if spelling else [], Path(os.path.expanduser(spelling)).parts
        for n, part in enumerate(parts):  # systems differ, and so may folder and file
            forms = dict.fromkeys((part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part)))
            start, places = places, [at for where in places for form in forms if os.path.lexists(at := where / form)]
            if start and not places and n > begun and spelling == spelling.strip():
                begun, new = n, start[0].joinpath(*parts[n:])
        if places:
            return places[0]
    return new


def folders_below(
    folder: str | Path, without: str | Path | None = None, closed: list[Path] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below it, also through links, each once: (folder, names of the files in it).

    Left out: hidden files and folders, what systems put beside files by themselves, the folder `without`, unless the
    folder lies in it, and links to a folder that this one lies in: what is above is not below. InputError for a folder
    that may not be looked into, which is added to `closed` instead where that is given.
    """

    def refused(error: OSError) -> None:
        if closed is None and not isinstance(error, FileNotFoundError):
            raise closed_folder(error) from None
        closed is None or closed.append(Path(error.filename))

    top, barred = Path(os.path.realpath(folder)), without and Path(os.path.realpath(without))
    if barred in (top, *top.parents):
        barred = None
    seen, starts = set(top.parents), [Path(folder)]
    for start in starts:  # links are looked into after all that lies below: a folder is named by its own path
        for here, below, files in os.walk(start, onerror=refused):
            real = Path(os.path.realpath(here))
            if real in seen or (barred and barred in (real, *real.parents)):
                below.clear()
                continue
            seen.add(real)
            below[:] = sorted(name for name in below if not _hidden(name))
            starts += [link for name in below if (link := Path(here, name)).is_symlink()]
            yield Path(here), [name for name in files if not _hidden(name)]


def pictures_in(folder: str | Path, without: str | Path | None = None, closed: list[Path] | None = None) -> list[Path]:
    """The picture files in `folders_below`, by the ends of their names, in the order of their paths, NFC."""
    files = (here / name for here, names in folders_below(folder, without, closed) for name in names)
    pictures = (file for file in files if file.suffix.lower() in PICTURES)
    return sorted(pictures, key=lambda file: ([unicodedata.normalize("NFC", part) for part in file.parts], file.parts))


def closed_folder(error: OSError) -> InputError:
    """The sentence on a folder that may not be looked into."""
    return InputError(f"cannot look into {shown(error.filename, 200)} ({error.strerror}); make the folder readable")


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _OF_SYSTEMS


def absent(path: str | Path, otherwise: str = "does not exist") -> str:
    """What to say of a file that is not found: `otherwise`, unless it lies below a folder that may not be entered."""
    try:
        os.stat(path)
    except PermissionError as error:
        what = "what it links to" if os.path.islink(path) else "it"
        return f"cannot be looked at ({error.strerror}): a folder above {what} may not be entered"
    except (OSError, ValueError):  # nothing there, or what no system takes as a path
        pass
    return otherwise


def expand_all(paths: str | list[str] | None) -> list[Path]:
    """The paths of one recipe key that holds none, one or several."""
    return [expand(path) for path in ([paths] if isinstance(paths, str) else paths or [])]


def relative(path: str | Path | None, folder: str | Path) -> str:
    """A path as a table in `folder` gives it, with forward slashes; None, a file that is not there, gives ''.

    A link keeps its name, by which maps are found, whatever the file is called that it leads to.
    """
    if path is None:
        return ""
    path = Path(path)
    there = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    return Path(os.path.relpath(there, Path(folder).resolve())).as_posix()


def check_output(output: str | Path, inputs: Iterable[str | Path], others: Iterable[str | Path] = ()) -> None:
    """InputError for a file to write that is one of those to read, by whatever path or link, a folder, or no plain file
    (`check_plain`); and for one of `others`, written by the same command, or a folder that they lie in.

    To be called before the work: what a result was made from would be replaced by it.
    """
    for other in others:
        if location(output) in (there := location(other), *there.parents):
            raise InputError(
                f"{shown(output, 200)}: {shown(other, 200)} is written here too, and one would take the place of the "
                "other; choose another file"
            )
    try:
        there = os.stat(output)
    except (OSError, ValueError):  # nothing there yet; what cannot be written is told when it is
        return
    if stat.S_ISDIR(there.st_mode):
        raise InputError(f"{shown(output, 200)} is a folder; expected the name of a file to write")
    check_plain(output)
    for file in inputs:
        try:
            same = os.path.samestat(there, os.stat(place(file)))
        except (OSError, ValueError):
            continue
        if same:
            name = "" if Path(file) == Path(output) else f" as {shown(file, 200)}"
            raise InputError(
                f"{shown(output, 200)} is read here{name}, and the result would take its place; choose another file"
            )


def location(path: str | Path) -> Path:
    """Where a file lies, in lower case: A.png and a.png are one file on many disks."""
    try:
        return Path(os.path.realpath(path).lower())
    except (OSError, ValueError):  # what no system takes as a path
        return Path(str(path).lower())


def check_plain(output: str | Path) -> None:
    """InputError for a file to write that is there as a pipe or a device: the one may be waited for without end, the
    other would be replaced by a file."""
    try:
        mode = os.stat(output).st_mode
    except (OSError, ValueError):  # nothing there yet; what cannot be written is told when it is
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(
            f"{shown(output, 200)} is a pipe or a device; expected the name of a file to write: choose another, or "
            "take it away"
        )


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that it is either complete or not there; an older one survives every failure.

    The bytes go to a temporary file beside `path`, to the disk (fsync), and then under their name in one step. Missing
    folders are made. InputError if the folder is read-only, full or no folder, and for a pipe or a device.
    """
    check_plain(path)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if os.path.isdir(path):  # False, where Path.is_dir raises, for a name that is too long
            raise InputError(f"cannot write {path}: a folder has this name; rename it, or choose another") from error
        outcome = "the earlier file is unchanged" if os.path.isfile(path) else "nothing was left behind"
        raise InputError(
            f"cannot write {path} ({len(data)} bytes): {error.strerror or error}; {outcome}. "
            "Free some space or choose another folder"
        ) from error
    finally:
        # After success it carries its real name by now. On a read-only disk even a file that never was is refused, and
        # that must not take the place of what is said above.
        with suppress(OSError):
            temporary.unlink()
