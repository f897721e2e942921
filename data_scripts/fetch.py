"""Archives: fetched in pieces that survive an interruption, known by their sha256, unpacked without trusting them."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from common import Download
from mpc_lite.errors import InputError, printable, shown
from mpc_lite.files import open_file

# What the standard library raises for archives that are cut off, changed, locked, or packed in an unknown way.
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
_DAMAGED += (struct.error, IndexError, OverflowError, MemoryError)  # … and for headers that lie
BLOCK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
# An archive that claims to unfold to more than this many times its size, and to more than BIG, is taken for a bomb.
RATIO, BIG = 100, 1 << 30
HEADER = 1 << 16  # bytes of a tar member's extra header: a name has 4096 at most, the rest is times and owners
DEEP = 100  # folders of a member's path; the deepest sets have ten
RECORD = ".sha256"  # of what was unpacked, in the folder that it was unpacked to
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # how zips begin: whole, empty, in parts
MEMBERS = 2_000_000  # of an archive; the largest sets have some hundred thousand


# -------------------------------------------------------------------------------------------------------- downloading


def download(what: Download, folder: Path) -> Path:
    """Fetch a file into `folder` unless it is there; an interrupted fetch goes on where it stopped (HTTP ranges).

    Its sha256 is compared with the known one, or with the one recorded beside it at the first fetch. InputError for a
    server that cannot be reached, for an incomplete answer (run again to go on), and for another sha256.
    """
    target = folder / what.file
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        _fetch(what.url, part)
        if what.sha256:
            _compare(part, _sha256(part), what.sha256, "the set's script")
        os.replace(part, target)
        _etag_file(part).unlink(missing_ok=True)
    verified(target, what.sha256)
    return target


def _fetch(url: str, part: Path) -> None:
    """Complete the file `part`: ask for what is missing, provided that the server's file is still the same."""
    have = part.stat().st_size if part.is_file() else 0
    etag = _etag_file(part)
    headers = {"User-Agent": "mpc-lite data scripts"}
    tag = etag.read_text(errors="replace") if etag.is_file() else ""
    if have and tag.isascii() and tag.isprintable():  # another one is damaged: begin anew
        headers["Range"] = f"bytes={have}-"
        headers |= {"If-Range": tag} if tag else {}
    again = "run the same command again to go on"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
            goes_on = answer.status == 206 and (answer.headers["Content-Range"] or "").startswith(f"bytes {have}-")
            length = answer.headers["Content-Length"]
            total = (have if goes_on else 0) + int(length) if length else None
            if answer.headers["ETag"] and not answer.headers["ETag"].startswith("W/"):
                etag.write_text(answer.headers["ETag"])
            with open(part, "ab" if goes_on else "wb") as file:
                while block := answer.read(BLOCK):
                    file.write(block)
                    progress(f"{part.stem}: {file.tell() >> 20} MB" + (f" of {total >> 20}" if total else ""))
                size = file.tell()
    except urllib.error.HTTPError as error:
        if error.code == 416 and (error.headers["Content-Range"] or "") == f"bytes */{have}":
            return  # everything was there already
        if error.code == 416:
            part.unlink()
            raise InputError(f"{url}: the file there is another now, {part.name} was discarded; {again}") from None
        raise InputError(f"{url}: the server says {error.code} {shown(error.reason)}; fetch the file by hand") from None
    except (OSError, HTTPException, ValueError) as error:  # ValueError: numbers and addresses that are none
        reason = shown(getattr(error, "reason", error), 200) or type(error).__name__
        raise InputError(f"{url}: {reason}; {again}") from None
    finally:
        progress("")
    if total is not None and size != total:
        raise InputError(f"{url}: the connection broke after {size} of {total} bytes; {again}")


