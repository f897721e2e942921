"""Vendored scripts are the pinned ones or nothing; buttons appear with the repository's address and not before."""

import hashlib
import http.server
import io
import re
import sys
import tarfile
import threading
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "book" / "tools"


sys.path.insert(0, str(TOOLS))

import mpc_book as extension  # noqa: E402
import vendor  # noqa: E402


def archive(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def registry():
    files = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path in files else 404)
            self.end_headers()
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()


def test_the_pinned_archive_is_fetched_once_and_only_what_is_wanted_unpacked(registry, tmp_path):
    address, files = registry
    data = archive({"dist/a.js": b"a", "dist/a.js.map": b"m", "README.md": b"r", "dist/../../evil": b"e"})
    files["/@scope/name/-/name-1.0.0.tgz"] = data
    sha = hashlib.sha256(data).hexdigest()
    assert vendor.fetch("@scope/name", "1.0.0", sha, address, tmp_path / "cache") == data
    files.clear()  # the second time comes from the cache
    assert vendor.fetch("@scope/name", "1.0.0", sha, address, tmp_path / "cache") == data
    assert vendor.unpack(data, {"dist": "."}, tmp_path / "out") == 1
    assert [p.name for p in tmp_path.rglob("out/**/*") if p.is_file()] == ["a.js"]
    with pytest.raises(RuntimeError, match="the archive has no missing"):
        vendor.unpack(data, {"missing.js": "x"}, tmp_path / "out")


def test_another_file_than_the_pinned_one_is_refused(registry, tmp_path):
    address, files = registry
    files["/name/-/name-1.0.0.tgz"] = archive({"a.js": b"changed"})
    with pytest.raises(RuntimeError, match=r"has sha256 .* expected 0000"):
        vendor.fetch("name", "1.0.0", "0000", address, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_version_and_hash_is_pinned():
    for name, version, sha256, places in vendor.PACKAGES:
        assert re.fullmatch(r"\d+\.\d+\.\d+", version) and re.fullmatch(r"[0-9a-f]{64}", sha256) and places, name


@pytest.mark.parametrize(
    "urls", [{}, {"urls": {"Homepage": "https://h"}}, {"urls": {"Repository": "https://github.com/a/b"}}]
)
def test_buttons_only_with_an_address(monkeypatch, urls):
    class Config:
        html_theme_options = {}  # noqa: RUF012

    address = urls.get("urls", {}).get("Repository")
    monkeypatch.setattr(extension, "project", lambda: {"version": "1.2", **urls})
    extension.add_buttons(None, config := Config())
    assert config.html_theme_options.get("repository_url") == address
    assert ("launch_buttons" in config.html_theme_options) == (address is not None)
    assert config.html_theme_options.get("repository_branch") == (address and "v1.2")


def test_docstrings_say_in_the_reference_what_they_say_in_the_file():
    lines = ["Mean of `x` over *all* pixels of x_.", "Second line.", "", "Args:", "    x: (B,D) | value", ""]
    extension.as_text(None, "function", "f", None, None, lines)
    assert lines[:3] == ["Mean of ``x`` over \\*all\\* pixels of x\\_.", "Second line.", ""]
    assert lines[3] == ".. code-block:: text" and "       x: (B,D) | value" in lines
