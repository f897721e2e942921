"""Where a number comes from: versions, commit, device, and the record that every results file carries, told without a
machine's folders; and what others wrote of theirs, in JSON. Of a picture: the seal on what predict and evaluate wrote,
which nobody takes for a photograph."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
import urllib.error
import urllib.request
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

from mpc_lite.errors import InputError
from mpc_lite.files import open_file

PACKAGES = ("mpc-lite", "torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "scikit-image")
_HEAD = 33  # bytes of a PNG file before its second chunk
_DEEPEST = 100  # lists and tables of JSON inside one another; ours have ten
_SEAL = b"mpc-lite\0predict, sha256 of the rest: "  # key and text of the chunk


def repository() -> str | None:
    """The public address of the repository, from the package's metadata; None while it is not known."""
    urls = dict(entry.split(", ", 1) for entry in metadata.metadata("mpc-lite").get_all("Project-URL") or [])
    return urls.get("Repository")


def book_result(name: str, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """A committed result of the book, book/results/NAME.json: from the clone, or fetched where only the package is.

    missing: returned in place of a result that nobody has made yet; without it that is an error.

    Raises:
        InputError: the result is not in the clone, or there is no clone and the repository cannot be reached.
    """
    folder = Path(__file__).resolve().parents[1] / "book" / "results"
    if folder.is_dir():
        if not (folder / f"{name}.json").is_file():
            if missing is not None:
                return missing
            known = ", ".join(sorted(p.stem for p in folder.glob("*.json")))
            raise InputError(f"no result '{name}' in book/results; there are {known}")
        return json.loads((folder / f"{name}.json").read_text())
    address = repository()
    if address is None:
        raise InputError(
            f"the result '{name}' lies in the repository's book/results, and this installed package does not know "
            "its repository; run in a clone, installed with pip install -e ."
        )
    raw = address.rstrip("/").replace("https://github.com/", "https://raw.githubusercontent.com/")
    url = f"{raw}/v{metadata.version('mpc-lite')}/book/results/{name}.json"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        if missing is not None and isinstance(error, urllib.error.HTTPError) and error.code == 404:
            return missing
        hint = f"run in a clone of {address} instead, installed with pip install -e ."
        raise InputError(f"{url}: {error}; {hint}") from error


def record(**facts: Any) -> dict[str, Any]:
    """How a result came about, for the file that holds it: the facts given, then `versions` and `commit`.

    facts: what only the caller knows, in the order in which they shall stand: command, profile, seed, device, ….
    """
    return {**facts, "versions": versions(), "commit": commit()}


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def commit() -> str | None:
    """The commit of the clone that the package runs from, with `-dirty` after it where files were changed since."""
    root = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        call = ["git", "-C", str(root), *words]
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "mpc_lite/__init__.py")  # an installed package may lie in another's clone
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def sealed(png: bytes) -> bytes:
    """A PNG file with a line of text more: that mpc_lite wrote it, and what the sha256 of all else in it is."""
    text = _SEAL + hashlib.sha256(png).hexdigest().encode()
    chunk = len(text).to_bytes(4, "big") + b"tEXt" + text
    return png[:_HEAD] + chunk + zlib.crc32(chunk[4:]).to_bytes(4, "big") + png[_HEAD:]


def predict_wrote(path: Path) -> bool:
    """Did predict write this picture, or evaluate this map, and has nobody changed it since?"""
    length = 12 + len(_SEAL) + 64
    try:
        with open_file(path) as file:
            data = file.read(_HEAD + length)
            if _SEAL not in data:
                return False
            data += file.read()
    except (OSError, ValueError):  # ValueError: what no system takes as a path
        return False
    return data == sealed(data[:_HEAD] + data[_HEAD + length :])


def read_json(text: str | bytes, **options: Any) -> Any:
    """The value of a text, by `json.loads` with its options.

    ValueError for any other text, and for lists and tables nested too deep: whatever compares them, shows them or
    writes them again goes into each from the one around it, until Python ends that with an error of its own.
    """
    try:
        value = json.loads(text, **options)
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} deep") from None
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [inner for each in level for inner in each]
        if not level:
            return value
    raise ValueError(f"nested more than {_DEEPEST} deep")


def without_paths(value: Any) -> Any:
    """Absolute paths, alone or inside texts, become the names of their files: results travel to other machines."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    if (value.startswith("~") or Path(value).is_absolute()) and ": " not in value and "\n" not in value:
        return Path(value).name
    quoted = re.sub(r"(['\"])(?:~?/)[^'\"]*?([^/'\"]+)\1", r"\1\2\1", value)
    return re.sub(r"(?<![\w.:/$}~])~?/(?:[^\s/'\":;,()]+/)*([^\s/'\":;,()]+)", r"\1", quoted)
