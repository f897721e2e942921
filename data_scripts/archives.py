"""Archives unpacked without trusting them: whole, or not at all."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fetch import BLOCK, verified, write_sha256
from mpc_lite.cli.terminal import put
from mpc_lite.errors import InputError, printable, shown
from mpc_lite.files import open_file
from mpc_lite.run_folder import clear_stale, temporary_folder

# What the standard library raises for archives that are cut off, changed, locked, or packed in an unknown way.
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
_DAMAGED += (struct.error, IndexError, OverflowError, MemoryError)  # … and for headers that lie
# An archive that claims to unfold to more than this many times its size, and to more than BIG, is taken for a bomb.
RATIO, BIG = 100, 1 << 30
HEADER = 1 << 16  # bytes of a tar member's extra header: a name has 4096 at most, the rest is times and owners
MAP = 1 << 20  # bytes of a sparse file's map, room for 40,000 holes and more
DEEP = 100  # folders of a member's path; the deepest sets have ten
RECORD = ".sha256"  # of what was unpacked, in the folder that it was unpacked to
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # how zips begin: whole, empty, in parts
MEMBERS = 2_000_000  # of an archive; the largest sets have some hundred thousand


class Unreadable(InputError):
    """A file that is no archive that is read here, or a damaged one: another download may be whole."""


def unpack(archive: Path) -> tuple[Path, str]:
    """The folder with a zip or tar archive's files, `NAME.unpacked` beside it, made at the first use; and its sha256.

    The folder appears in one step, complete: of an archive that is cut or damaged anywhere, as far as its headers and
    checksums tell, nothing is unpacked, and no sha256 is recorded (for a tar's end see `_end`). Nothing is written
    outside of the folder: absolute paths, `..`, links and devices are refused, as is an archive that would not fit on
    the disk or unfolds beyond all measure. InputError then, and for damaged archives and formats that are not read here
    (rar, 7z: unpack by hand), and for a folder of this name that was not made here.
    """
    _known_format(archive)
    sha256 = verified(archive, record=False)  # a damaged archive is not recorded as the right one
    folder = archive.with_name(archive.name + ".unpacked")
    if (made := _record(folder))[:1] == [sha256]:
        if (gone := int([*made, "0"][1]) - _count(folder)) > 0:
            put(printable(f"note: {gone} files are gone from {folder}; remove it to unpack {archive.name} anew"))
        return folder, sha256
    if os.path.lexists(folder) and not made:
        raise InputError(
            f"{folder}: lies where {archive.name} is to be unpacked, and was not made by it (no {RECORD} in it); "
            "give this folder instead of the archive, or rename it"
        )
    clear_stale(archive.parent)
    try:
        with temporary_folder(archive.parent) as temporary:
            fresh = temporary / "files"
            fresh.mkdir()
            _extract(archive, fresh)
            (fresh / RECORD).write_text(f"{sha256} {_count(fresh)}")
            if made:  # aside: removed file by file, it would lose its record first
                os.replace(folder, temporary / "earlier")
            try:
                os.replace(fresh, folder)
            except OSError:  # another script unpacked the same archive meanwhile
                if _record(folder)[:1] != [sha256]:
                    raise
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(archive)) else f"{archive}: {text}") from None
    except (OSError, *_DAMAGED) as error:
        if getattr(error, "errno", None) is None:  # such an OSError is gzip's or bz2's
            problem = f"damaged or locked archive ({shown(error, 200)}); fetch it anew or unpack it by hand"
            raise Unreadable(f"{archive}: {problem}") from None
        problem = f"cannot be unpacked beside itself ({error.strerror or error}); unpack it by hand"
        raise InputError(f"{archive}: {problem}") from None
    write_sha256(archive, sha256)
    return folder, sha256


def _record(folder: Path) -> list[str]:
    """What `unpack` wrote in a folder that it made: the archive's sha256 and, in newer ones, the number of files."""
    with suppress(OSError):
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
    whole = _is_zip(archive) or _is_tar(archive)
    if not whole and start.startswith(b"\x28\xb5\x2f\xfd"):
        raise InputError(f"{archive}: zstd is not unpacked here; do it by hand (tar --zstd -xf) and give the folder")
    parts = re.search(r"\.(z\d\d|0\d\d)$", archive.name, re.IGNORECASE)
    if (not whole and parts) or _last_of_several(archive):
        raise InputError(
            f"{archive}: is one part of several; unpack them together by hand (7z x, of the first) and give the folder"
        )
    if not whole:
        raise Unreadable(
            f"{archive}: neither a folder nor a zip or tar archive that is whole; fetch it anew, or unpack it by hand "
            "and give the folder"
        )


def _last_of_several(archive: Path) -> bool:
    """Does the end of a zip say that it lies on another disk than the first? So is the last of its parts called."""
    with open(archive, "rb") as file:
        file.seek(max(0, archive.stat().st_size - (1 << 16) - 22))
        _, found, end = file.read().rpartition(b"PK\x05\x06")
    return bool(found) and int.from_bytes(end[:2], "little") not in (0, 0xFFFF)  # the latter: it stands elsewhere


class _Header(tarfile.TarInfo):
    """A tar header with a limit for all that is read into memory before the member that it belongs to: extra headers,
    those for all members together, which are kept, and the maps of sparse files (other maps lie in extra headers).

    One that is damaged or cut is an error wherever it stands: behind the first member, `tarfile` takes it for the end.
    """

    _EXTRA = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
    _EXTRA += (tarfile.SOLARIS_XHDTYPE,)

    @classmethod
    def fromtarfile(cls, tar):
        try:
            return super().fromtarfile(tar)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from None

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        if 0 < len(buf) < tarfile.BLOCKSIZE and not any(buf):  # no header begins so
            raise tarfile.EOFHeaderError("the zeros at the end, cut off")
        return super().frombuf(buf, encoding, errors)

    def _proc_member(self, tar):
        if self.type in self._EXTRA and not 0 <= self.size <= HEADER:
            raise InputError(
                f"holds a header of {self.size >> 10} KB for a member's name, expected up to {HEADER >> 10} KB; "
                "do not trust it"
            )
        if self.type == tarfile.XGLTYPE:
            tar.for_all = getattr(tar, "for_all", 0) + self.size
            if tar.for_all > HEADER:
                raise InputError(
                    f"holds headers of {tar.for_all >> 10} KB for all its members, expected up to {HEADER >> 10} KB "
                    "together; do not trust it"
                )
        return super()._proc_member(tar)

    def _proc_sparse(self, tar):
        with _short(tar):
            return super()._proc_sparse(tar)

    def _proc_gnusparse_10(self, following, pax_headers, tar):
        with _short(tar):
            super()._proc_gnusparse_10(following, pax_headers, tar)


@contextmanager
def _short(tar: tarfile.TarFile) -> Iterator[None]:
    """A map of holes is read here: `tarfile` would go on as long as the map says that it does."""
    stream = tar.fileobj
    tar.fileobj = _Short(stream)
    try:
        yield
    finally:
        tar.fileobj = stream


class _Short:
    def __init__(self, stream: BinaryIO):
        self._stream, self._left, self.tell = stream, MAP, stream.tell

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise InputError(
                f"holds a sparse file whose map of holes is longer than {MAP >> 10} KB; if you trust it, unpack it by "
                "hand"
            )
        return self._stream.read(size)


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
        drive = re.match("[A-Za-z]:", "".join(parts[:1])) or (os.name == "nt" and ":" in raw)  # there also a stream
        if not parts or parts[0].startswith("/") or ".." in parts or drive or "\0" in raw:
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
        put(
            printable(f"note: {RECORD} of {archive.name} is not unpacked: the record of what was unpacked is called so")
        )


def _members(archive: Path) -> Iterator[tuple[str, int, str, BinaryIO | None]]:
    """(name, size, "file" | "folder" | what it is instead, the opened file) of each member, in the archive's order."""
    if _is_zip(archive):
        with zipfile.ZipFile(archive) as file:
            _counted(archive, len(file.infolist()))
            for info in file.infolist():
                mode = info.external_attr >> 16  # Unix only, else 0
                kind = "folder" if info.is_dir() else "link" if stat.S_ISLNK(mode) else "file"
                if info.flag_bits & 1:
                    raise InputError(f"{archive}: is locked by a password; unpack it by hand, and give the folder")
                yield _name(info), info.file_size, kind, file.open(info) if kind == "file" else None
    else:
        with tarfile.open(archive, tarinfo=_Header) as file:
            for info in file:
                file.members = []  # which else would hold the headers of all
                kind = "folder" if info.isdir() else "file" if info.isfile() else "link or device"
                if info.size < 0:  # in a number of 256 digits; `tarfile` makes an empty file of it
                    name = shown(info.name, 200)
                    raise InputError(f"{archive}: holds {name}, which claims {info.size} bytes; do not trust it")
                size = info.size + info.offset_data - info.offset  # headers may be the longer part
                yield info.name, size, kind, file.extractfile(info) if kind == "file" else None
            _end(file, max(BIG, RATIO * archive.stat().st_size))


def _name(info: zipfile.ZipInfo) -> str:
    """A member's name. Some programs write UTF-8 without saying so, and it would be read as letters of the IBM PC."""
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode("utf-8")
    return info.filename


def _counted(archive: Path, listed: int) -> None:
    """InputError where a zip's end record counts other members than its directory lists; `zipfile` does not compare.

    Programs that know no larger record write the count's last 16 bits.
    """
    with open(archive, "rb") as file:
        file.seek(-min(archive.stat().st_size, 76 + 22 + 0xFFFF), os.SEEK_END)  # two records, and a comment behind
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    (count,), bits = struct.unpack_from("<H", tail, at + 10), 16
    if tail[:at][-20:].startswith(b"PK\6\7") and (larger := tail.rfind(b"PK\6\6", 0, at)) >= 0:
        (count,), bits = struct.unpack_from("<Q", tail, larger + 32), 64
    if (count - listed) % (1 << bits):
        raise InputError(
            f"{archive}: counts {count} members at its end and lists {listed}, so it is damaged; fetch it anew, or "
            "unpack it by hand"
        )


def _end(tar: tarfile.TarFile, most: int) -> None:
    """Read what follows the last member, zeros alone, to the end of the stream, where gzip and xz keep checksums.

    Programs write two blocks of zeros there and fill up with more, any number; one block, or a piece of one, is enough
    here, for no member begins so. What follows other than zeros was a member once, or is a second archive joined to
    the first, which `tarfile` never comes to. A tar without zeros, which few programs write, looks as one that was cut
    behind a member; it is taken only within a gzip stream, whose length and checksum say that it is as it was written.
    """
    stream, read = tar.fileobj, 0
    if stream.tell() == tar.offset and not isinstance(stream, gzip.GzipFile):
        raise InputError(
            f"ends at byte {tar.offset} without the zeros that close a tar archive: it may be cut off; fetch it anew, "
            "or, if you know that it is whole, unpack it by hand"
        )
    while block := stream.read(BLOCK):
        read += len(block)
        if block.count(0) < len(block):
            raise InputError(
                f"goes on behind its end, the zeros at byte {tar.offset}: a damaged place, or a second archive joined "
                "to it; fetch it anew, or unpack it by hand (tar --ignore-zeros)"
            )
        if read > most:
            raise InputError(f"unfolds to more than {read >> 20} MB of zeros behind its end; do not trust it")
