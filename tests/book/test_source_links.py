"""A file that a page names leads to the file: results always, the rest where the repository has an address."""

import sys

import pytest

from tests.book.site_under_test import ROOT

sys.path.insert(0, str(ROOT / "book" / "tools" / "site"))

import sources

PAGE = "book/part3-evidence/09-embedding"
AT = {"version": "1.2", "urls": {"Repository": "https://example.org/a"}}


def code(name):
    return f'<code class="docutils literal notranslate"><span class="pre">{name}</span></code>'


def test_results_are_beside_the_pages_whether_or_not_the_repository_has_an_address():
    for facts in ({"version": "1.2"}, AT):
        for name in ("geometry.json", "geometry.py"):
            body = f"<p>made by {code(f'book/results/{name}')}.</p>"
            expected = f'<a class="source" href="../results/{name}" download>'
            assert f"{expected}{code(f'book/results/{name}')}</a>" in sources.with_sources(body, PAGE, ROOT, facts)


def test_other_files_are_linked_where_the_repository_is_known():
    body = f"<p>{code('tests/contrast/test_loss.py')}</p>"
    assert sources.with_sources(body, PAGE, ROOT, {"version": "1.2"}) == body
    address = "https://example.org/a/blob/v1.2/tests/contrast/test_loss.py"
    assert f'href="{address}"' in sources.with_sources(body, PAGE, ROOT, AT)


@pytest.mark.parametrize("body", [code("book/results/none.json"), code("../etc/hosts"), code("a/b")])
def test_what_is_not_there_is_no_link(body):
    assert sources.with_sources(body, PAGE, ROOT, AT) == body


def test_a_link_stays_one_link():
    body = f'<a href="x">{code("book/results/cost.json")}</a>'
    assert sources.with_sources(body, PAGE, ROOT, AT) == body


def test_the_copies_are_the_files(tmp_path):
    written = sources.copy_results(ROOT, tmp_path)
    assert tmp_path / "book/results/geometry.json" in written and tmp_path / "book/results/geometry.py" in written
    assert all(path.read_bytes() == (ROOT / path.relative_to(tmp_path)).read_bytes() for path in written)
