"""Vendored scripts are the pinned ones or nothing; buttons appear with the repository's address and not before."""

import hashlib
import http.server
import io
import os
import re
import subprocess
import sys
import tarfile
import textwrap
import threading
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "book" / "tools" / "site"


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


def test_chapters_are_numbered_as_their_files_and_so_are_their_figures(tmp_path):
    """Sphinx alone would call the second chapter 2: the parts between are not written yet."""
    config = """
        extensions = ["sphinx_external_toc", "myst_parser", "sphinx.ext.autodoc", "mpc_book"]
        external_toc_path, use_multitoc_numbering = "_toc.yml", True
        numfig, numfig_secnum_depth, math_numfig = True, 1, True
        myst_enable_extensions = ["dollarmath"]
    """
    toc = """
        format: jb-book
        root: index
        parts:
          - {caption: one, numbered: 1, chapters: [file: 01-first]}
          - {caption: two, numbered: 1, chapters: [file: 12-second]}
          - {caption: end, chapters: [file: glossary]}
    """
    math = "$$ x $$ (eq-{0})\n\n```{{math}}\n:label: m-{0}\nx\n```"
    chapter = "(at-{0})=\n# Title {0}\n\n" + math + "\n\n## Inside\n\nSee {{numref}}`at-{0}`.\n"
    files = {
        "conf.py": textwrap.dedent(config),
        "_toc.yml": textwrap.dedent(toc),
        "index.md": "# Book\n\nSee {ref}`at-b` and {eq}`eq-b`.\n",
        "01-first.md": chapter.format("a"),
        "12-second.md": chapter.format("b"),
        "glossary.md": "# Words\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(build, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(TOOLS)})
    assert done.returncode == 0, done.stderr
    pages = [(tmp_path / "out" / name).read_text() for name in ("12-second.html", "index.html")]
    second, index = (re.sub(r"<[^>]+>", "", page) for page in pages)
    assert all(text in second for text in ("12. Title b", "(12.1)", "(12.2)", "Section 12"))
    assert all(text in index for text in ("1. Title a", "12. Title b", "(12.1)"))
    assert not re.search(r"(?<!\d)2\. Title", second + index)