def _etag_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def verified(archive: Path, sha256: str | None = None, record: bool = True) -> str:
    """The file's sha256, compared with the one recorded beside it, which is written at the first use if `record`.

    The record `NAME.sha256` has the format of `sha256sum`, or a set's owner's, in capitals, or the name first.
    InputError if they differ.
    """
    digest, lock = _sha256(archive), archive.with_name(archive.name + ".sha256")
    if sha256:
        _compare(archive, digest, sha256, "the set's script")
    if lock.is_file():
        text = lock.read_text(errors="replace").lower()
        _compare(archive, digest, (re.findall(r"\b[0-9a-f]{64}\b", text) or [text.strip()])[0], lock.name)
    elif record:
        _lock(archive, digest)
    return digest


def _lock(archive: Path, sha256: str) -> None:
    with contextlib.suppress(OSError):  # a read-only folder: the provenance file records it all the same
        archive.with_name(archive.name + ".sha256").write_text(f"{sha256}  {archive.name}\n")


def _compare(file: Path, digest: str, expected: str, origin: str) -> None:
    if digest != expected:
        raise InputError(
            f"{file}: sha256 is {digest}, but {origin} says {shown(expected, 64)}: the file has changed or is damaged. "
            f"Fetch it anew; if it was replaced on purpose, delete {file.name}.sha256 and {file.name}.unpacked first"
        )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------- unpacking


