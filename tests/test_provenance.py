"""Results of the book that are there, and those that nobody has made yet."""

import io
import json
import urllib.error
from importlib import metadata

import pytest

from mpc_lite import provenance
from mpc_lite.errors import InputError

NONE = {"runs": []}


def test_a_result_that_is_not_made_yet_is_an_error_or_what_the_caller_says():
    assert provenance.book_result("lite", NONE)["sets"]
    assert provenance.book_result("nobody-made-this", NONE) is NONE
    with pytest.raises(InputError, match="no result 'nobody-made-this'"):
        provenance.book_result("nobody-made-this")


@pytest.mark.parametrize(("code", "found"), [(404, NONE), (500, None)])
def test_without_a_clone_only_a_missing_file_counts_as_not_made(code, found, tmp_path, monkeypatch):
    def answer(url, timeout):
        raise urllib.error.HTTPError(url, code, "", {}, io.BytesIO())

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "mpc_lite" / "provenance.py"))
    monkeypatch.setattr(provenance, "repository", lambda: "https://github.com/somebody/book")
    monkeypatch.setattr(provenance.urllib.request, "urlopen", answer)
    if found is None:
        with pytest.raises(InputError, match="run in a clone"):
            provenance.book_result("a", NONE)
    else:
        assert provenance.book_result("a", NONE) is found
    monkeypatch.setattr(
        provenance.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(json.dumps({"url": url}).encode())
    )
    assert provenance.book_result("a", NONE)["url"].endswith(f"/v{metadata.version('mpc-lite')}/book/results/a.json")
