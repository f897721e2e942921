"""Results of the book that are there, and those that nobody has made yet."""

import io
import json
import urllib.error
from importlib import metadata
from pathlib import Path

import pytest

from mpc_lite import provenance
from mpc_lite.errors import InputError
from mpc_lite.provenance import read_json

NONE = {"runs": []}
RESULTS = Path(__file__).parents[1] / "book" / "results"


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_a_result_has_its_script_beside_it_or_names_the_command_that_made_it(file):
    result = json.loads(file.read_text(encoding="utf-8"))
    commands = [result["command"]] if "command" in result else result.get("commands", [])
    assert file.with_suffix(".py").is_file() or commands
    for script in (word for command in commands for word in command.split() if word.endswith(".py")):
        assert (RESULTS.parents[1] / script).is_file(), script


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


@pytest.mark.trust
@pytest.mark.parametrize("begin, end", [("[", "]"), ('{"a": ', "}"), ('{"b": [1, {}], "a": ', ', "c": 2}')])
def test_what_is_nested_too_deep_to_be_walked_through_is_refused(begin, end):
    for times in (0, 1, 10, 99):
        text = begin * times + "0" + end * times
        assert read_json(text) == read_json(text.encode()) == json.loads(text)
    for times in (101, 400, 100_000):  # the last one is deeper than json itself goes
        with pytest.raises(ValueError, match="nested more than 100 deep"):
            read_json(begin * times + "0" + end * times)


@pytest.mark.trust
def test_what_is_no_json_is_a_value_error_and_options_are_those_of_json():
    for text in ("", "[", "[1, 2", b"\xff", '{"a": 1'):
        with pytest.raises(ValueError):
            read_json(text)
    assert read_json("[1, 2.5]", parse_int=str, parse_float=str) == ["1", "2.5"]
