"""Fetch what the built pages need in a browser, so that they ask no other host for anything.

    python book/tools/site/vendor.py

Each package comes from the npm registry at a pinned version, is compared with a pinned sha256, and gives only the files
that a page loads; they go to book/assets/vendor, which git ignores. Packages are kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tarfile
import urllib.request
from pathlib import Path, PurePosixPath

TARGET = Path(__file__).resolve().parents[2] / "assets" / "vendor"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mpc-lite-npm"
REGISTRY = "https://registry.npmjs.org"

# package, version, sha256, and the files or folders below package/ with the place each takes below book/assets/vendor
PACKAGES = [
    (
        "mathjax",
        "3.2.2",
        "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09",
        {
            "es5/tex-mml-chtml.js": "mathjax/tex-mml-chtml.js",
            "es5/output/chtml/fonts/woff-v2": "mathjax/output/chtml/fonts/woff-v2",
            "es5/input/tex/extensions": "mathjax/input/tex/extensions",
        },
    ),
    (
        "requirejs",
        "2.3.6",
        "1d1a8a5ea21b941f5c80f7caf3ac7f3e1cb8cf2903a706d5c0d15434eaedd326",
        {"require.js": "require.js"},
    ),
    (
        "@jupyter-widgets/html-manager",
        "1.0.6",
        "6c198ceb99ba7e7526990a1de16e8147ad7d3a714e3fb06741183623c04b5f6e",
        {"dist": "."},
    ),
    (
        "plotly.js-basic-dist-min",
        "4.1.1",
        "ea907f854b6cec4f6a2fa71540ec019a21ed2c61e6a109ddd5c072103a96eed0",
        {"plotly-basic.min.js": "plotly-basic.min.js"},
    ),
]
# The widget manager's script, the icon fonts that lie beside it, and what loads them; not its source maps.
UNUSED = (".map", "libembed-amd.js", "embed.js", ".LICENSE.txt", ".eot", ".svg")


def fetch(name: str, version: str, sha256: str, registry: str = REGISTRY, cache: Path = CACHE) -> bytes:
    """The package's archive, from the cache or the registry; RuntimeError unless its sha256 is the pinned one."""
    file = cache / f"{sha256}.tgz"
    if file.is_file() and hashlib.sha256(data := file.read_bytes()).hexdigest() == sha256:
        return data
    url = f"{registry}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
    with urllib.request.urlopen(url, timeout=120) as answer:
        data = answer.read()
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise RuntimeError(f"{url} has sha256 {digest}, expected {sha256}; nothing was unpacked")
    cache.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_bytes(data)
    part.replace(file)
    return data


def unpack(archive: bytes, places: dict[str, str], target: Path) -> int:
    """Write the wanted files of one archive below `target`; returns how many. Raises RuntimeError if one is missing."""
    written = dict.fromkeys(places, 0)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            inside = PurePosixPath(*path.parts[1:])  # without package/
            if not member.isfile() or ".." in path.parts or inside.name in UNUSED or inside.suffix in UNUSED:
                continue
            for wanted, place in places.items():
                if inside == PurePosixPath(wanted) or PurePosixPath(wanted) in inside.parents:
                    goal = target / place / inside.relative_to(wanted)
                    goal.parent.mkdir(parents=True, exist_ok=True)
                    goal.write_bytes(tar.extractfile(member).read())
                    written[wanted] += 1
    missing = [wanted for wanted, n in written.items() if n == 0]
    if missing:
        raise RuntimeError(f"the archive has no {', '.join(missing)}")
    return sum(written.values())


def main() -> int:
    stamp = "".join(f"{name}@{version} {sha256}\n" for name, version, sha256, _ in PACKAGES)
    stamp += hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    if (TARGET / "stamp").is_file() and (TARGET / "stamp").read_text() == stamp:
        return 0
    shutil.rmtree(TARGET, ignore_errors=True)
    for name, version, sha256, places in PACKAGES:
        n = unpack(fetch(name, version, sha256), places, TARGET)
        print(f"{name} {version}: {n} files")
    (TARGET / "stamp").write_text(stamp)
    return 0


if __name__ == "__main__":
    sys.exit(main())
