"""Vendored scripts are the pinned ones or nothing; buttons appear with the repository's address and not before; each
chapter leads to its notebook, and code fits the page."""

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

from mpc_lite.figures.style import WIDTH

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "book" / "tools" / "site"


sys.path.insert(0, str(TOOLS))

import code_lines  # noqa: E402
import mpc_book as extension  # noqa: E402
import notebook_links  # noqa: E402
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
    Config.html_title = "Book"
    extension.add_buttons(None, config := Config())
    assert config.html_theme_options.get("repository_url") == address
    assert ("launch_buttons" in config.html_theme_options) == (address is not None)
    assert config.html_theme_options.get("repository_branch") == (address and "v1.2")
    assert config.html_theme_options["navbar_persistent"] == []  # one search box
    logo = config.html_theme_options["logo"]
    assert logo["text"] == "Book" and all((ROOT / logo[f"image_{theme}"]).is_file() for theme in ("light", "dark"))


def test_docstrings_say_in_the_reference_what_they_say_in_the_file():
    lines = ["Mean of `x` over *all* pixels of x_.", "Second line.", "", "Args:", "    x: (B,D) | value", ""]
    extension.as_text(None, "function", "f", None, None, lines)
    assert lines[:3] == ["Mean of ``x`` over \\*all\\* pixels of x\\_.", "Second line.", ""]
    assert lines[3] == ".. code-block:: text" and "       x: (B,D) | value" in lines
    lines = ["Short.", "", "More of `it`,", "as prose.", "", "a  table", "", "And on."]
    extension.as_text(None, "function", "f", None, None, lines)
    code = [".. code-block:: text", "", "   a  table", ""]
    assert lines == ["Short.", "", "More of ``it``,", "as prose.", "", *code, "And on.", ""]


def test_settings_of_pydantic_are_not_in_the_reference():
    assert extension.skip_settings(None, "class", "model_config", {}, False, None) is True
    assert extension.skip_settings(None, "class", "batch", 4, False, None) is None


@pytest.mark.slow
def test_chapters_are_numbered_as_their_files_and_so_are_their_figures(tmp_path):
    """Sphinx alone would call the second chapter 2: the parts between are not written yet."""
    config = """
        extensions = ["sphinx_external_toc", "myst_parser", "sphinx.ext.autodoc", "mpc_book"]
        external_toc_path, use_multitoc_numbering, html_theme = "_toc.yml", True, "sphinx_book_theme"
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
    chapter = "(at-{0})=\n# Title {0}\n\n" + math + "\n\n## Inside\n\nSee {{numref}}`at-{0}`.\n\n```python\nx\n```\n"
    files = {
        "conf.py": textwrap.dedent(config),
        "_toc.yml": textwrap.dedent(toc),
        "01-first.ipynb": "{}",  # the second chapter has no twin
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
    first = (tmp_path / "out" / "01-first.html").read_text()
    assert '<a href="01-first.ipynb" download>download</a>' in first and "notebook-links" not in pages[0] + pages[1]
    assert [p.name for p in (tmp_path / "out").rglob("*.ipynb")] == ["01-first.ipynb"]
    assert first.count('class="code-line"') == 1


# ---------------------------------------------------------------------------------------------------- notebooks, code

PAGE = "book/part1-problem/01-traces"


def project(repository=None):
    return {"version": "1.2", "urls": {"Repository": repository} if repository else {}}


def test_a_chapter_offers_its_notebook_and_no_more_while_there_is_no_address():
    assert notebook_links.addresses(PAGE, project()) == [("download", "01-traces.ipynb")]
    page = notebook_links.with_links("<h1>Traces</h1><p>Text</p><h1>x</h1>", PAGE, project())
    assert page.startswith('<h1>Traces</h1>\n<p class="notebook-links">') and page.endswith("<p>Text</p><h1>x</h1>")
    assert page.count("<a ") == 1 and "colab" not in page.lower() and "http" not in page


def test_a_chapter_leads_to_colab_and_github_where_the_address_is_known():
    ways = dict(notebook_links.addresses(PAGE, project("https://github.com/a/b.git")))
    file = f"blob/v1.2/{PAGE}.ipynb"
    assert list(ways) == ["download", "open in Colab", "see it on GitHub"]
    assert ways["open in Colab"] == f"https://colab.research.google.com/github/a/b/{file}"
    assert ways["see it on GitHub"] == f"https://github.com/a/b/{file}"
    page = notebook_links.with_links("<h1>Traces</h1>", PAGE, project("https://github.com/a/b"))
    assert page.count("<a ") == 3 and page.count(" download>") == 1
    elsewhere = notebook_links.addresses(PAGE, project("https://codeberg.org/a/b"))  # Colab opens GitHub's only
    assert [words for words, _ in elsewhere] == ["download", "see it in the repository"]


def test_only_chapters_with_a_twin_have_a_notebook(tmp_path):
    for page in (PAGE, "book/glossary"):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{page}.ipynb").write_text("{}")
    pages = [PAGE, "book/glossary", "book/part1-problem/02-measuring"]
    copied = notebook_links.copy_notebooks(pages, tmp_path, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in copied] == [f"{PAGE}.ipynb"]
    assert copied[0].read_text() == "{}"


def test_long_lines_of_code_hang_and_no_character_is_added():
    number = '<span class="linenos"> 12</span>'
    code = (
        f'<span></span>{number}<span class="k">def</span> f(x):\n{number}    <span class="k">return</span> x &lt; 1\n\n'
    )
    block = f'<div class="highlight-python notranslate"><div class="highlight"><pre>{code}</pre></div></div>'
    printed = (
        '<div class="output stream highlight-myst-ansi notranslate"><div class="highlight"><pre>a\n</pre></div></div>'
    )
    done = code_lines.hanging(block + printed)
    assert re.sub(r"<[^>]+>", "", done) == re.sub(r"<[^>]+>", "", block + printed)
    assert re.findall(r'"(code-line[^"]*)" style="--hang:(\d+)"', done) == [
        ("code-line numbered", "7"),  # 3 columns of number, none of indent
        ("code-line numbered", "11"),
        ("code-line", "4"),
    ]
    assert done.endswith(printed)  # what a cell prints keeps its columns
    marked = block.replace(number, '<span class="hll">')
    assert code_lines.hanging(marked) == marked
    far = f'<div class="highlight-text notranslate"><div class="highlight"><pre>{" " * 60}x\n</pre>'
    assert '--hang:24"' in code_lines.hanging(far)  # a phone's box is 40 columns wide


def test_still_and_moving_figures_have_one_text_size():
    """Still ones are drawn WIDTH inches wide with 9-point text; book.css says how wide they stand on the page."""
    css, script = ((ROOT / "book/assets" / name).read_text() for name in ("book.css", "figures.js"))
    (rem,) = re.findall(r"\.cell_output img \{\s*max-width: min\(100%, (\d+)rem\)", css)
    (size,) = re.findall(r"const SIZE = (\d+);", script)
    assert 9 / 72 / WIDTH * int(rem) * 16 == pytest.approx(int(size), abs=0.5)
