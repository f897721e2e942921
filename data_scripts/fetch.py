"""Files fetched in pieces that survive an interruption, and known by their sha256 from then on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException
from pathlib import Path

from common import Download
from mpc_lite.errors import InputError, printable, shown

BLOCK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
# What tells a server's file from a later one of the same address: a strong ETag, else the time of its last change.
_VERSION = re.compile(r'"[!#-~]*"|[A-Z][a-z]{2}, [0-9A-Za-z: ]{10,40} GMT')


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
        _note(part).unlink(missing_ok=True)
    verified(target, what.sha256)
    return target


def _fetch(url: str, part: Path) -> None:
    """Complete the file `part`: ask for what is missing, provided that the server's file is still the same.

    That is told by what the server said of it at first (`_note`). Where it named no version, the fetch begins anew;
    where it goes on with another version or at another place, `part` is discarded: halves of two files are not joined.
    """
    have = part.stat().st_size if part.is_file() else 0
    version, length = _noted(part) if have else ("", "")
    headers = {"User-Agent": "mpc-lite data scripts"}
    headers |= {"Range": f"bytes={have}-", "If-Range": version} if version else {}
    again, other = "run the same command again to go on", False
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
            goes_on, rest = answer.status == 206, answer.headers["Content-Length"]
            total = int(rest) + have * goes_on if rest else None
            if goes_on:
                place = re.fullmatch(rf"bytes {have}-\d+/(\d+|\*)", answer.headers["Content-Range"] or "")
                other = not (place and _same(answer.headers, version, length, place[1]))
                total = int(place[1]) if place and place[1] != "*" else total
            if not other:
                with open(part, "ab" if goes_on else "wb") as file:
                    if not goes_on:
                        _note(part).write_text(f"{_version(answer.headers)}\n{rest or ''}\n")
                    while block := answer.read(BLOCK):
                        file.write(block)
                        progress(f"{part.stem}: {file.tell() >> 20} MB" + (f" of {total >> 20}" if total else ""))
                    size = file.tell()
    except urllib.error.HTTPError as error:
        if error.code != 416:
            reason = shown(error.reason)
            raise InputError(f"{url}: the server says {error.code} {reason}; fetch the file by hand") from None
        place = error.headers["Content-Range"] or ""
        if place == f"bytes */{have}" and _same(error.headers, version, length, str(have)):
            return  # everything was there already
        other = True
    except (OSError, HTTPException, ValueError) as error:  # ValueError: numbers and addresses that are none
        reason = shown(getattr(error, "reason", error), 200) or type(error).__name__
        raise InputError(f"{url}: {reason}; {again}") from None
    finally:
        progress("")
    if other:
        part.unlink(missing_ok=True)
        raise InputError(f"{url}: the file there is another now, {part.name} was discarded; {again}")
    if total is not None and size != total:
        raise InputError(f"{url}: the connection broke after {size} of {total} bytes; {again}")


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _noted(part: Path) -> tuple[str, str]:
    """What the server said of the file that `part` is the beginning of: version and length, each "" if unknown."""
    text = _note(part).read_text(errors="replace") if _note(part).is_file() else ""
    match = re.fullmatch(rf"({_VERSION.pattern})\n?(\d*)\n?", text)
    return (match[1], match[2]) if match else ("", "")


def _version(headers: Message) -> str:
    given = (headers["ETag"], headers["Last-Modified"])
    return next((text for text in given if text and _VERSION.fullmatch(text)), "")


def _same(headers: Message, version: str, length: str, total: str) -> bool:
    """Whether nothing in an answer contradicts what was noted: servers may ignore If-Range, and repeat not all."""
    now = headers["ETag" if version.startswith('"') else "Last-Modified"]
    return bool(version) and now in (None, version) and total in ("*", length or total)


def verified(archive: Path, sha256: str | None = None, record: bool = True) -> str:
    """The file's sha256, compared with the one recorded beside it, which is written at the first use if `record`.

    The record `NAME.sha256` has the format of `sha256sum`, or a set's owner's, in capitals, or the name first.
    InputError if they differ.
    """
    digest, lock = _sha256(archive), archive.with_name(archive.name + ".sha256")
    if sha256:
        _compare(archive, digest, sha256, "the set's script")
    # An empty one was written on a full disk.
    if text := lock.read_text(errors="replace").lower().strip() if lock.is_file() else "":
        _compare(archive, digest, (re.findall(r"\b[0-9a-f]{64}\b", text) or [text])[0], lock.name)
    elif record:
        write_sha256(archive, digest)
    return digest


def write_sha256(archive: Path, sha256: str) -> None:
    lock = archive.with_name(archive.name + ".sha256")
    if lock.is_symlink():  # to where no record is, else it would have been read
        return
    try:
        lock.write_bytes(f"{sha256}  ".encode() + os.fsencode(archive.name) + b"\n")
    except OSError:  # a read-only folder, a full disk: the provenance file records it all the same
        with contextlib.suppress(OSError):
            lock.unlink()


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


def progress(text: str) -> None:
    """One line on the terminal that is written over; nothing where no terminal is."""
    if sys.stderr and sys.stderr.isatty():  # None: it was closed before the start
        with contextlib.suppress(OSError):  # a terminal that was closed ends no work
            print(f"\r\033[K{printable(text)}", end="", file=sys.stderr, flush=True)