def unpack(archive: Path) -> tuple[Path, str]:
    """The folder with a zip or tar archive's files, `NAME.unpacked` beside it, made at the first use; and its sha256.

    The folder appears in one step, complete. Nothing is written outside of it: absolute paths, `..`, links and devices
    are refused, as is an archive that would not fit on the disk or unfolds beyond all measure. InputError then, and for
    damaged archives and formats that are not read here (rar, 7z: unpack by hand), and for a folder of this name that
    was not made here.
    """
    _known_format(archive)
    sha256 = verified(archive, record=False)  # a damaged archive is not recorded as the right one
    folder = archive.with_name(archive.name + ".unpacked")
    made = _record(folder)
    if made[:1] == [sha256]:
        if (gone := int([*made, "0"][1]) - _count(folder)) > 0:
            print(printable(f"note: {gone} files are gone from {folder}; remove it to unpack {archive.name} anew"))
        return folder, sha256
    if os.path.lexists(folder) and not made:
        raise InputError(
            f"{folder}: lies where {archive.name} is to be unpacked, and was not made by it (no {RECORD} in it); "
            "give this folder instead of the archive, or rename it"
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{archive.name}.", dir=archive.parent) as temporary:
            fresh = Path(temporary) / "files"
            fresh.mkdir()
            _extract(archive, fresh)
            (fresh / RECORD).write_text(f"{sha256} {_count(fresh)}")
            if made:  # aside: removed file by file, it would lose its record first
                os.replace(folder, Path(temporary) / "earlier")
            os.replace(fresh, folder)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(archive)) else f"{archive}: {text}") from None
    except _DAMAGED as error:
        raise InputError(
            f"{archive}: damaged or locked archive ({error}); fetch it anew or unpack it by hand"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{archive}: cannot be unpacked beside itself ({reason}); unpack it by hand") from None
    _lock(archive, sha256)
    return folder, sha256


def _record(folder: Path) -> list[str]:
    """What `unpack` wrote in a folder that it made: the archive's sha256 and, in newer ones, the number of files."""
    with contextlib.suppress(OSError):
        with open_file(folder / RECORD) as file:
            record = file.read(BLOCK).decode(errors="replace")
        return record.split() if re.fullmatch(r"[0-9a-f]{64}( [0-9]{1,9})?", record) else []
    return []


def _count(folder: Path) -> int:
    return sum(name != RECORD for _, _, names in os.walk(folder) for name in names)


def _known_format(archive: Path) -> None:
    with open(archive, "rb") as file:
        start = file.read(8)
    if start.startswith((b"Rar!", b"7z\xbc\xaf\x27\x1c")):
        raise InputError(
            f"{archive}: rar and 7z are not unpacked here; do it by hand (7z x {archive.name}) and give the folder"
        )
    if not (_is_zip(archive) or _is_tar(archive)):
        raise InputError(f"{archive}: neither a folder nor a zip or tar archive; unpack it by hand and give the folder")


class _Header(tarfile.TarInfo):
    """A tar header whose extra headers, read whole into memory before the member they belong to, have a limit."""

    _EXTRA = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
    _EXTRA += (tarfile.SOLARIS_XHDTYPE,)

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        header = super().frombuf(buf, encoding, errors)
        if header.type in cls._EXTRA and not 0 <= header.size <= HEADER:
            raise InputError(
                f"holds a header of {header.size >> 10} KB for a member's name, expected up to {HEADER >> 10} KB; "
                "do not trust it"
            )
        return header


def _is_zip(archive: Path) -> bool:
    """By what it begins with: a tar whose last file is a zip ends as a zip does, which may follow any other bytes."""
    with open(archive, "rb") as file:
        start = file.read(4)
    return zipfile.is_zipfile(archive) and (start in (*_ZIP, bytes(4)) or not _is_tar(archive))


def _is_tar(archive: Path) -> bool:
    try:
        with tarfile.open(archive, tarinfo=_Header):
            return True
    except InputError as error:
        raise InputError(f"{archive}: {error}") from None
    except _DAMAGED:
        return False


def _extract(archive: Path, folder: Path) -> None:
    total, packed, free, paths, left_out = 0, archive.stat().st_size, shutil.disk_usage(folder).free, set(), False
    for raw, size, kind, stream in _members(archive):
        parts, name = PurePosixPath(raw.replace("\\", "/")).parts, shown(raw, 200)
        if len(paths) >= MEMBERS:
            raise InputError(f"{archive}: holds more than {MEMBERS} members; if you trust it, unpack it by hand")
        if kind not in ("file", "folder"):
            raise InputError(f"{archive}: holds {name}, a {kind}, which is never unpacked; unpack it by hand")
        if not parts and kind == "folder":
            continue  # "./"
        if not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0] or "\0" in raw:
            raise InputError(f"{archive}: holds {name}, which leads out of its folder; do not trust it")
        if len(parts) > DEEP + 1:
            raise InputError(f"{archive}: holds {name}, {len(parts) - 1} folders deep, at most {DEEP}; do not trust it")
        if kind == "file" and parts in paths:
            raise InputError(f"{archive}: holds {name} twice, and only one would stay; unpack it by hand and choose")
        paths.add(parts)
        total += size
        if total > free:
            raise InputError(f"{archive}: unfolds to more than {total >> 20} MB, but {free >> 20} MB are free")
        if total > max(BIG, RATIO * packed):
            raise InputError(
                f"{archive}: {packed >> 20} MB that unfold to more than {total >> 20} MB are not photographs; "
                "if you trust it, unpack it by hand"
            )
        if parts[0].casefold() == RECORD:  # hidden, so no set's script would look at it
            left_out = True
            continue
        target = folder.joinpath(*parts)
        if kind == "folder":
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with stream as source, open(target, "xb") as file:  # x: names may differ in case alone
            shutil.copyfileobj(source, file, BLOCK)
    if left_out:
        print(
            printable(f"note: {RECORD} of {archive.name} is not unpacked: the record of what was unpacked is called so")
        )


def _members(archive: Path) -> Iterator[tuple[str, int, str, BinaryIO | None]]:
    """(name, size, "file" | "folder" | what it is instead, the opened file) of each member, in the archive's order."""
    if _is_zip(archive):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                mode = info.external_attr >> 16  # Unix only, else 0
                kind = "folder" if info.is_dir() else "link" if stat.S_ISLNK(mode) else "file"
                yield info.filename, info.file_size, kind, file.open(info) if kind == "file" else None
    else:
        with tarfile.open(archive, tarinfo=_Header) as file:
            for info in file:
                file.members = []  # which else would hold the headers of all
                kind = "folder" if info.isdir() else "file" if info.isfile() else "link or device"
                yield info.name, info.size, kind, file.extractfile(info) if kind == "file" else None


def progress(text: str) -> None:
    """One line on the terminal that is written over; nothing where no terminal is."""
    if sys.stderr.isatty():
        print(f"\r\033[K{printable(text)}", end="", file=sys.stderr, flush=True)
